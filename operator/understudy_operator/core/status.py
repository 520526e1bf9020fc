"""The status of a job, derived from its Leases and pods.

Guarantees that a status that was lost is rebuilt from the Leases, except for failovers before the last one of each
rank; that a pod that is ending or silent does not count as ready; and that a change of progress alone is written at
most every PROGRESS_S. A rank whose Lease is gone keeps what the status knew of it, because the Lease is made anew from
that. Wall-clock times are for display; when the status is due is decided by the operator's monotonic clock.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec.structs import replace
from understudy_contract.bounds import COUNT_MAX, clamp
from understudy_contract.lease import LeaseRecord
from understudy_contract.reports import Phase
from understudy_contract.status import (
    ConditionType,
    JobPhase,
    JobStatus,
    RankStatus,
    RedundantStatus,
)

from understudy_operator.core import budget, conditions
from understudy_operator.core.actions import Action, OpenRank, WriteStatus
from understudy_operator.core.completion import job_over
from understudy_operator.core.deadlines import active_since
from understudy_operator.core.failovers import list_failovers
from understudy_operator.core.faults import Fault
from understudy_operator.core.model import Now, Observation, RankView
from understudy_operator.core.news import news
from understudy_operator.core.opening import last_saves
from understudy_operator.core.pending import Finding
from understudy_operator.core.states import JobState, RankState
from understudy_operator.core.suspension import suspended
from understudy_operator.core.training import FINISHING

PROGRESS_S: Final = 10.0
"""Steps alone are written this often: `kubectl get` shows life, and etcd is spared."""


def report(job: JobState, now: Now, faults: tuple[Fault, ...] = ()) -> tuple[list[Action], float]:
    """Write the status if it is due, and list the Events that there should be."""
    observation = job.observation
    wanted = _status(job, now, faults)
    actions: list[Action] = []
    wake_at = math.inf
    old = observation.job.status
    if wanted != old and not _reopens(observation):
        due = observation.status_written_at + PROGRESS_S
        if _notable(wanted) != _notable(old) or now.at >= due:
            actions.append(WriteStatus(wanted))
        else:
            wake_at = due
    actions += news(observation, wanted, now)
    return actions, wake_at


def _reopens(observation: Observation) -> bool:
    """Tell whether a Lease was deleted and is about to be made anew: until then little is known of its rank."""
    if job_over(observation) or observation.job.policy.suspend or last_saves(observation) or observation.leftovers:
        return False
    opened = {entry.rank for entry in observation.job.status.ranks if entry.primary}
    lost = [view.rank for view in observation.ranks if view.lease is None and view.rank in opened]
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


def report_faults(observation: Observation, now: Now, faults: tuple[Fault, ...]) -> tuple[list[Action], float]:
    """Write only the condition about faults: the rest of the status could not be derived, and stays as it is."""
    job = observation.job
    error = {ConditionType.OPERATOR_ERROR: conditions.operator_error(observation, faults)}
    before = job.status.conditions
    others = [condition for condition in before if condition.type != ConditionType.OPERATOR_ERROR]
    wanted = replace(job.status, conditions=(*others, *conditions.render(error, before, job.generation, now)))
    events = conditions.error_events(wanted)
    if wanted == job.status:
        return events, math.inf
    due = observation.status_written_at + PROGRESS_S
    return (events, due) if now.at < due else ([WriteStatus(wanted), *events], math.inf)


def _status(state: JobState, now: Now, faults: tuple[Fault, ...] = ()) -> JobStatus:
    observation, job = state.observation, state.observation.job
    known = {entry.rank: entry for entry in job.status.ranks}
    ranks = tuple(_rank(state, rank, known.get(rank.view.rank), now) for rank in state.ranks)
    failovers = list_failovers(observation)
    promotions = [v.lease.record.promotion for v in observation.ranks if v.lease and v.lease.record.promotion]
    ready = sum(bool(pod.ready) for entry in ranks for pod in entry.redundant)
    at_work = 0 if state.over or job.policy.suspend else sum(not rank.complete for rank in state.ranks)
    desired = job.policy.redundancy * at_work
    found = conditions.assess(state, ready, desired, now)
    if faults or conditions.has_been_in_error(observation):
        found[ConditionType.OPERATOR_ERROR] = conditions.operator_error(observation, faults)
    return JobStatus(
        observed_generation=job.generation,
        start_time=active_since(observation) or job.status.start_time or None,
        adopted_uid=job.adopted_uid or None,
        phase=_phase(state, found),
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
    """Sum up the counts of all ranks; a total never falls, although a Lease with its count may be deleted."""
    return clamp(max(sum(counts), known or 0), COUNT_MAX)


def _phase(job: JobState, found: Mapping[ConditionType, Finding]) -> JobPhase:
    observation = job.observation
    if job.complete:
        return JobPhase.SUCCEEDED
    if job.failed:
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


def _rank(job: JobState, rank: RankState, told: RankStatus | None, now: Now) -> RankStatus:
    # Somebody may have deleted the Lease: it is made anew from what the status knows of the rank, so that is kept. And
    # once the status says that the job is complete, a Lease that is not complete is an old version of it.
    view, known = rank.view, told or RankStatus(rank=int(rank.view.rank))
    if view.lease is None or (job.complete and not rank.complete):
        return replace(known, step=known.step or 0, redundant=())
    record = view.lease.record
    beat, floor, promotion = record.heartbeat, record.floor, record.promotion
    # Nobody has reported on the volume yet: what the status knew of it is kept.
    kept = known if floor is None and beat is None else None
    last_failure = budget.last_survived(record) or None
    over = rank.complete or job.failed
    return RankStatus(
        rank=int(view.rank),
        term=int(record.term),
        step=_step(record) if beat is not None or known.step is None else known.step,
        failovers=promotion.failovers if promotion else 0,
        restarts=promotion.restarts if promotion else 0,
        failures_without_progress=rank.failures,
        complete=rank.complete,
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
    """Return the step that a rank has reached. A primary that has not restored yet reports none."""
    beat = record.heartbeat
    if beat is None or beat.phase is Phase.STARTING:
        return max(int(record.floor_step), beat.step if beat else 0)
    # A renewal may arrive after the release that was sent after it, and leave an older report in the Lease.
    last = record.current_release.checkpoint if record.current_release is not None else None
    return max(beat.step, last.step) if last is not None and last.term == record.term else beat.step
