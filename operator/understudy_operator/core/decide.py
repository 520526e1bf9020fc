"""decide: what is to be done about a job, in order, and when to look again.

A decision has three steps. First each rank is judged, once (states.py): is it complete, is its holder lost, who could
take it over. Then the promotions are decided. Only if there are none, everything else is: Leases and pods, children of
the job, status, conditions and Events. So the time that a failover waits for its decision holds nothing else; what was
left out is decided a moment later, once the promotions are carried out.

Deterministic: equal observations and times give equal decisions. An error in one part of a decision takes no other part
from it, least of all a promotion (faults.py). Reads no clock.
"""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from understudy_contract.names import Role

from understudy_operator.core import status as status_clause
from understudy_operator.core.actions import (
    Action,
    AskWhy,
    GrantRights,
    KeepBudgets,
    OpenRank,
    OpenSlot,
    PatchLease,
    Prepare,
    Promote,
)
from understudy_operator.core.adoption import adopt
from understudy_operator.core.causes import unexplained
from understudy_operator.core.deadlines import expired, overdue
from understudy_operator.core.faults import Fault, Parts
from understudy_operator.core.model import Job, Now, Observation, RankView
from understudy_operator.core.opening import outrun
from understudy_operator.core.provisioning import OVER, labels, provide_rank, removals
from understudy_operator.core.states import JobState, RankState, judge
from understudy_operator.core.succession import succeed, survives_too_often
from understudy_operator.core.suspension import resume_rank, suspend_rank
from understudy_operator.core.switchover import refuse, switch_over

PREPARE_EVERY_S: Final = 300.0
"""How often the children of a job are made sure of: after once to twice this time, by job, so that jobs which an
operator found at its start do not come together each time."""
PREPARE_SILENT_S: Final = 15.0
"""The same while a worker is silent, since it may have lost its rights. Costs six requests, and one for each rank."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and when to decide again (monotonic seconds; inf: on the next event)."""

    promotions: tuple[Promote, ...]
    rest: tuple[Action, ...]
    """Everything else to do; empty if there are promotions, unless the whole decision was asked for."""
    wake_at: float
    faults: tuple[Fault, ...] = ()
    """What could not be decided."""


@dataclass(frozen=True, slots=True)
class RankDecision:
    """What becomes of one rank's primary."""

    rank: RankState
    outcome: Promote | PatchLease | Fault | float
    """A time: there is nothing to do before then. A Fault: it could not be decided."""


def decide(observation: Observation, now: Now, *, whole: bool = False) -> Decision:
    """Decide on the promotions of a job, and only if there are none on everything else; `whole`: on both anyway."""
    job = judge(observation)
    decided = decide_promotions(job, now)
    promotions = tuple(about.outcome for about in decided if isinstance(about.outcome, Promote))
    if promotions and not whole:
        return Decision(promotions, (), now.at)
    parts = decide_rest(job, decided, now)
    return Decision(promotions, tuple(parts.actions), parts.wake_at, tuple(parts.faults))


def decide_promotions(job: JobState, now: Now) -> tuple[RankDecision, ...]:
    """Decide what becomes of each rank's primary; nothing becomes of it if the job is over or suspended."""
    if job.over or job.observation.job.policy.suspend:
        return tuple(RankDecision(rank, math.inf) for rank in job.ranks)
    return tuple(RankDecision(rank, _outcome(job.observation.job, rank, now)) for rank in job.ranks)


def _outcome(job: Job, rank: RankState, now: Now) -> Promote | PatchLease | Fault | float:
    lease, verdict = rank.view.lease, rank.verdict
    if rank.fault is not None or lease is None or rank.complete:
        return rank.fault or math.inf
    try:
        if not lease.record.holder:
            return resume_rank(job, rank)
        if isinstance(verdict, float):
            return survives_too_often(job, rank, now) or verdict
        return succeed(job, rank, verdict, now)
    except Exception as error:  # noqa: BLE001 - it must cost no other rank its promotion; it is told
        return Fault(f"rank {rank.view.rank}", error)


def decide_rest(job: JobState, decided: tuple[RankDecision, ...], now: Now) -> Parts:
    """Decide on everything but promotions; a rank that is to be promoted needs nothing else for now."""
    observation = job.observation
    if job.over:
        parts = _over(job, now)
    elif observation.job.policy.suspend:
        parts = Parts(math.inf)
        for rank in job.ranks:
            parts.add(f"suspending rank {rank.view.rank}", partial(suspend_rank, job, rank, now))
    else:
        parts = _running(job, decided, now)
    parts.add("a switchover", partial(refuse, job))
    parts.add("adoption", partial(adopt, observation))
    parts.add("the report", partial(status_clause.report, job, now, tuple(parts.faults)))
    if any(fault.part == "the report" for fault in parts.faults):
        parts.add(
            "the report of a failed report", partial(status_clause.report_faults, observation, now, tuple(parts.faults))
        )
    return parts


