"""Which ended pods of a job may be removed when a quota has no room for a new pod. Pure; looks at no clock.

Ended pods are kept so that their logs can be read. A quota of `count/pods` counts them like pods that run (`pods`, and
quotas of CPU and memory, do not). A log must not keep a rank from its pod, so ended pods are removed, one for each
refusal. Guarantees that no pod is listed that may still run, and none that a Lease still names: its end has not been
decided on yet.
"""

from understudy_contract.names import Rank

from understudy_operator.core.completion import rank_complete
from understudy_operator.core.model import Observation, Pod


def expendable(observation: Observation, rank: Rank | None, *, results: bool = True) -> list[Pod]:
    """List the ended pods that may go, in the order in which they should, for a pod of `rank` (None: of any rank).

    Those of the same rank first, the oldest first; last of all those that completed their ranks, whose logs are the
    ones that people want (`results`; False: not those). None of a rank whose Lease is lost: it is opened anew above the
    names and terms that its pods remember.
    """
    views = [view for view in observation.ranks if view.lease is not None]
    completed: set[str] = set()
    named: set[str] = set()
    for view in views:
        for lease in (view.lease, *view.slots, *view.surplus):
            if lease is not None and lease.record.holder:
                done = results and lease is view.lease and rank_complete(view)
                (completed if done else named).add(lease.record.holder)
    pods = [pod for view in views for pod in view.pods.values()]
    ended = [p for p in pods if p.finished and p.deleting_since is None and p.is_of(observation.job.name)]
    free = [p for p in ended if p.name not in named]
    return sorted(free, key=lambda p: (p.name in completed, p.rank != rank, p.created, p.rank, p.incarnation))
