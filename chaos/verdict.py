"""What must be true when the faults are over; each check returns a sentence for whatever is not.

The jobs are told to end, and are compared with twins of the same image that nobody disturbs. What is then left of the
jobs is looked at twice: while they are there, and after their deletion.
"""

from collections.abc import Callable
from typing import Any, Final

from kubernetes.client.exceptions import ApiException
from understudy_contract.names import rank_lease_name, slot_lease_name
from understudy_contract.status import RankStatus

from chaos import volume_audit
from chaos.outcome import lost_without_fault
from chaos.run import Run
from chaos.target import Target
from chaos.volume_audit import newest_step
from chaos.ward import SHAPES, TARGETS, Ward
from localcluster import ClusterError
from localcluster.shell import wait_until
from testbed import TestbedError
from testbed.kube import EVENTS, parse_time

ENDS_WITHIN_S: Final = 300
CALM_WITHIN_S: Final = 1800
GONE_WITHIN_S: Final = 120
ENDED_PODS: Final = 3
"""Of a rank: the one that completed it, and the last two that ended, kept for their logs."""
EVENTS_PER_MINUTE_MAX: Final = 60
"""Of the operator, for four jobs, in the worst minute."""
COMPONENT: Final = "understudy-operator"
CHILDREN: Final = {
    "pods": "/api/v1",
    "services": "/api/v1",
    "serviceaccounts": "/api/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
}
"""Kinds of which a job has children, and the API of each."""
GIVEN: Final = {"serviceaccounts": {"default"}}
"""What a namespace without jobs has of these."""


def every_job_succeeded(run: Run) -> list[str]:
    """Tell all jobs to end, and wait until they have."""
    ward = run.ward
    for name in SHAPES:
        ward.finish(name)
    wrong = []
    for name in SHAPES:
        wrong += _succeeds(ward, name, ENDS_WITHIN_S)
    return wrong


def _succeeds(ward: Ward, name: str, timeout_s: float) -> list[str]:
    def phase() -> str:
        return str(ward.testbed.status(name).phase)

    try:
        ward.testbed.wait_until(
            lambda: phase() in ("Succeeded", "Failed"), timeout_s=timeout_s, what=f"the end of job {name}"
        )
    except TestbedError as error:
        return [f"{error}; {ward.world.describe(name)}{ward.testbed.recent_events(name)}"]
    return [] if phase() == "Succeeded" else [f"job {name} is {phase()}: {ward.testbed.recent_events(name)}"]


def results_are_those_of_undisturbed_runs(run: Run) -> list[str]:
    """Run a twin of each job without redundancy, faults and pace, for as many steps; compare the states' bytes."""
    ward, wrong = run.ward, []
    for name in SHAPES:
        steps = newest_step(ward.rank_folder(Target(name, 0)))
        ward.start(f"calm-{name}", name, redundancy=0, steps=steps, save_every=1000)
    for name in SHAPES:
        wrong += _succeeds(ward, f"calm-{name}", CALM_WITHIN_S)
    for target in TARGETS:
        calm = Target(f"calm-{target.job}", target.rank)
        one, other = (_newest_state(ward, of) for of in (target, calm))
        if one is None or one != other:
            wrong.append(f"the final state of {target} is not that of an undisturbed run of as many steps")
    return wrong


def _newest_state(ward: Ward, target: Target) -> tuple[int, bytes] | None:
    folder = ward.rank_folder(target)
    step = newest_step(folder)
    for term in volume_audit.counting_terms(folder)[:1]:
        return step, (term / f"step-{step}" / "state.safetensors").read_bytes()
    return None


def no_primary_was_lost_without_a_fault(run: Run) -> list[str]:
    """No rank changed hands for nothing, but for what `outcome` lets a busy machine pass."""
    run.read()
    return lost_without_fault(run.outcomes, run.account.failovers)


def the_volume_is_sound(run: Run) -> list[str]:
    """Nothing that `volume_audit` looks for was found.

    A worker's own reader loads the newest checkpoint of each rank.
    """
    ward, wrong = run.ward, []
    for target in TARGETS:
        folder = ward.rank_folder(target)
        run.audit.look(target, folder, ward.damaged)
        wrong += volume_audit.readable(target, ward.volume(target.job), folder.parent.name, newest_step(folder))
    return run.audit.wrong + wrong


def the_status_is_true(run: Run) -> list[str]:
    """Counts, terms and steps in the status are those that were seen."""
    run.read()
    wrong = []
    for name, (_, ranks, _) in SHAPES.items():
        status = run.ward.testbed.status(name)
        seen = sum(one.target.job == name for one in run.account.failovers)
        said, unseen = status.failover_count or 0, run.account.unseen.get(name, 0)
        if not seen <= said <= seen + unseen:
            wrong.append(f"the status of {name} counts {said} failovers; {seen} were seen and {unseen} terms were not")
        for rank in range(ranks):
            wrong += _rank_is_true(run.ward, Target(name, rank), status.ranks[rank])
    return wrong