def _over(job: JobState, now: Now) -> Parts:
    parts = Parts(math.inf)
    for rank in job.ranks:
        # The training may have ended before the labels followed its last promotion.
        number = rank.view.rank
        parts.add(f"labels of rank {number}", partial(_last_labels, rank.view))
        parts.add(f"removals of rank {number}", partial(removals, job.observation.job.name, rank, now, over=OVER))
    parts.add("removal of the job", partial(expired, job.observation, now))
    return parts


def _last_labels(view: RankView) -> list[Action]:
    return [a for a in labels(view) if Role.PRIMARY in (a.role, a.pod.role)]


def _running(job: JobState, decided: tuple[RankDecision, ...], now: Now) -> Parts:
    observation = job.observation
    # Events wake a job. This look finds what no event tells, such as the end of a gap in a watch.
    parts = Parts(now.at + observation.job.policy.lease_duration_s)
    # First, since the deadline must hold even if everything else fails each time.
    parts.add("the deadline", partial(overdue, job, now))
    # The first time, no pod can be made without the children. Later a lost rank needs its pods more urgently.
    if not observation.prepared:
        parts.add("preparation", partial(_prepare, job, now))
    due = [problem.again_at for problem in observation.problems.values() if problem.again_at > now.at]
    parts.wake_at = min(parts.wake_at, *due) if due else parts.wake_at
    for about in decided:
        parts.add(f"rank {about.rank.view.rank}", partial(_rank, job, about, now))
    if observation.prepared:
        parts.add("preparation", partial(_prepare, job, now))
    parts.add("rights of the workers", partial(_grant_rights, observation, parts.actions, now))
    parts.add("disruption budgets", partial(_keep_budgets, observation, now))
    return parts


def _rank(job: JobState, about: RankDecision, now: Now) -> tuple[Iterable[Action], float]:
    match about.outcome:
        case Fault():
            raise about.outcome.error
        case Promote():
            return (), math.inf
        case PatchLease():
            return (about.outcome,), math.inf
        case awaited_at:
            actions, again_at = provide_rank(job, about.rank, now)
            moves = (*outrun(job.observation, about.rank.view), *switch_over(job, about.rank))
            return (*moves, *_ask_why(job, about.rank), *actions), min(awaited_at, again_at)


def _ask_why(job: JobState, rank: RankState) -> list[AskWhy]:
    """Read the Events of pods that were told to end, if nothing else says why; once for each pod."""
    if rank.complete:
        return []
    name = job.observation.job.name
    return [AskWhy(pod) for pod in rank.view.pods.values() if pod.is_of(name) and unexplained(pod)]


def _prepare(job: JobState, now: Now) -> list[Action]:
    """Make sure of the job's children: at first, from time to time, and when missing rights would explain a silence.

    Not while Leases of an earlier job are in the way: its pods may still use its children. If this job took these over,
    they would be deleted with this job, and a pod whose ServiceAccount is gone is never heard again.
    """
    observation = job.observation
    if observation.leftovers or observation.blocked(Prepare, None, now.at):
        return []
    uid = observation.job.uid.encode()
    every_s = PREPARE_EVERY_S * (1 + zlib.crc32(uid) / 2**32)
    leases = [rank.view.lease for rank in job.ranks if rank.view.lease is not None and not rank.complete]
    if any(lease.acknowledged and lease.silent(now.at) for lease in leases):
        every_s = PREPARE_SILENT_S
    stale = observation.prepared_generation != observation.job.generation
    if now.at < observation.prepared_at + every_s and not stale:
        return []
    alone = all(pod.ended for view in observation.ranks for pod in view.pods.values())
    return [Prepare(trial=alone and (stale or not observation.prepared))]


def _grant_rights(observation: Observation, rest: list[Action], now: Now) -> list[Action]:
    """Give the workers the right to renew their Leases; wait while more Leases are about to be made."""
    if not observation.prepared or observation.blocked(GrantRights, None, now.at):
        return []
    leases = {
        lease.record.name for v in observation.ranks for lease in (v.lease, *v.slots, *v.surplus) if lease is not None
    }
    wanted = {(observation.job.policy.account_name, lease) for lease in leases}
    if wanted <= observation.granted or any(isinstance(action, OpenRank | OpenSlot) for action in rest):
        return []
    return [GrantRights(tuple(sorted(leases)))]


def _keep_budgets(observation: Observation, now: Now) -> list[Action]:
    """Let a drain evict a primary only while another pod could train, if another node could run that pod.

    On a volume of one node there is no budget: the replacement would need the node that is being drained, and the drain
    would wait for the replacement.
    """
    claim = observation.claim
    if not observation.prepared or claim is None or not claim.bound:
        return []
    wanted = observation.job.policy.redundancy > 0 and claim.shared
    if observation.budgets is wanted or observation.blocked(KeepBudgets, None, now.at):
        return []
    return [KeepBudgets(wanted)]
