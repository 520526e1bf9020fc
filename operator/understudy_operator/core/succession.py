"""Which pod takes a lost rank over, and what the record of the promotion says.

Guarantees that only a pod which holds a slot of the rank, runs, and was heard of within half a lease is promoted, the
one with the newest loaded checkpoint first; a pod not heard of for longer is waited for, up to its whole lease,
before a cold start.
"""

from typing import Final

import msgspec
from understudy_contract.lease import LeaseRecord, micro_time
from understudy_contract.names import Rank, pod_name
from understudy_contract.reports import Cause, GivenUp, Promotion

from understudy_operator.core import budget
from understudy_operator.core.actions import PatchLease, Promote
from understudy_operator.core.candidates import Candidate
from understudy_operator.core.detection import Failure, perhaps_unmade
from understudy_operator.core.model import Job, Now
from understudy_operator.core.patches import give_up
from understudy_operator.core.states import RankState

UNREPORTED_MAX: Final = 5
"""Promotions of a rank that are kept while the status cannot be written; the oldest are dropped."""


def successor(rank: RankState, failure: Failure) -> Candidate | float | None:
    """Choose the successor: one to promote, a time until which to wait for one, or None for a cold start."""
    primary = rank.view.primary
    failed_node = primary.node if primary else None

    def merit(candidate: Candidate) -> tuple[bool, int, int, bool]:
        loaded = candidate.loaded
        elsewhere = candidate.pod.node != failed_node
        return (candidate.ready, loaded.term if loaded else -1, loaded.step if loaded else -1, elsewhere)

    found = list(rank.candidates)
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
    return min((c.expires_at for c in doubtful), default=None)


def succeed(job: Job, rank: RankState, failure: Failure, now: Now) -> Promote | PatchLease | float:
    """Decide on a lost rank: promote, decide again later, or give up after too many failures.

    A cold start waits out the back-off of the application's consecutive failures; a warm successor never waits.
    """
    view = rank.view
    assert view.lease is not None
    lease, record = view.lease, view.lease.record
    failures = budget.failures_after(record, failure, rank.group.floor)
    counted = rank.failures + int(failure.application)
    if failure.application and counted >= job.policy.max_failures:
        return _give_up(rank, record, failure.cause, failure.message, counted, now)
    chosen = successor(rank, failure)
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
        floor=rank.group.floor,
        failures=failures,
        promotion=_record(job, rank, failure, target, cold, now),
        suspect_node=view.primary.node if failure.silent and view.primary else None,
    )


def survives_too_often(job: Job, rank: RankState, now: Now) -> PatchLease | None:
    """Give a rank up if its trainer was started again too often inside its pod, without a new checkpoint."""
    assert rank.view.lease is not None
    record = rank.view.lease.record
    if rank.failures < job.policy.max_failures or budget.survived(record) == 0:
        return None
    message = f"the trainer of pod {record.holder} ended, and was started again: {budget.last_survived(record)}"
    return _give_up(rank, record, Cause.PROCESS_EXITED, message, rank.failures, now)


def _give_up(rank: RankState, record: LeaseRecord, cause: Cause, last: str, counted: int, now: Now) -> PatchLease:
    times = "once" if counted == 1 else f"{counted} times"
    message = f"Rank {rank.view.rank} has failed {times} without a new checkpoint; last: {last}"
    return give_up(rank.view.rank, record, GivenUp(cause, message, micro_time(now.wall), counted))


def _record(job: Job, rank: RankState, failure: Failure, target: str, cold: bool, now: Now) -> Promotion | None:
    view, floor = rank.view, rank.group.floor
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
        # A holder that never reported has taken no step, so its predecessor's steps count as lost by this promotion.
        known_step=beat.step if beat else max(floor.step if floor else 0, present.known_step if present else 0),
        known_step_exact=failure.exact_step,
        cold=cold,
        checkpoint=floor,
        failovers=(last.failovers if last else 0) + 1,
        restarts=(last.restarts if last else 0) + int(cold),
        failures=rank.failures + int(failure.application),
        unreported=_unreported(job, view.rank, last),
        former=tuple(lease.record.holder for lease in view.slots if lease is not None and view.is_former(lease)),
    )


def _unreported(job: Job, rank: Rank, last: Promotion | None) -> tuple[Promotion, ...]:
    """List the promotions before this one that the status does not tell of yet, oldest first."""
    if last is None or not last.term:
        return ()
    told = {(failover.rank, failover.term) for failover in job.status.failovers}
    before = (*last.unreported, msgspec.structs.replace(last, unreported=()))
    return tuple(promotion for promotion in before if (rank, promotion.term) not in told)[-UNREPORTED_MAX:]
