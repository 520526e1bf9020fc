"""Status, conditions and Events of a job, derived from its Leases and pods.

Guarantees that a status which was lost is rebuilt from the Leases (but for failovers older than the last of each
rank), that a pod which is terminating or silent counts as nothing, and that a change of mere progress is written at
most every PROGRESS_S. Wall-clock times are for display.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from msgspec.structs import replace
from understudy_contract.bounds import COUNT_MAX, clamp
from understudy_contract.events import EventReason, notice_reason
from understudy_contract.lease import LeaseRecord
from understudy_contract.reports import Heartbeat, Phase, Promotion
from understudy_contract.status import (
    ConditionType,
    FailoverStatus,
    JobPhase,
    JobStatus,
    RankStatus,
    RedundantStatus,
)

from understudy_operator.core import budget, causes, conditions
from understudy_operator.core.actions import Action, Emit, OpenRank, WriteStatus
from understudy_operator.core.completion import job_complete, job_failed, job_over, rank_complete
from understudy_operator.core.deadlines import active_since
from understudy_operator.core.faults import Fault
from understudy_operator.core.model import Now, Observation, RankView
from understudy_operator.core.opening import last_saves
from understudy_operator.core.pending import Finding
from understudy_operator.core.suspension import suspended
from understudy_operator.core.training import FINISHING

PROGRESS_S: Final = 10.0
"""Steps alone are written this often: `kubectl get` shows life, and etcd is spared."""
FAILOVERS_KEPT: Final = 20
NEWS_S: Final = 600.0
"""What is older needs no Event: an operator that was away for ten minutes has more to make up for."""


def report(observation: Observation, now: Now, faults: tuple[Fault, ...] = ()) -> tuple[list[Action], float]:
    """Write the status if it is due, and list the Events that there should be."""
    wanted = _status(observation, now, faults)
    actions: list[Action] = []
    wake_at = math.inf
    old = observation.job.status
    if wanted != old and not _reopens(observation):
        due = observation.status_written_at + PROGRESS_S
        if _notable(wanted) != _notable(old) or now.at >= due:
            actions.append(WriteStatus(wanted))
        else:
            wake_at = due
    actions += _events(observation, wanted, now)
    return actions, wake_at


def _reopens(observation: Observation) -> bool:
    """Tell whether a Lease that somebody deleted is being made anew: for that moment little is known of its rank."""
    if job_over(observation) or observation.job.policy.suspend or last_saves(observation) or observation.leftovers:
        return False
    told = {entry.rank for entry in observation.job.status.ranks if entry.primary}
    lost = [view.rank for view in observation.ranks if view.lease is None and view.rank in told]
    return any((OpenRank.__name__, rank) not in observation.problems for rank in lost)


def _notable(status: JobStatus) -> JobStatus:
    """Strip what changes with every step: a change of that alone can wait for PROGRESS_S."""
    ranks = (
        replace(
            entry,
            step=None,
            checkpoint_step=None,
            checkpoint_term=None,
            trainer_restarts=None,
            last_failure=None,
            redundant=tuple(replace(pod, loaded_step=None) for pod in entry.redundant),
        )
        for entry in status.ranks
    )
    return replace(status, step=None, ranks=tuple(ranks))


def excuse(observation: Observation, now: Now, faults: tuple[Fault, ...]) -> tuple[list[Action], float]:
    """Write the condition that tells of faults, and nothing else: the status cannot be made of what is observed."""
    job = observation.job
    error = {ConditionType.OPERATOR_ERROR: conditions.operator_error(observation, faults)}
    before = job.status.conditions
    others = [condition for condition in before if condition.type != ConditionType.OPERATOR_ERROR]
    wanted = replace(job.status, conditions=(*others, *conditions.render(error, before, job.generation, now)))
    told = conditions.error_events(wanted)
    if wanted == job.status:
        return told, math.inf
    due = observation.status_written_at + PROGRESS_S
    return (told, due) if now.at < due else ([WriteStatus(wanted), *told], math.inf)


def _status(observation: Observation, now: Now, faults: tuple[Fault, ...] = ()) -> JobStatus:
    job = observation.job
    ranks = tuple(_rank(observation, view, now) for view in observation.ranks)
    failovers = _failovers(observation)
    promotions = [v.lease.record.promotion for v in observation.ranks if v.lease and v.lease.record.promotion]
    complete = job_complete(observation)
    ready = sum(bool(pod.ready) for entry in ranks for pod in entry.redundant)
    at_work = 0 if job_over(observation) or job.policy.suspend else sum(not rank_complete(v) for v in observation.ranks)
    desired = job.policy.redundancy * at_work
    found = conditions.assess(observation, ready, desired, now)
    if faults or conditions.has_been_in_error(observation):
        found[ConditionType.OPERATOR_ERROR] = conditions.operator_error(observation, faults)
    return JobStatus(
        observed_generation=job.generation,
        start_time=active_since(observation) or job.status.start_time or None,
        adopted_uid=job.adopted_uid or None,
        phase=_phase(observation, complete, found),
        conditions=conditions.render(found, job.status.conditions, job.generation, now),
        step=min((entry.step or 0 for entry in ranks), default=0),
        restarts=_total((p.restarts for p in promotions), job.status.restarts),
        failover_count=_total((p.failovers for p in promotions), job.status.failover_count),
        redundant_ready=ready,
        redundant_desired=desired,
        redundant=f"{ready}/{desired}",
        ranks=ranks,
        failovers=failovers,
    )


def _total(counts: Iterable[int], known: int | None) -> int:
    """Sum up what the ranks count; what was known before is never taken back."""
    return clamp(max(sum(counts), known or 0), COUNT_MAX)


def _phase(observation: Observation, complete: bool, found: Mapping[ConditionType, Finding]) -> JobPhase:
    if complete:
        return JobPhase.SUCCEEDED
    if job_failed(observation):
        return JobPhase.FAILED
    if suspended(observation):
        return JobPhase.SUSPENDED
    if not any(v.lease is not None and v.lease.record.floor is not None for v in observation.ranks):
        return JobPhase.PENDING
    trains, redundant = found[ConditionType.TRAINING], found[ConditionType.REDUNDANT]
    if trains.reason == FINISHING:
        return JobPhase.FINISHING
    whole = trains.holds and (observation.job.policy.redundancy == 0 or redundant.holds)
    return JobPhase.RUNNING if whole else JobPhase.DEGRADED


def _rank(observation: Observation, view: RankView, now: Now) -> RankStatus:
    # A Lease may have been deleted by hand: what was known of the rank is what it is opened anew from. And who wrote
    # that the job is complete had seen more of its Leases than one to whom an unfinished one is shown still.
    known = observation.job.status.of_rank(view.rank) or RankStatus(rank=int(view.rank))
    if view.lease is None or (job_complete(observation) and not rank_complete(view)):
        return replace(known, step=known.step or 0, redundant=())
    record = view.lease.record
    beat, floor, promotion = record.heartbeat, record.floor, record.promotion
    # Nobody has reported on the volume yet: what the status knew of it is kept.
    kept = known if floor is None and beat is None else None
    last_failure = budget.last_survived(record) or None
    over = rank_complete(view) or job_failed(observation)
    return RankStatus(
        rank=int(view.rank),
        term=int(record.term),
        step=_step(record) if beat is not None or known.step is None else known.step,
        failovers=promotion.failovers if promotion else 0,
        restarts=promotion.restarts if promotion else 0,
        failures_without_progress=budget.application_failures(record),
        complete=rank_complete(view),
        redundant=() if over else tuple(_redundant(view, now)),
        primary=record.holder or None,
        checkpoint_step=int(floor.step) if floor else kept.checkpoint_step if kept else None,
        checkpoint_term=int(floor.term) if floor else kept.checkpoint_term if kept else None,
        model=beat.model if beat else kept.model if kept else None,
        trainer_restarts=budget.restarts(record) if last_failure else None,
        last_failure=last_failure,
    )


def _redundant(view: RankView, now: Now) -> Iterator[RedundantStatus]:
    for slot, lease in enumerate(view.slots):
        pod = view.slot_pod(slot)
        if lease is None or pod is None or pod.deleting_since is not None or pod.ended:
            continue
        beat = lease.record.current_heartbeat
        loaded = beat.loaded if beat is not None else None
        yield RedundantStatus(
            pod=pod.name, ready=view.warm(slot, now.at), loaded_step=loaded.step if loaded is not None else None
        )


def _step(record: LeaseRecord) -> int:
    """Say what a rank has reached; a primary that has not restored yet reports nothing."""
    beat = record.heartbeat
    if beat is None or beat.phase is Phase.STARTING:
        return max(int(record.floor_step), beat.step if beat else 0)
    # A renewal that was overtaken by the release may have put an older report in place.
    last = record.current_release.checkpoint if record.current_release is not None else None
    return max(beat.step, last.step) if last is not None and last.term == record.term else beat.step


def _promotions(view: RankView) -> tuple[Promotion, ...]:
    """List the promotions that a rank's Lease tells of, oldest first; one of term 0 is a mere count."""
    last = view.lease.record.promotion if view.lease is not None else None
    return tuple(promotion for promotion in (*last.untold, last) if promotion.term) if last is not None else ()