def _rank_is_true(ward: Ward, target: Target, entry: RankStatus) -> list[str]:
    folder = ward.rank_folder(target)
    lease = ward.world.leases[rank_lease_name(target.job, target.rank)]
    truth: dict[str, Any] = {
        "term": int(lease.term),
        "primary": lease.holder,
        "step": newest_step(folder),
        "checkpoint_step": newest_step(folder),
        "complete": True,
    }
    differs = {field: told for field, value in truth.items() if (told := getattr(entry, field)) != value}
    found = [f"the status of {target} says {differs}, where it is {truth}"] if differs else []
    newest = [volume_audit.term_of(term) for term in volume_audit.counting_terms(folder)[:1]]
    # Not the Lease's own term: whose Lease was deleted goes on in a higher one, and commits where it began.
    release = lease.current_release
    saved = release.checkpoint if release is not None else None
    if saved is None or newest != [saved.term]:
        found.append(f"{target} completed with checkpoint {saved}, and the newest term on the volume is {newest}")
    return found


def nothing_is_left_over(run: Run) -> list[str]:
    """A completed job has its Leases and last pods, and none that runs; a deleted one has nothing but its claim."""
    ward, wrong = run.ward, []
    for name, (_, ranks, redundancy) in SHAPES.items():
        wanted = {rank_lease_name(name, rank) for rank in range(ranks)}
        wanted |= {slot_lease_name(name, rank, slot) for rank in range(ranks) for slot in range(redundancy)}
        found = {lease for lease in ward.world.leases if lease.startswith(f"{name}-")}
        if found != wanted:
            wrong.append(f"{name} has the Leases {sorted(found)} instead of {sorted(wanted)}")
        pods = [pod for pod in ward.world.pods.values() if pod.job == name]
        if running := [pod.name for pod in pods if not pod.terminated]:
            wrong.append(f"{name} is complete, and {', '.join(running)} still run")
        if len(pods) > ENDED_PODS * ranks:
            wrong.append(f"{name} is complete and keeps {len(pods)} pods: {', '.join(pod.name for pod in pods)}")
    for name in (*SHAPES, *(f"calm-{name}" for name in SHAPES)):
        ward.testbed.delete_job(name)
    return wrong + [sentence for kind, api in CHILDREN.items() for sentence in _left(ward, kind, api)]


def _left(ward: Ward, kind: str, api: str) -> list[str]:
    def left() -> set[str]:
        items = ward.kube.get(f"{api}/namespaces/{ward.testbed.namespace}/{kind}")["items"]
        return {item["metadata"]["name"] for item in items} - GIVEN.get(kind, set())

    try:
        wait_until(lambda: not left(), timeout_s=GONE_WITHIN_S, what=f"the end of all {kind}")
    except ClusterError:
        return [f"all jobs are deleted, and these {kind} are left: {', '.join(sorted(left()))}"]
    return []


def events_did_not_flood(run: Run) -> list[str]:
    """Count the operator's Events in the worst minute; the API server forgets those older than an hour."""
    per_minute: dict[int, int] = {}
    for event in run.ward.kube.get(EVENTS.format(run.ward.testbed.namespace))["items"]:
        if event.get("source", {}).get("component") == COMPONENT:
            minute = int(parse_time(event["lastTimestamp"]) // 60)
            per_minute[minute] = per_minute.get(minute, 0) + int(event.get("count", 1))
    run.events_worst_minute = worst = max(per_minute.values(), default=0)
    return [f"{worst} Events in one minute"] if worst > EVENTS_PER_MINUTE_MAX else []


def no_operator_was_too_large(run: Run) -> list[str]:
    """No process of the operator held more than its goal."""
    return run.memory.too_large()


def the_operator_did_not_grow(run: Run) -> list[str] | str:
    """No process of the operator grew, of those that lived long enough."""
    return run.memory.grown()


CHECKS: Final[tuple[Callable[[Run], list[str] | str], ...]] = (
    every_job_succeeded,
    no_primary_was_lost_without_a_fault,
    the_volume_is_sound,
    the_status_is_true,
    events_did_not_flood,
    no_operator_was_too_large,
    the_operator_did_not_grow,
    results_are_those_of_undisturbed_runs,
    nothing_is_left_over,
)


def judge(run: Run) -> dict[str, list[str] | str]:
    """Make all checks; what is wrong, by the check's name in words. One that cannot be made is wrong as well.

    A string in place of a list tells why there was nothing to judge.
    """
    found: dict[str, list[str] | str] = {
        "every fault had the consequences that it must have": [w for o in run.outcomes for w in o.wrong]
    }
    for check in CHECKS:
        try:
            told = check(run)
        except (TestbedError, ClusterError, ApiException, OSError, KeyError, IndexError) as error:
            told = [f"this could not be found out: {type(error).__name__}: {error}"]
        found[check.__name__.replace("_", " ")] = told
    return found
