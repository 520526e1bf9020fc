"""Faults of pods and of the processes in them: one primary, one redundant pod, a whole rank, several ranks at once."""

import signal
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from kubernetes.client.exceptions import ApiException
from understudy_contract.names import Annotation
from understudy_contract.reports import Cause

from chaos.draw import Draw, between, pick
from chaos.nodes import names
from chaos.strike import Causes, Kind, Strike, timed
from chaos.target import Target
from chaos.ward import LEASE_S, TARGETS, Ward
from testbed import TestbedError, faults
from testbed.faults import Fault, Trigger
from testbed.kube import JOBS, PODS
from testbed.pods import Pod

RANK_VARIANTS: Final = (faults.DELETE, faults.FORCE_DELETE, faults.KILL_TRAINER, faults.KILL_AGENT)
"""Ways to lose one pod."""


def causes(fault: Fault) -> Causes:
    """Return what the status may call a fault."""
    return frozenset({fault.cause})


def primary(fault: Fault) -> Callable[[Ward, Draw], Strike]:
    """Lose one primary."""

    def aim(ward: Ward, draw: Draw) -> Strike:
        target = ward.target(draw.where)
        pod = ward.primary(target)
        return Strike(
            what=f"{fault.title}: {pod.name}, primary of {target}",
            fire=fault.aim(ward.testbed, pod),
            must={target: causes(fault)},
            lossless=fault.lossless,
            runs_on=fault.runs_on,
        )

    return aim


def pause_agent(ward: Ward, draw: Draw) -> Strike:
    """Stop an agent for longer than its lease: its trainer goes on, and must find out by the volume."""
    target = ward.target(draw.where)
    pod = ward.primary(target)
    agent = faults.agent_and_trainer(ward.testbed, pod)[0]
    return Strike(
        what=f"SIGSTOP of the agent: {pod.name}, primary of {target}",
        fire=timed(lambda: ward.cluster.send_signal(agent, signal.SIGSTOP)),
        must={target: frozenset({Cause.LEASE_EXPIRED})},
        undo=lambda: ward.cluster.send_signal(agent, signal.SIGCONT),
        lasts_s=between(draw.amount, LEASE_S + 4, 2 * LEASE_S + 4),
        runs_on=True,
    )


def evict(ward: Ward, draw: Draw) -> Strike:
    """Evict a primary through the API, as a drain or an autoscaler does."""
    target = ward.target(draw.where)
    pod = ward.primary(target)
    meta = {"name": pod.name, "namespace": ward.testbed.namespace}

    def send() -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
        try:
            ward.kube.create(f"{PODS.format(ward.testbed.namespace)}/{pod.name}/eviction", body)
        except ApiException as error:
            if error.status == HTTPStatus.TOO_MANY_REQUESTS:
                raise TestbedError(f"the budget of {target} lets nobody evict {pod.name} now") from None
            raise

    must = {target: frozenset({Cause.EVICTED_BY_API, Cause.POD_DELETED, Cause.TERMINATED})}
    return Strike(f"eviction: {pod.name}, primary of {target}", timed(send), must=must, lossless=True)


def switch_over(ward: Ward, draw: Draw) -> Strike:
    """Ask for a switchover by annotation."""
    target = ward.target(draw.where)
    ward.primary(target)
    path = f"{JOBS.format(ward.testbed.namespace)}/{target.job}"
    asked = {"metadata": {"annotations": {Annotation.SWITCHOVER: str(target.rank)}}}
    fire = timed(lambda: ward.kube.patch(path, asked))
    must = {target: frozenset({Cause.SWITCHOVER})}
    return Strike(f"switchover by annotation: {target}", fire, must=must, lossless=True)


def redundant(ward: Ward, draw: Draw) -> Strike:
    """Lose a redundant pod; its primary must notice nothing."""
    target = ward.target(draw.where)
    warm = ward.world.rank(target.job, target.rank).redundant
    if not warm:
        raise TestbedError(f"{target} has no redundant pod that is warm")
    fault = RANK_VARIANTS[pick(draw.amount, len(RANK_VARIANTS))]
    return Strike(f"{fault.title}: {warm[0].name}, redundant of {target}", fault.aim(ward.testbed, warm[0]))


def whole_rank(ward: Ward, draw: Draw) -> Strike:
    """Lose a primary and all its redundant pods at once: a cold start."""
    return lose_rank(ward, ward.target(draw.where), RANK_VARIANTS[pick(draw.amount, len(RANK_VARIANTS))])


def lose_rank(ward: Ward, target: Target, fault: Fault) -> Strike:
    """Aim at all pods of a rank that has a primary."""
    pods = ward.pods(target)
    ward.primary(target)
    # A redundant pod may be promoted before its own loss is known, and is then lost as a primary: one that has released
    # its slot, and nothing since, by the end of its container.
    return Strike(
        what=f"{fault.title}: all {len(pods)} pods of {target}",
        fire=together(ward, fault, pods),
        must={target: causes(fault)},
        may={target: causes(fault) | {Cause.LEASE_EXPIRED, Cause.CONTAINER_EXITED}},
        takes=names(pods),
        runs_on=fault.runs_on,
    )


def many_ranks(ward: Ward, draw: Draw) -> Strike:
    """Lose several primaries at once: both of a job, or those of all jobs."""
    hit = [Target("pair", 0), Target("pair", 1)]
    if pick(draw.where, 2):
        hit = list(TARGETS)
    fault = RANK_VARIANTS[pick(draw.amount, len(RANK_VARIANTS))]
    return Strike(
        what=f"{fault.title}: the primaries of {', '.join(map(str, hit))}",
        fire=together(ward, fault, [ward.primary(target) for target in hit]),
        must=dict.fromkeys(hit, causes(fault)),
        lossless=fault.lossless,
        runs_on=fault.runs_on,
    )


def together(ward: Ward, fault: Fault, pods: list[Pod]) -> Trigger:
    """Do the same to several pods, one right after the other."""
    triggers = [fault.aim(ward.testbed, pod) for pod in pods]
    return lambda: min([trigger() for trigger in triggers])


KINDS: Final = (
    Kind("delete", "DELETE of a primary", primary(faults.DELETE), asks=True),
    Kind("force-delete", "DELETE, grace period 0", primary(faults.FORCE_DELETE), asks=True),
    Kind("evict", "eviction of a primary", evict, asks=True),
    Kind("switchover", "switchover by annotation", switch_over, asks=True),
    Kind("kill-trainer", "SIGKILL of the trainer", primary(faults.KILL_TRAINER)),
    Kind("kill-agent", "SIGKILL of the agent", primary(faults.KILL_AGENT)),
    Kind("freeze-trainer", "SIGSTOP of the trainer", primary(faults.FREEZE_TRAINER)),
    Kind("pause-agent", "SIGSTOP of the agent for a while", pause_agent),
    Kind("redundant", "a redundant pod lost", redundant, asks=True),
    Kind("whole-rank", "primary and redundant pods lost at once", whole_rank, asks=True),
    Kind("many-ranks", "primaries of several ranks lost at once", many_ranks, asks=True),
)