def _failovers(observation: Observation) -> tuple[FailoverStatus, ...]:
    """Merge the last promotions of each rank into the list that the status holds already."""
    known = {
        (failover.rank, failover.term): failover
        for failover in observation.job.status.failovers
        if failover.rank < observation.job.policy.ranks  # others no operator wrote
    }
    for view in observation.ranks:
        if view.lease is None:
            continue
        beat = view.lease.record.current_heartbeat
        for promotion in _promotions(view):
            key = (int(view.rank), promotion.term)
            if key not in known or known[key].promoted_at < promotion.promoted_at:
                # The second where etcd was restored, and the term was given once more.
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


def notices(record: LeaseRecord, now: Now) -> Iterator[Emit]:
    """Tell what the holder of a Lease has to say, if it is news."""
    note = record.notice
    if note is not None and _is_news(note.at, now):
        reason = notice_reason(note.reason)
        words = f"{note.reason}: {note.message}" if reason is EventReason.WORKER_NOTICE else note.message
        yield Emit(f"notice {record.holder} {note.message}", reason, f"{record.holder}: {words}", of_worker=True)


def _events(observation: Observation, status: JobStatus, now: Now) -> list[Action]:
    events: list[Action] = []
    completed = False
    for view in observation.ranks:
        leases = [lease for lease in (view.lease, *view.slots) if lease is not None]
        events += [event for lease in leases for event in notices(lease.record, now)]
        for promotion in _promotions(view):
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


def _cause_found(status: JobStatus, view: RankView, promotion: Promotion) -> Iterator[Emit]:
    """Tell the cause of a loss that was not known when the rank was passed on."""
    for failover in status.failovers_of(view.rank):
        if failover.term == promotion.term and failover.cause != promotion.cause:
            message = f"Rank {view.rank}, term {promotion.term}: {failover.cause}, {failover.message}."
            yield Emit(f"cause {view.rank} {promotion.term}", EventReason.CAUSE_FOUND, message)


def _is_news(stamp: str | None, now: Now) -> bool:
    """Tell whether something is to be announced: a new process finds all of history, and Events are of the present.

    What no clock can place is announced: a worker's stamp may be missing, or be anything.
    """
    try:
        return stamp is None or (now.wall - datetime.fromisoformat(stamp)).total_seconds() < NEWS_S
    except (ValueError, TypeError):
        return True
