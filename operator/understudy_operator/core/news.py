"""The Events that say what has happened to a job, derived from its Leases and from the status that is to be written.

Guarantees that each has a key, under which it is posted once by a process, and that what is older than NEWS_S is not
announced: an operator that starts finds all of history, and an Event tells of the present. Does not guarantee that an
Event is posted once over all operators: one that takes over within NEWS_S posts the last ones again. Trusts the wall
clocks of operators and workers for the age of what has happened; a time that cannot be read counts as now.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from understudy_contract.events import EventReason, notice_reason
from understudy_contract.lease import LeaseRecord
from understudy_contract.reports import Promotion
from understudy_contract.status import JobPhase, JobStatus

from understudy_operator.core import conditions
from understudy_operator.core.actions import Action, Emit
from understudy_operator.core.completion import rank_complete
from understudy_operator.core.failovers import promotions
from understudy_operator.core.model import Now, Observation, RankView

NEWS_S: Final = 600.0
"""What is older needs no Event: an operator that was away for ten minutes has more to make up for."""


def news(observation: Observation, status: JobStatus, now: Now) -> list[Action]:
    """List the Events that there should be."""
    events: list[Action] = []
    completed = False
    for view in observation.ranks:
        leases = [lease for lease in (view.lease, *view.slots) if lease is not None]
        events += [event for lease in leases for event in notices(lease.record, now)]
        for promotion in promotions(view):
            if not _is_news(promotion.promoted_at, now):
                continue
            how = "Started {0} in its place: no redundant pod was ready" if promotion.cold else "Promoted {0}"
            message = f"Rank {view.rank}: {promotion.message}. {how.format(promotion.target)} (term {promotion.term})."
            reason = EventReason.COLD_START if promotion.cold else EventReason.PROMOTED
            events.append(Emit(f"promotion {view.rank} {promotion.term}", reason, message))
            events += _cause_found(status, view, promotion)
        if view.lease is not None and rank_complete(view) and _is_news(view.lease.record.renew_time, now):
            completed = True
            message = f"Rank {view.rank} has completed its training"
            events.append(Emit(f"rank {view.rank} complete", EventReason.RANK_COMPLETED, message))
        given_up = view.lease.record.given_up if view.lease is not None else None
        if given_up is not None and _is_news(given_up.at, now):
            message = f"{given_up.message}. The job has failed; its checkpoints are kept."
            events.append(Emit(f"rank {view.rank} given up", EventReason.FAILED, message))
    generation = observation.job.generation
    if status.phase == JobPhase.SUSPENDED:
        message = "Suspended: no pod runs. Set spec.suspend to false to go on from the newest checkpoints"
        events.append(Emit(f"suspended {generation}", EventReason.SUSPENDED, message))
    elif observation.job.status.phase == JobPhase.SUSPENDED and not observation.job.policy.suspend:
        events.append(Emit(f"resumed {generation}", EventReason.RESUMED, "Resumed: each rank gets a new pod"))
    if status.phase == JobPhase.SUCCEEDED and completed:
        events.append(Emit("complete", EventReason.COMPLETED, "Every rank has completed its training"))
    return events + conditions.events(observation, now) + conditions.error_events(status)


def notices(record: LeaseRecord, now: Now) -> Iterator[Emit]:
    """Give the notice of a Lease's holder as an Event, if it is recent."""
    note = record.notice
    if note is not None and _is_news(note.at, now):
        reason = notice_reason(note.reason)
        words = f"{note.reason}: {note.message}" if reason is EventReason.WORKER_NOTICE else note.message
        yield Emit(f"notice {record.holder} {note.message}", reason, f"{record.holder}: {words}", of_worker=True)


def _cause_found(status: JobStatus, view: RankView, promotion: Promotion) -> Iterator[Emit]:
    """Tell the cause of a loss that became known only after the rank was passed on."""
    for failover in status.failovers_of(view.rank):
        if failover.term == promotion.term and failover.cause != promotion.cause:
            message = f"Rank {view.rank}, term {promotion.term}: {failover.cause}, {failover.message}."
            yield Emit(f"cause {view.rank} {promotion.term}", EventReason.CAUSE_FOUND, message)


def _is_news(stamp: str | None, now: Now) -> bool:
    """Tell whether something is recent enough for an Event; so is what has no readable time."""
    try:
        return stamp is None or (now.wall - datetime.fromisoformat(stamp)).total_seconds() < NEWS_S
    except (ValueError, TypeError):
        return True
