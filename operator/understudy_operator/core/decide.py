"""decide: what is to be done about a job, in order, and when to look again.

Deterministic: equal observations and times give equal decisions. Promotions stand apart from the rest, because they
may not wait for it; and no error in one part of a decision takes another part from it (faults.py).
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
    GiveUp,
    GrantRights,
    KeepBudgets,
    OpenRank,
    OpenSlot,
    Prepare,
    Promote,
)
from understudy_operator.core.adoption import adopt
from understudy_operator.core.causes import unexplained
from understudy_operator.core.completion import job_over, rank_complete
from understudy_operator.core.deadlines import expired, overdue
from understudy_operator.core.detection import judge_primary, scene
from understudy_operator.core.faults import Fault, Parts
from understudy_operator.core.model import Now, Observation, RankView
from understudy_operator.core.opening import raise_term
from understudy_operator.core.provisioning import OVER, labels, provide_rank, removals
from understudy_operator.core.succession import candidates, succeed, survives_too_often
from understudy_operator.core.suspension import resume_rank, suspend_rank
from understudy_operator.core.switchover import refuse, switch_over

PREPARE_EVERY_S: Final = 300.0
"""Up to twice that, so that the jobs of an operator that has just started do not come together ever after."""
PREPARE_SILENT_S: Final = 15.0
"""How often at most while a worker that runs is silent: six requests, and one a rank, since its rights may be what it
lacks."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and when to decide again (monotonic seconds; inf: on the next event)."""

    promotions: tuple[Promote, ...]
    rest: tuple[Action, ...]
    wake_at: float
    faults: tuple[Fault, ...] = ()
    """What could not be decided."""


def decide(observation: Observation, now: Now) -> Decision:
    """Decide on a job."""
    promotions: list[Promote] = []
    if job_over(observation):
        parts = _over(observation, now)
    elif observation.job.policy.suspend:
        parts = Parts(math.inf)
        for view in observation.ranks:
            parts.add(f"suspending rank {view.rank}", partial(suspend_rank, observation, view, now))
    else:
        parts = _running(observation, promotions, now)
    parts.add("a switchover", partial(refuse, observation))
    parts.add("adoption", partial(adopt, observation))
    parts.add("the report", partial(status_clause.report, observation, now, tuple(parts.faults)))
    if any(fault.part == "the report" for fault in parts.faults):
        parts.add(
            "the report of a failed report", partial(status_clause.report_faults, observation, now, tuple(parts.faults))
        )
    return Decision(tuple(promotions), tuple(parts.actions), parts.wake_at, tuple(parts.faults))


def _over(observation: Observation, now: Now) -> Parts:
    parts = Parts(math.inf)
    for view in observation.ranks:
        # A training may end before the labels have followed its last promotion; what else there is, goes.
        parts.add(f"labels of rank {view.rank}", partial(_last_labels, view))
        parts.add(f"removals of rank {view.rank}", partial(removals, observation.job.name, view, now, over=OVER))
    parts.add("removal of the job", partial(expired, observation, now))
    return parts


def _last_labels(view: RankView) -> list[Action]:
    return [a for a in labels(view) if Role.PRIMARY in (a.role, a.pod.role)]


def _running(observation: Observation, promotions: list[Promote], now: Now) -> Parts:
    # Events wake a job; this look finds what no event told, such as a watch that came back to a world unchanged.
    parts = Parts(now.at + observation.job.policy.lease_duration_s)
    # Before all that may fail, and keep the rest of its rank waiting: that would be for good.
    parts.add("the deadline", partial(overdue, observation, now))
    # At first nothing can be made without them; later, a lost rank needs its pods more.
    if not observation.prepared:
        parts.add("preparation", partial(_prepare, observation, now))
    due = [problem.again_at for problem in observation.problems.values() if problem.again_at > now.at]
    parts.wake_at = min(parts.wake_at, *due) if due else parts.wake_at
    for view in observation.ranks:
        parts.add(f"rank {view.rank}", partial(_rank, observation, view, promotions, now))
    if observation.prepared:
        parts.add("preparation", partial(_prepare, observation, now))
    parts.add("rights of the workers", partial(_grant_rights, observation, parts.actions, now))
    parts.add("disruption budgets", partial(_keep_budgets, observation, now))
    return parts


