"""decide: what is to be done about a job, in order, and when to look again.

Deterministic: equal observations and times give equal decisions. Promotions stand apart from the rest, because they
may not wait for it.
"""

import math
from dataclasses import dataclass

from understudy_operator.core import status as status_clause
from understudy_operator.core.actions import Action, DeletePod, Prepare, Promote
from understudy_operator.core.completion import job_complete, rank_complete
from understudy_operator.core.detection import judge_primary
from understudy_operator.core.model import Now, Observation, RankView
from understudy_operator.core.provisioning import provide_rank
from understudy_operator.core.succession import candidates, succeed


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and when to decide again (monotonic seconds; inf: on the next event)."""

    promotions: tuple[Promote, ...]
    rest: tuple[Action, ...]
    wake_at: float


def decide(observation: Observation, now: Now) -> Decision:
    """Decide on a job."""
    promotions: list[Promote] = []
    rest: list[Action] = []
    wake_at = math.inf
    if job_complete(observation):
        rest += _clear(observation)
    else:
        # Events wake a job; this look finds what no event told, such as a watch that came back to a world unchanged.
        wake_at = now.at + observation.job.policy.lease_duration_s
        if not observation.prepared:
            rest.append(Prepare())
        for view in observation.ranks:
            verdict = _promotion(observation, view, now)
            if isinstance(verdict, Promote):
                promotions.append(verdict)
                continue
            actions, again_at = provide_rank(observation, view, now)
            rest += actions
            wake_at = min(wake_at, verdict, again_at)
    report, again_at = status_clause.report(observation, now)
    rest += report
    return Decision(tuple(promotions), tuple(rest), min(wake_at, again_at))


def _promotion(observation: Observation, view: RankView, now: Now) -> Promote | float:
    if view.lease is None or rank_complete(view):
        return math.inf
    verdict = judge_primary(
        view.lease,
        view.primary,
        at=now.at,
        hand_over_s=observation.job.policy.hand_over_s,
        nodes=observation.nodes,
        relieved=any(c.ready and c.fresh for c in candidates(view, observation.nodes, now.at)),
        unborn=view.lease.record.holder in observation.unborn,
    )
    return verdict if isinstance(verdict, float) else succeed(observation.job, view, verdict, observation.nodes, now)


def _clear(observation: Observation) -> list[Action]:
    """End what still runs of a finished job."""
    return [
        DeletePod(pod, "its job is complete")
        for view in observation.ranks
        for pod in view.pods.values()
        if pod.is_of(observation.job.name) and not pod.ended and pod.deleting_since is None
        if view.lease is None or pod.name != view.lease.record.holder
    ]
