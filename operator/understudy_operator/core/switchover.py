"""A planned change of primary, asked for by an annotation of the job: `understudy.dev/switchover: "<rank>"`.

Three writes, each repaired by the next look: the request goes onto the rank's Lease, for its present term; the
annotation comes off the job; the primary's pod is deleted, and hands over as in any deletion. Guarantees that one
annotation causes one switchover, whatever dies between two of the writes, and that none begins before a redundant pod
is ready. Does not guarantee that the successor is the pod that was ready then.
"""

from understudy_contract.reports import Phase

from understudy_operator.core.actions import Action, ClearSwitchover, DeletePod, Emit, EventReason, TakeSwitchover
from understudy_operator.core.model import Now, Observation, RankView
from understudy_operator.core.succession import candidates


def switch_over(observation: Observation, view: RankView, now: Now) -> list[Action]:
    """List what a request still asks for of one rank."""
    lease, primary, asked = view.lease, view.primary, observation.job.switchover == str(view.rank)
    if lease is None or primary is None:
        return []
    if lease.record.switchover == lease.record.term:
        if asked:
            return [ClearSwitchover()]
        alive = primary.deleting_since is None and not primary.ended and lease.record.current_release is None
        return [DeletePod(primary, "its rank was asked to switch over")] if alive else []
    if not asked:
        return []
    if lease.phase is Phase.TRAINING and any(c.ready and c.fresh for c in candidates(view, observation.nodes, now.at)):
        return [TakeSwitchover(view.rank, lease.record)]
    waits = f"Rank {view.rank} is to switch over: waiting until its primary trains and a redundant pod is ready."
    return [Emit(f"switchover {view.rank} {lease.record.term}", False, EventReason.SWITCHOVER_WAITS, waits)]


def unknown(observation: Observation) -> list[Action]:
    """Refuse a request that names no rank."""
    asked, ranks = observation.job.switchover, observation.job.policy.ranks
    if asked is None or asked in map(str, range(ranks)):
        return []
    said = (
        f"The annotation understudy.dev/switchover asks for {asked!r}: give a rank, 0 to {ranks - 1}. It was removed."
    )
    return [Emit(f"switchover {asked}", True, EventReason.SWITCHOVER_REFUSED, said), ClearSwitchover()]
