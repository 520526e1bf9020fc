"""The two deadlines of a whole job: how long it may be active, and how long it stays after its end.

Both compare the operator's wall clock with times that stand in the API, as Kubernetes' own Jobs do: they survive the
operator, and a wall clock that jumps moves them. Guarantees that a job which was removed is not made anew by the
operator. Whoever applies it again makes a new job.
"""

import math
from datetime import datetime
from typing import Final

from understudy_contract.lease import micro_time
from understudy_contract.reports import GivenUp
from understudy_contract.status import ConditionType

from understudy_operator.core.actions import Action, DeleteJob
from understudy_operator.core.completion import rank_complete
from understudy_operator.core.model import Now, Observation
from understudy_operator.core.patches import give_up
from understudy_operator.core.states import JobState

DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
"""Cause with which a job is given up that was active for too long; the name that Kubernetes' Jobs use."""


def active_since(observation: Observation) -> str | None:
    """Say since when the job has been active: its ranks were opened, or resumed last; None while it never was.

    A rank that is complete was not resumed with the others.
    """
    views = [view for view in observation.ranks if not rank_complete(view)] or observation.ranks
    known = [v.lease.record.active_since for v in views if v.lease and v.lease.record.active_since]
    return max(known, default=None)


def overdue(job: JobState, now: Now) -> tuple[list[Action], float]:
    """Give a job up that was active for longer than its limit, or return when to look again."""
    limit_s = job.observation.job.policy.active_deadline_s
    since = active_since(job.observation) if limit_s is not None else None
    if limit_s is None or since is None:
        return [], math.inf
    left_s = limit_s - _age_s(since, now)
    if left_s > 0:
        return [], now.at + left_s
    message = f"The job was active for {limit_s} s, as long as spec.activeDeadlineSeconds lets it"
    for rank in job.ranks:
        if rank.view.lease is not None and not rank.complete:
            words = GivenUp(DEADLINE_EXCEEDED, message, micro_time(now.wall), rank.failures)
            return [give_up(rank.view.rank, rank.view.lease.record, words)], math.inf
    return [], math.inf


def expired(observation: Observation, now: Now) -> tuple[list[Action], float]:
    """Delete a job that ended long enough ago, or return when to look again."""
    limit_s, ended = observation.job.policy.ttl_s, _ended(observation)
    if limit_s is None or ended is None:
        return [], math.inf
    left_s = limit_s - _age_s(ended, now)
    if left_s > 0:
        return [], now.at + left_s
    return [DeleteJob(f"it ended {limit_s} s ago (spec.ttlSecondsAfterFinished)")], math.inf


def _ended(observation: Observation) -> str | None:
    """Return when the job ended, as its status says; None before that."""
    ends = [c for c in observation.job.status.conditions if c.type in (ConditionType.COMPLETE, ConditionType.FAILED)]
    return next((condition.last_transition_time for condition in ends if condition.holds), None)


def _age_s(stamp: str, now: Now) -> float:
    try:
        return (now.wall - datetime.fromisoformat(stamp)).total_seconds()
    except ValueError:
        return 0.0  # not a time: the deadline then comes late, and never too early
