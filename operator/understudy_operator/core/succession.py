"""Who takes a lost rank over, and with what on record.

Guarantees that only a pod which holds a slot of the rank, runs, and was heard of within half a lease is promoted, the
one with the newest loaded checkpoint first; a pod not heard of for longer is waited for, up to its whole lease,
before a cold start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from understudy_contract.lease import LeaseRecord, micro_time
from understudy_contract.names import Rank, pod_name
from understudy_contract.reports import Cause, CheckpointRef, GivenUp, Phase, Promotion

from understudy_operator.core import budget
from understudy_operator.core.actions import GiveUp, Promote
from understudy_operator.core.detection import ACKNOWLEDGE_S, Failure, perhaps_unmade
from understudy_operator.core.model import LATE, Job, Now, Pod, RankView, Running

UNTOLD_MAX: Final = 5
"""Promotions of a rank between two status writes that are kept: a status that cannot be written is no log."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A redundant pod that may be promoted."""

    pod: Pod
    loaded: CheckpointRef | None
    ready: bool
    fresh: bool
    timely: bool
    """Heard so lately that it may speak against a silent primary: had both been cut off, it would be late by now."""
    steady_at: float
    """When it may speak against a silent primary. If both were cut off, the first to be heard again proves nothing."""


def candidates(view: RankView, nodes: Mapping[str, bool], at: float) -> list[Candidate]:
    """List the redundant pods that live, as far as their Leases and nodes tell."""
    found = []
    for slot, lease in enumerate(view.slots):
        pod = view.slot_pod(slot)
        if lease is None or pod is None or pod.deleting_since is not None or not isinstance(pod.container, Running):
            continue
        if pod.node is None or not nodes.get(pod.node, False):
            continue
        beat = lease.record.current_heartbeat
        silent_s = at - lease.silent_since
        if beat is None or lease.record.current_release is not None or silent_s >= lease.record.patience_s:
            continue
        fresh = silent_s < lease.record.patience_s / 2
        timely = silent_s < LATE * lease.record.patience_s
        steady_at = lease.steady_since + max(lease.record.patience_s / 2, ACKNOWLEDGE_S)
        found.append(Candidate(pod, beat.loaded, beat.phase is Phase.READY, fresh, timely, steady_at))
    return found


def successor(view: RankView, failure: Failure, nodes: Mapping[str, bool], now: Now) -> Candidate | float | None:
    """Choose the successor: one to promote, a time until which to wait for one, or None for a cold start."""
    failed_node = view.primary.node if view.primary else None

    def merit(candidate: Candidate) -> tuple[bool, int, int, bool]:
        loaded = candidate.loaded
        elsewhere = candidate.pod.node != failed_node
        return (candidate.ready, loaded.term if loaded else -1, loaded.step if loaded else -1, elsewhere)

    found = candidates(view, nodes, now.at)
    if failure.silent:
        # A pod on the silent node is probably as dead as its primary: prefer any other that is ready.
        elsewhere = [c for c in found if c.pod.node != failed_node]
        found = elsewhere if any(c.ready and c.fresh for c in elsewhere) else found
    # `max` keeps the first of equals: the oldest.
    found.sort(key=lambda c: c.pod.created)
    best = max((c for c in found if c.fresh), key=merit, default=None)
    doubtful = [c for c in found if not c.fresh]
    if best is not None and (best.ready or not any(c.ready for c in doubtful)):
        return best
    if doubtful:
        return min(
            lease.silent_since + lease.record.patience_s
            for slot, lease in enumerate(view.slots)
            if lease is not None and any(c.pod is view.slot_pod(slot) for c in doubtful)
        )
    return None


def succeed(
    job: Job, view: RankView, failure: Failure, nodes: Mapping[str, bool], now: Now
) -> Promote | GiveUp | float:
    """Decide on a lost rank: the promotion, or when to decide again; or that it was lost once too often.

    A cold start waits out the back-off of the application's consecutive failures; a warm successor never waits.
    """
    assert view.lease is not None
    lease, record = view.lease, view.lease.record
    failures = budget.failures_after(record, failure)
    counted = budget.application_failures_after(record, failure)
    if failure.application and counted >= job.policy.max_failures:
        return _give_up(view, record, failure.cause, failure.message, counted, now)
    chosen = successor(view, failure, nodes, now)
    if isinstance(chosen, float):
        return chosen
    if chosen is None:
        repeated = budget.repeated(job.status.failovers, view.rank, now)
        ready_at = lease.changed_at + budget.backoff_s(max(failures, repeated))
        if now.at < ready_at:
            return ready_at
    cold = chosen is None
    target = pod_name(job.name, view.rank, record.incarnation) if chosen is None else chosen.pod.name
    return Promote(
        rank=view.rank,
        lease=record,
        target=target,
        cold=cold,
        floor=record.floor,
        failures=failures,
        promotion=_record(job, view, failure, target, cold, now),
        suspect_node=view.primary.node if failure.silent and view.primary else None,
    )


def survives_too_often(job: Job, view: RankView, now: Now) -> GiveUp | None:
    """Give a rank up whose primary lives, and has had its trainer started again too often without progress."""
    assert view.lease is not None
    record = view.lease.record
    counted = budget.application_failures(record)
    if budget.survived(record) == 0 or counted < job.policy.max_failures:
        return None
    message = f"the trainer of pod {record.holder} ended, and was started again: {budget.last_survived(record)}"
    return _give_up(view, record, Cause.PROCESS_EXITED, message, counted, now)


def _give_up(view: RankView, record: LeaseRecord, cause: Cause, last: str, counted: int, now: Now) -> GiveUp:
    times = "once" if counted == 1 else f"{counted} times"
    message = f"Rank {view.rank} has failed {times} without a new checkpoint; last: {last}"
    return GiveUp(view.rank, record, GivenUp(cause, message, micro_time(now.wall), counted))


def _record(job: Job, view: RankView, failure: Failure, target: str, cold: bool, now: Now) -> Promotion | None:
    assert view.lease is not None
    record = view.lease.record
    last = record.promotion
    present = last if last is not None and last.term == record.term else None
    if cold and perhaps_unmade(view.lease, view.primary):
        return None
    beat = record.current_heartbeat
    wall = micro_time(now.wall)
    return Promotion(
        term=record.term + 1,
        source=record.holder,
        target=target,
        cause=failure.cause,
        message=failure.message,
        failed_at=failure.failed_at or wall,
        detected_at=wall,
        promoted_at=wall,
        # A holder that never reported has taken no step: what its predecessor had taken is lost only now.
        known_step=beat.step if beat else max(record.floor_step, present.known_step if present else 0),
        known_step_exact=failure.exact_step,
        cold=cold,
        checkpoint=record.floor,
        failovers=(last.failovers if last else 0) + 1,
        restarts=(last.restarts if last else 0) + int(cold),
        failures=budget.application_failures_after(record, failure),
        untold=_untold(job, view.rank, last),
        former=tuple(lease.record.holder for lease in view.slots if lease is not None and view.is_former(lease)),
    )


def _untold(job: Job, rank: Rank, last: Promotion | None) -> tuple[Promotion, ...]:
    """List the promotions before this one that the status does not tell of yet, oldest first."""
    if last is None or not last.term:
        return ()
    told = {(failover.rank, failover.term) for failover in job.status.failovers}
    before = (*last.untold, msgspec.structs.replace(last, untold=()))
    return tuple(promotion for promotion in before if (rank, promotion.term) not in told)[-UNTOLD_MAX:]
