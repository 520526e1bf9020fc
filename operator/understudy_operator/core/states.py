"""Each rank judged once, before anything is decided: the values that every part of a decision reads.

A rank is judged by its own Leases and pods and by its group. A group is a set of ranks that share one line of
checkpoints: what one of them has committed, each of them goes on from. So the durable floor, the progress since a
failure and the end of the training are values of a group. In strategy Independent, the only one that there is, each
rank is a group of its own.

Guarantees that a rank which cannot be judged, because of an error in the operator, takes nothing from the others: it
counts as one that needs nothing, and its fault is kept. Nothing is judged of a job that is over or suspended: there
nobody is to be replaced. Pure; the times are those of the operator's monotonic clock.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from understudy_contract.reports import CheckpointRef

from understudy_operator.core import budget
from understudy_operator.core.candidates import Candidate, candidates
from understudy_operator.core.completion import job_complete, job_failed, rank_complete
from understudy_operator.core.detection import Failure, judge_primary
from understudy_operator.core.faults import Fault
from understudy_operator.core.model import Lease, Observation, RankView


@dataclass(frozen=True, slots=True)
class Group:
    """What is true of all the ranks that share one line of checkpoints."""

    floor: CheckpointRef | None
    """The newest checkpoint that any of them is known to have committed: a successor starts from it, or a newer one."""
    complete: bool
    """Each of them has finished its training."""


@dataclass(frozen=True, slots=True)
class RankState:
    """One rank, judged."""

    view: RankView
    group: Group
    complete: bool
    """It has finished its own training."""
    failures: int = 0
    """Failures of its program in a row, without a new checkpoint of the group between them."""
    candidates: tuple[Candidate, ...] = ()
    """The redundant pods that may take it over."""
    verdict: Failure | float = math.inf
    """Why its holder is lost, or when to look again: monotonic seconds, inf for the next event."""
    fault: Fault | None = None
    """Why it could not be judged."""


@dataclass(frozen=True, slots=True)
class JobState:
    """An Observation, with each of its ranks judged."""

    observation: Observation
    ranks: tuple[RankState, ...]
    complete: bool
    failed: bool

    @property
    def over(self) -> bool:
        """No pod of the job has to run any more."""
        return self.complete or self.failed


def judge(observation: Observation) -> JobState:
    """Judge each rank of a job."""
    complete, failed = job_complete(observation), job_failed(observation)
    idle = complete or failed or observation.job.policy.suspend
    found = []
    for members in _groups(observation.ranks):
        ended = [rank_complete(view) for view in members]
        group = Group(_floor(members), all(ended))
        for view, done in zip(members, ended, strict=True):
            failures = budget.application_failures(view.lease.record, group.floor) if view.lease is not None else 0
            state = RankState(view, group, done, failures)
            if view.lease is not None and not idle and not done:
                state = _judge_rank(observation, state, view.lease)
            found.append(state)
    return JobState(observation, tuple(found), complete, failed)


def _groups(views: Sequence[RankView]) -> Iterator[tuple[RankView, ...]]:
    """Part the ranks into groups, in the order of the ranks: Independent ones are alone."""
    return ((view,) for view in views)


def _floor(members: Sequence[RankView]) -> CheckpointRef | None:
    floors = (view.lease.record.floor for view in members if view.lease is not None)
    return max((floor for floor in floors if floor is not None), default=None)


def _judge_rank(observation: Observation, state: RankState, lease: Lease) -> RankState:
    """Judge a rank that trains, as far as that is possible."""
    view, policy, fleet = state.view, observation.job.policy, observation.fleet
    try:
        waiting = tuple(candidates(view, fleet.nodes, fleet.at))
        if not lease.record.holder:  # nobody holds it: it is to be resumed
            return replace(state, candidates=waiting)
        verdict = judge_primary(
            lease,
            view.primary,
            fleet,
            hand_over_s=policy.hand_over_s,
            standby_ready=any(c.ready and c.timely and c.steady_at <= fleet.at for c in waiting),
            pending=lease.record.holder in observation.pending_pods,
        )
        if isinstance(verdict, float):
            verdict = min([verdict, *(c.steady_at for c in waiting if c.steady_at > fleet.at)])
        return replace(state, candidates=waiting, verdict=verdict)
    except Exception as error:  # noqa: BLE001 - it must cost no other rank its promotion; it is reported
        return replace(state, fault=Fault(f"rank {view.rank}", error))
