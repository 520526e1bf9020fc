"""The Leases and pods that a rank should have, against those it has.

Guarantees that a pod's name is taken in the rank's Lease before the pod is created, so that a lost response cannot
make two pods of one name at work; that labels follow the Leases, the old primary's coming off first; that a pod no
Lease names is deleted if it may still run, and kept (the last two of a rank) if it has ended, so that its log can be
read. Of a pod whose trainer has ended and whose sidecars have not, the sidecars are ended after a while, and the pod is
kept for its logs as well.
"""

import math
from collections.abc import Iterator
from typing import Final

from understudy_contract.names import Role

from understudy_operator.core import budget
from understudy_operator.core.actions import (
    END_POD_S,
    Action,
    AssignSlot,
    CreatePod,
    DeletePod,
    EndPod,
    FindPod,
    OpenRank,
    OpenSlot,
    PatchLease,
    Placement,
    Relabel,
)
from understudy_operator.core.causes import unexplained
from understudy_operator.core.detection import Failure, judge_redundant
from understudy_operator.core.model import Lease, Now, Observation, Pod, RankView
from understudy_operator.core.opening import last_saves, open_rank
from understudy_operator.core.patches import set_duration, vacate
from understudy_operator.core.policy import Policy
from understudy_operator.core.states import JobState, RankState

ENDED_PODS_KEPT: Final = 2
"""Ended pods of a rank that are kept for their logs."""
ASK_WITHIN_S: Final = 10.0
"""How long the replacement of a redundant pod waits for the Events that tell why it ended; they may never come."""
ENDS_WITHIN_S: Final = 15.0
"""Time from a worker's release until the kubelet reports its container ended: a second, more on a busy node."""
OVER: Final = "its training is over"
AVOID_SUSPECT: Final = 100
AVOID_PRIMARY: Final = 10
"""Weights of the scheduler's node preferences: a suspect node is worse than the node of one's own primary."""


def provide_rank(job: JobState, rank: RankState, now: Now) -> tuple[list[Action], float]:
    """List what one rank lacks, and when to look again."""
    observation, view = job.observation, rank.view
    if view.lease is None:
        waits = last_saves(observation) or observation.leftovers or observation.blocked(OpenRank, view.rank, now.at)
        return ([] if waits else [open_rank(observation, view)]), math.inf
    actions: list[Action] = []
    wake_at = math.inf
    record = view.lease.record
    if not rank.complete:
        if record.holder in observation.pending_pods and record.holder not in view.pods:
            actions += _ensure_pod(observation, view, None, view.lease, now)
        for slot in range(observation.job.policy.redundancy):
            more, again_at = _provide_slot(job, rank, slot, now)
            actions += more
            wake_at = min(wake_at, again_at)
    actions += labels(view)
    actions += _durations(observation.job.policy, view)
    gone, again_at = removals(observation.job.name, rank, now, over=OVER if rank.complete else "")
    # redundancy was lowered: a slot that is wanted again later has lost no pod.
    vacated = [vacate(view.rank, lease.record) for lease in view.surplus]
    return [*actions, *gone, *vacated], min(wake_at, again_at)


def placement(observation: Observation, view: RankView) -> Placement:
    """Choose the nodes that a new pod of a rank should avoid."""
    together = observation.fleet.one_node
    if together or not observation.suspect_nodes:
        return Placement(together, ())
    avoid = dict.fromkeys(observation.suspect_nodes, AVOID_SUSPECT)
    if view.primary is not None and view.primary.node is not None:
        avoid.setdefault(view.primary.node, AVOID_PRIMARY)
    return Placement(together, tuple(sorted(avoid.items())))


def _may_create(observation: Observation, view: RankView, slot: int | None, now: Now) -> bool:
    """Tell whether a pod may be created now: before the volume is bound, only the first pod of the job.

    Until then nobody knows whether several nodes can mount the volume. A first pod is needed, because a volume may be
    bound only when a pod uses it.
    """
    if not observation.prepared or observation.blocked(CreatePod, view.rank, now.at):
        return False
    if observation.claim is not None and observation.claim.bound:
        return not observation.claim.single_pod
    return view.rank == 0 and slot is None and all(p.ended for v in observation.ranks for p in v.pods.values())