def _rank(
    observation: Observation, view: RankView, promotions: list[Promote], now: Now
) -> tuple[Iterable[Action], float]:
    verdict = _promotion(observation, view, now)
    if isinstance(verdict, Promote):
        promotions.append(verdict)
        return (), math.inf
    if isinstance(verdict, GiveUp):
        return (verdict,), math.inf
    actions, again_at = provide_rank(observation, view, now)
    moves = (*raise_term(observation, view), *switch_over(observation, view, now), *_ask_why(observation, view))
    return (*moves, *actions), min(verdict, again_at)


def _promotion(observation: Observation, view: RankView, now: Now) -> Promote | GiveUp | float:
    if view.lease is None or rank_complete(view):
        return math.inf
    if not view.lease.record.holder:
        return resume_rank(observation.job, view)
    waiting = candidates(view, observation.nodes, now.at)
    verdict = judge_primary(
        view.lease,
        view.primary,
        scene(observation, now),
        hand_over_s=observation.job.policy.hand_over_s,
        relieved=any(c.ready and c.timely and c.steady_at <= now.at for c in waiting),
        unborn=view.lease.record.holder in observation.unborn,
    )
    if isinstance(verdict, float):
        if (given_up := survives_too_often(observation.job, view, now)) is not None:
            return given_up
        return min([verdict, *(c.steady_at for c in waiting if c.steady_at > now.at)])
    return succeed(observation.job, view, verdict, observation.nodes, now)


def _ask_why(observation: Observation, view: RankView) -> list[AskWhy]:
    """Ask the Events of the pods that were told to end, and of which nothing else says why; each once."""
    if rank_complete(view):
        return []
    return [AskWhy(pod) for pod in view.pods.values() if pod.is_of(observation.job.name) and unexplained(pod)]


def _prepare(observation: Observation, now: Now) -> list[Action]:
    """Make sure of the children: at first, from time to time, and when missing rights would explain a silence.

    Not beside what an earlier job has left and this one does not adopt: the pods of that one may need the others. Made
    this job's, they would go with it, and a pod whose ServiceAccount has gone is never heard again.
    """
    if observation.leftovers or observation.blocked(Prepare, None, now.at):
        return []
    uid = observation.job.uid.encode()
    every_s = PREPARE_EVERY_S * (1 + zlib.crc32(uid) / 2**32)
    leases = [view.lease for view in observation.ranks if view.lease is not None and not rank_complete(view)]
    if any(lease.acknowledged and lease.silent(now.at) for lease in leases):
        every_s = PREPARE_SILENT_S
    stale = observation.prepared_generation != observation.job.generation
    if now.at < observation.prepared_at + every_s and not stale:
        return []
    alone = all(pod.ended for view in observation.ranks for pod in view.pods.values())
    return [Prepare(trial=alone and (stale or not observation.prepared))]


def _grant_rights(observation: Observation, rest: list[Action], now: Now) -> list[Action]:
    """Give the workers the right to the Leases that there are; all at once, where more are about to be made."""
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
    """Let a drain take a primary only while another pod can train; where no other node could run one, let it go.

    On a volume of one node the replacement would wait for the very node that is drained, and the drain for it.
    """
    claim = observation.claim
    if not observation.prepared or claim is None or not claim.bound:
        return []
    wanted = observation.job.policy.redundancy > 0 and claim.shared
    if observation.budgets is wanted or observation.blocked(KeepBudgets, None, now.at):
        return []
    return [KeepBudgets(wanted)]
