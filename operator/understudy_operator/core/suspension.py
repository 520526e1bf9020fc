"""Suspending a job: every pod saves and ends, and then nobody holds the ranks until the job is resumed.

Guarantees that a Lease keeps its holder until no pod of the rank can run any more, so that a suspension which is taken
back before that is an ordinary hand-over; and that a resumed rank goes on at a higher term from its durable
floor, with no failure counted. Does not wait for pods on a node that is cut off: they keep the job from being
suspended, not from being resumed. Looks at no clock: nothing is judged meanwhile.
"""

from understudy_contract.names import pod_name

from understudy_operator.core import budget
from understudy_operator.core.actions import Action, Promote
from understudy_operator.core.completion import rank_complete
from understudy_operator.core.model import Job, Now, Observation, RankView
from understudy_operator.core.patches import vacate
from understudy_operator.core.provisioning import removals
from understudy_operator.core.states import JobState, RankState


def suspend_rank(job: JobState, rank: RankState, now: Now) -> tuple[list[Action], float]:
    """List what is left to do until nothing of a rank runs, and when to look again."""
    view = rank.view
    actions, wake_at = removals(job.observation.job.name, rank, now, over="the job is suspended")
    if rank.complete or living(job.observation.job, view):
        return actions, wake_at
    held = [lease.record for lease in view.slots if lease is not None and lease.record.holder]
    vacated = [vacate(view.rank, record) for record in held]
    if view.lease is not None and view.lease.record.holder:
        vacated = [vacate(view.rank, view.lease.record, rank.group.floor), *vacated]
    return [*actions, *vacated], wake_at


def suspended(observation: Observation) -> bool:
    """Tell whether nothing of the job runs any more because it is suspended."""
    if not observation.job.policy.suspend:
        return False
    views = [view for view in observation.ranks if not rank_complete(view)]
    held = any(lease is not None and lease.record.holder for v in views for lease in (v.lease, *v.slots))
    return not held and not any(living(observation.job, view) for view in views)


def living(job: Job, view: RankView) -> list[str]:
    """List the pods of a rank that may still run, without copies that somebody made of them."""
    return sorted(pod.name for pod in view.pods.values() if not pod.ended and pod.is_of(job.name))


def resume_rank(job: Job, rank: RankState) -> Promote:
    """Give a rank that nobody holds to a new pod."""
    view = rank.view
    assert view.lease is not None
    record = view.lease.record
    return Promote(
        rank=view.rank,
        lease=record,
        target=pod_name(job.name, view.rank, record.incarnation),
        cold=True,
        floor=rank.group.floor,
        failures=budget.standing(record, rank.group.floor),
        promotion=None,
        suspect_node=None,
    )
