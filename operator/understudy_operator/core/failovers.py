"""The failovers that the status lists: what the Leases tell of each, and what becomes known of it later.

A Lease holds the last promotion of its rank, and those before that the status did not have yet when that one was
decided. So a failover is listed for as long as the status holds it, and no longer: one that is lost from the status is
rebuilt only where it is the last of its rank. Guarantees that a failover is listed once, by its rank and its term, that
its cause is completed as long as the lost pod can be looked at, and that at most FAILOVERS_KEPT are kept, the newest.
Reads no clock: the times are those that operators and workers have written.
"""

from typing import Final

from msgspec.structs import replace
from understudy_contract.reports import Heartbeat, Promotion
from understudy_contract.status import FailoverStatus

from understudy_operator.core import causes
from understudy_operator.core.model import Observation, RankView

FAILOVERS_KEPT: Final = 20


def list_failovers(observation: Observation) -> tuple[FailoverStatus, ...]:
    """Merge the last promotions of each rank into the list that the status holds already."""
    known = {
        (failover.rank, failover.term): failover
        for failover in observation.job.status.failovers
        if failover.rank < observation.job.policy.ranks  # no operator has written any other
    }
    for view in observation.ranks:
        if view.lease is None:
            continue
        beat = view.lease.record.current_heartbeat
        for promotion in promotions(view):
            key = (int(view.rank), promotion.term)
            if key not in known or known[key].promoted_at < promotion.promoted_at:
                # The term is listed with an earlier promotion: etcd was restored, and the term was given a second time.
                known[key] = _failover(view, promotion)
            if promotion.term == view.lease.record.term and beat is not None and known[key].first_step_at is None:
                known[key] = _with_first_step(known[key], promotion, beat)
    explained = (_with_cause(observation, failover) for failover in known.values())
    ordered = sorted(explained, key=lambda failover: (failover.promoted_at, failover.rank, failover.term))
    return tuple(ordered[-FAILOVERS_KEPT:])


def _with_cause(observation: Observation, failover: FailoverStatus) -> FailoverStatus:
    """Complete the cause of a failover, as long as the lost pod is there: its status may tell more of it later."""
    views = (view for view in observation.ranks if view.rank == failover.rank)
    pod = next((pod for view in views if (pod := view.pods.get(failover.source or "")) is not None), None)
    if pod is None:
        return failover
    found = causes.completed(failover.cause or "", failover.message or "", pod)
    return failover if found is None else replace(failover, cause=found[0], message=found[1])


def _failover(view: RankView, promotion: Promotion) -> FailoverStatus:
    return FailoverStatus(
        rank=int(view.rank),
        term=promotion.term,
        source=promotion.source,
        target=promotion.target,
        cause=str(promotion.cause),
        message=promotion.message,
        failed_at=promotion.failed_at,
        detected_at=promotion.detected_at,
        promoted_at=promotion.promoted_at,
        cold=promotion.cold,
    )


def _with_first_step(failover: FailoverStatus, promotion: Promotion, beat: Heartbeat) -> FailoverStatus:
    if beat.first_step is None:
        return failover
    resumed = beat.first_step.step - 1
    return replace(
        failover,
        first_step_at=beat.first_step.at,
        lost_steps=max(0, promotion.known_step - resumed),
        lost_steps_is_lower_bound=None if promotion.known_step_exact else True,
    )


def promotions(view: RankView) -> tuple[Promotion, ...]:
    """List the promotions that a rank's Lease holds, oldest first. One of term 0 has only counts, and is left out."""
    last = view.lease.record.promotion if view.lease is not None else None
    return tuple(promotion for promotion in (*last.unreported, last) if promotion.term) if last is not None else ()