def _provide_slot(job: JobState, rank: RankState, slot: int, now: Now) -> tuple[list[Action], float]:
    observation, view = job.observation, rank.view
    assert view.lease is not None
    lease = view.slots[slot]
    if lease is None:
        return ([] if observation.blocked(OpenSlot, view.rank, now.at) else [OpenSlot(view.rank, slot)]), math.inf
    holder = lease.record.holder
    pod = view.pods.get(holder)
    losses = budget.slot_losses(lease.record, pod, now.at)
    loss, suspect = "", None
    failure: Failure | None = None
    if view.serves(holder):
        pending = holder in observation.pending_pods
        verdict = judge_redundant(lease, pod, observation.fleet, pending=pending)
        if isinstance(verdict, float):
            return _ensure_pod(
                observation, view, slot, lease, now
            ) if pending and holder not in view.pods else [], verdict
        if pod is not None and unexplained(pod) and now.at < (ask_until := _asked_until(pod)):
            return [], ask_until  # its Events are read first, so that the loss is reported with its cause
        failure, losses = verdict, losses + 1
        known = pod is not None or lease.acknowledged or holder in observation.deleted_pods
        loss = verdict.message if known else ""  # otherwise it may never have been created: its operator ended before
        suspect = pod.node if verdict.silent and pod is not None else None
    if not _may_create(observation, view, slot, now):
        return [], math.inf
    # After a second failure in a row the program itself is suspect, and a redundant pod runs the same program.
    suspicion = max(
        budget.standing(view.lease.record, rank.group.floor) - 1,
        budget.repeated(observation.job.status.failovers, view.rank, now),
    )
    due = lease.changed_at + max(budget.slot_pause_s(lease.record, losses, failure), budget.backoff_s(suspicion))
    if now.at < due:
        return [], due
    return [AssignSlot(view.rank, slot, lease.record, view.lease.record, losses, loss, suspect)], math.inf


def _asked_until(pod: Pod) -> float:
    return math.inf if pod.ending_since is None else pod.ending_since + ASK_WITHIN_S


def _ensure_pod(observation: Observation, view: RankView, slot: int | None, lease: Lease, now: Now) -> list[Action]:
    """Create the pod that a Lease names, or look it up if it has reported: it exists then, or existed."""
    record = lease.record
    if lease.acknowledged:
        return [FindPod(view.rank, record.holder)]
    if not _may_create(observation, view, slot, now):
        return []
    return [CreatePod(record.holder, view.rank, slot, record.term, placement(observation, view))]


def _served(view: RankView) -> dict[str, Lease]:
    return {
        lease.record.holder: lease for lease in view.slots if lease is not None and view.serves(lease.record.holder)
    }


def _durations(policy: Policy, view: RankView) -> Iterator[PatchLease]:
    """Bring a changed leaseDurationSeconds to the Leases that are held.

    A holder of an earlier release does not read it and renews as before, so that it gets no shorter duration.
    """
    for lease in (view.lease, *view.slots):
        if lease is None or not lease.record.holder or lease.record.duration_s == policy.lease_duration_s:
            continue
        beat = lease.record.current_heartbeat
        if beat is None or beat.duration_s > 0 or policy.lease_duration_s > lease.record.duration_s:
            yield set_duration(view.rank, lease.record, policy.lease_duration_s)


def labels(view: RankView) -> Iterator[Relabel]:
    """Make the labels of a rank's pods say what its Leases say, the old primary's first."""
    if view.lease is None:
        return
    holder, term = view.lease.record.holder, view.lease.record.term
    served = _served(view)
    wanted: list[Relabel] = []
    for pod in view.pods.values():
        role: Role | None
        if pod.name == holder:
            role, pod_term = Role.PRIMARY, term
        else:
            role, pod_term = (Role.REDUNDANT if pod.name in served and not pod.ended else None), None
        if (pod.role, pod.term) != (role, pod_term):
            wanted.append(Relabel(pod, role, pod_term))
    yield from sorted(wanted, key=lambda action: action.role is Role.PRIMARY)


def removals(job: str, rank: RankState, now: Now, *, over: str) -> tuple[list[Action], float]:
    """List the pods to delete or to end, and when to look again at pods that end by themselves and keep their logs.

    `over`: why no pod of the rank has to run any more; empty while one has.
    """
    view = rank.view
    found: list[Action] = []
    wake_at = math.inf
    holder = view.lease.record.holder if view.lease is not None else ""
    spared = {} if over else _served(view)
    idle = [p for p in view.pods.values() if p.is_of(job) and p.deleting_since is None and p.name not in spared]
    for pod in idle:
        if pod.finished or (pod.name == holder and not over):
            continue
        if pod.name == holder and rank.complete and not pod.ended:
            continue  # its trainer is ending; only a sidecar may run on after that
        if pod.ended and pod.active_deadline_s == END_POD_S:
            continue  # it was told to end already: its kubelet ends it within the grace period
        due = now.at if pod.ending_since is None else pod.ending_since + ENDS_WITHIN_S
        if due <= now.at and pod.ended:
            found.append(EndPod(pod, "its trainer has ended, and its sidecars run on"))
        elif due <= now.at:
            found.append(DeletePod(pod, over or "it lost its role"))
        else:
            wake_at = min(wake_at, due)
    finished = sorted((p for p in idle if p.finished and p.name != holder), key=lambda p: p.incarnation)
    why = f"newer ended pods of its rank are kept ({ENDED_PODS_KEPT})"
    found += [DeletePod(pod, why) for pod in finished[:-ENDED_PODS_KEPT]]
    return found, wake_at
