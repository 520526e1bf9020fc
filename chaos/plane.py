"""Faults of what nobody trains on: API server, etcd, operators, and records deleted by hand. None costs a primary."""

import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from understudy_contract.names import rank_lease_name, slot_lease_name

from chaos.draw import Draw, between, pick
from chaos.strike import Kind, Strike, Thing, timed
from chaos.ward import LEASE_S, SHAPES, Ward
from testbed import TestbedError, operator
from testbed.kube import JOBS, LEASES, PODS, wall
from testbed.slow_api import slow_api

ROLLED_OUT_WITHIN_S: Final = 180
CALL_S: Final = 2.0
"""What operators and agents are made to bear: slower, and a leader gives up."""


def outage(
    what: str, cause: Callable[[Ward], AbstractContextManager[object]], most_s: float, least_s: float = 0.1
) -> Callable[[Ward, Draw], Strike]:
    """Aim at something that is away, or slow, for the length of a block."""

    def aim(ward: Ward, draw: Draw) -> Strike:
        stack = ExitStack()
        lasts_s = between(draw.amount, least_s, most_s)
        fire = timed(lambda: stack.enter_context(cause(ward)))
        return Strike(f"{what} for {lasts_s:.1f} s", fire, undo=stack.close, lasts_s=lasts_s, deafens=True)

    return aim


def slow(ward: Ward, draw: Draw) -> Strike:
    """Let each call of a pod to the API server take longer: renewals come late, all of them, and nobody is lost."""
    what = f"the API server takes {CALL_S:g} s for each call"
    aim = outage(what, lambda ward: slow_api(ward.testbed, CALL_S), most_s=20, least_s=10)
    return replace(aim(ward, draw), slows=True)


def restore(ward: Ward, draw: Draw) -> Strike:
    """Go back to a backup of etcd of a moment ago: every record is a little older than what everybody has read.

    Of a backup from before a failover nobody could say which of the later ones the status may forget.
    """

    def fire() -> float:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "etcd"
            ward.cluster.backup(file)
            at = wall()
            ward.cluster.restore(file)
        return at

    return Strike("etcd is restored from a backup of a moment ago", fire, deafens=True)


def kill_leader(ward: Ward, draw: Draw) -> Strike:
    """SIGKILL the operator that leads, which releases nothing; then its pod goes, to be spared a kubelet's back-off."""
    name = operator.pod(ward.kube)[0]
    found = ward.cluster.processes(operator.NAMESPACE, name)
    if not found:
        raise TestbedError(f"the operator {name} has just ended")
    fire = timed(lambda: ward.cluster.send_signal(found[0], signal.SIGKILL))
    return Strike(f"SIGKILL of the operator that leads, {name}", fire, undo=lambda: _end(ward, [name]))


def end_operators(ward: Ward, draw: Draw) -> Strike:
    """Delete all operators at once, without a grace period."""
    names = [pod["metadata"]["name"] for pod in operator.pods(ward.kube)]
    return Strike(f"all {len(names)} operators deleted at once", timed(lambda: _end(ward, names)))


def _end(ward: Ward, names: list[str]) -> None:
    for name in names:
        ward.kube.delete(f"{PODS.format(operator.NAMESPACE)}/{name}", gracePeriodSeconds=0)


def roll_out(ward: Ward, draw: Draw) -> Strike:
    """Roll the operators over, as an upgrade does."""
    words = [*ward.testbed.kubectl(f"--namespace={operator.NAMESPACE}", "rollout")]
    what = "deployment/understudy-operator"

    def send() -> None:
        subprocess.run([*words, "restart", what], check=True, capture_output=True)

    def undo() -> None:
        command = [*words, "status", what, f"--timeout={ROLLED_OUT_WITHIN_S}s"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise TestbedError(f"the operators were not rolled over in {ROLLED_OUT_WITHIN_S} s: {done.stderr.strip()}")

    return Strike("the operators are rolled over", timed(send), undo=undo, waits=True)


def delete_rank_lease(ward: Ward, draw: Draw) -> Strike:
    """Delete the Lease that is the authority on a rank."""
    target = ward.target(draw.where)
    strike = _delete_lease(ward, rank_lease_name(target.job, target.rank), f"the Lease of {target}")
    return replace(strike, blurs=frozenset({target}))


def delete_slot_lease(ward: Ward, draw: Draw) -> Strike:
    """Delete the heartbeat of a redundant pod."""
    target = ward.target(draw.where)
    slot = pick(draw.amount, SHAPES[target.job][2])
    return _delete_lease(ward, slot_lease_name(target.job, target.rank, slot), f"the Lease of slot {slot} of {target}")


def _delete_lease(ward: Ward, name: str, what: str) -> Strike:
    path = f"{LEASES.format(ward.testbed.namespace)}/{name}"
    return Strike(f"{what} deleted by hand", timed(lambda: ward.kube.delete(path)))


def delete_status(ward: Ward, draw: Draw) -> Strike:
    """Delete a job's whole status."""
    job = ward.target(draw.where).job
    path = f"{JOBS.format(ward.testbed.namespace)}/{job}/status"
    return Strike(f"the status of {job} deleted by hand", timed(lambda: ward.kube.patch(path, {"status": None})))


PLANE, OPERATOR, RECORD = (frozenset({thing}) for thing in (Thing.CONTROL_PLANE, Thing.OPERATOR, Thing.RECORD))
KINDS: Final = (
    Kind(
        "api-outage",
        "API server unreachable",
        outage("the API server is unreachable", lambda ward: ward.cluster.api_outage(), 3 * LEASE_S),
        PLANE,
    ),
    Kind(
        "api-server-killed",
        "API server killed",
        outage("the API server is killed", lambda ward: ward.cluster.killed("kube-apiserver"), 2 * LEASE_S),
        PLANE,
    ),
    Kind(
        "etcd-killed",
        "etcd killed",
        outage("etcd is killed", lambda ward: ward.cluster.killed("etcd"), 2 * LEASE_S),
        PLANE,
    ),
    Kind("etcd-restored", "etcd restored from a backup", restore, PLANE, alone=True),
    Kind("slow-api", "API server slow", slow, PLANE | {Thing.NODE}),  # it puts rules into the nodes' networks
    Kind("operator-killed", "the operator that leads killed", kill_leader, OPERATOR, asks=True, ends_operators=True),
    Kind("operators-gone", "all operators deleted at once", end_operators, OPERATOR, asks=True, ends_operators=True),
    Kind("operators-rolled", "operators rolled over", roll_out, OPERATOR, asks=True, ends_operators=True),
    Kind("lease-deleted", "a rank's Lease deleted by hand", delete_rank_lease, RECORD, asks=True),
    Kind("slot-lease-deleted", "a slot's Lease deleted by hand", delete_slot_lease, RECORD, asks=True),
    Kind("status-deleted", "the status deleted by hand", delete_status, RECORD, asks=True),
)
