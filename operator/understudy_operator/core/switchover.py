"""A planned change of primary, asked for by an annotation of the job: `understudy.dev/switchover: "<rank>"`.

Three writes, each repaired by the next look: the request goes onto the rank's Lease, for its present term; the
annotation comes off the job; the primary's pod is deleted, and hands over as in any deletion. Guarantees that one
annotation causes one switchover, whatever dies between two of the writes, and that the pod is not deleted unless a
redundant pod is ready. Does not guarantee that the successor is the pod that was ready then.
"""

from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.reports import Phase
from understudy_contract.text import clean

from understudy_operator.core.actions import Action, ClearSwitchover, DeletePod, Emit
from understudy_operator.core.patches import take_switchover
from understudy_operator.core.states import JobState, RankState

ASKED_SHOWN_BYTES: Final = 64
"""How much of an invalid request is repeated in the Event, so that the reason after it stays readable."""


def switch_over(job: JobState, rank: RankState) -> list[Action]:
    """List what is still to be done for one rank that is asked to switch over."""
    view, asked = rank.view, job.observation.job.switchover
    lease, primary = view.lease, view.primary
    if lease is None or primary is None:
        return []
    taken = lease.record.switches_over
    if taken and asked == str(view.rank):
        return [ClearSwitchover(asked)]
    gone = primary.deleting_since is not None or primary.ended or lease.record.current_release is not None
    if gone or not (taken or asked == str(view.rank)):
        return []
    if lease.phase is Phase.TRAINING and any(c.ready and c.fresh for c in rank.candidates):
        if taken:
            return [DeletePod(primary, "its rank was asked to switch over")]
        return [take_switchover(view.rank, lease.record)]
    waits = f"Rank {view.rank} is to switch over: waiting until its primary trains and a redundant pod is ready."
    return [Emit(f"switchover {view.rank} {lease.record.term}", EventReason.SWITCHOVER_WAITS, waits)]


def refuse(job: JobState) -> list[Action]:
    """Remove a request that can never be served, and say why."""
    asked, policy = job.observation.job.switchover, job.observation.job.policy
    if asked is None:
        return []
    rank = next((rank for rank in job.ranks if asked == str(rank.view.rank)), None)
    if rank is None:
        why = f"give a rank, 0 to {policy.ranks - 1}"
    elif job.over or rank.complete:
        why = "its training is over"
    elif policy.suspend:
        why = "the job is suspended"
    elif policy.redundancy == 0:
        why = "spec.redundancy is 0, so that nobody could take over"
    else:
        return []
    said = f"The annotation understudy.dev/switchover={clean(asked, ASKED_SHOWN_BYTES)} was removed: {why}."
    request = f"switchover {job.observation.job.resource_version}"  # the same request, made again, is answered again
    return [Emit(request, EventReason.SWITCHOVER_REFUSED, said), ClearSwitchover(asked)]
