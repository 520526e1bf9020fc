"""Condition Training: whether every rank has a primary that steps, else what is true of the first that does not.

A rank whose training is complete, and whose script has not ended, trains no more and has not failed: it is FINISHING.

Trusts the monotonic clock of the operator for a silence.
"""

from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.names import TRAINER_CONTAINER
from understudy_contract.reports import Cause, Phase

from understudy_operator.core import budget
from understudy_operator.core.completion import rank_complete
from understudy_operator.core.detection import judge_primary, perhaps_unmade, scene
from understudy_operator.core.model import Now, Observation, Pod, RankView, Waiting
from understudy_operator.core.opening import last_saves
from understudy_operator.core.pending import INITIALIZING, Finding, claim_refused, problem, stuck
from understudy_operator.core.succession import candidates

FINISHING: Final = "Finishing"
"""Reason of the condition, and phase of a job of which nothing trains any more."""
FINISHING_NAMED: Final = 3
"""Ranks that are named at most."""


def training(observation: Observation, complete: bool, now: Now) -> Finding:
    """Assess the condition Training."""
    if complete:
        return Finding(False, "Completed", "The training is over")
    if refused := claim_refused(observation):
        return Finding(False, str(EventReason.CLAIM_REFUSED), refused)
    for view in observation.ranks:
        finding = _rank_training(observation, view, now)
        if finding is not None:
            return problem(observation) or finding
    return _all_well(observation)


def _all_well(observation: Observation) -> Finding:
    ending = [view for view in observation.ranks if finishing(view)]
    if not ending:
        return Finding(True, "Training", "Every rank trains")
    waits = [f"container {TRAINER_CONTAINER} of pod {v.primary.name} (rank {v.rank})" for v in ending if v.primary]
    more = f" and {len(waits) - FINISHING_NAMED} more" if len(waits) > FINISHING_NAMED else ""
    limit = f"{observation.job.policy.end_deadline_s} s after its last step (spec.failover.endDeadlineSeconds)"
    named = ", ".join(waits[:FINISHING_NAMED]) + more
    said = f"Training complete, waiting for the script to end: {named}; it is ended {limit}"
    if all(finishing(view) or rank_complete(view) for view in observation.ranks):
        return Finding(False, FINISHING, said)
    return Finding(True, "Training", f"Every other rank trains. {said}")


def finishing(view: RankView) -> bool:
    """Tell whether a rank's training is complete, and its script has not ended."""
    if view.lease is None or view.primary is None or rank_complete(view):
        return False
    return view.lease.phase is Phase.FINISHING and _trains(view)


def _rank_training(observation: Observation, view: RankView, now: Now) -> Finding | None:
    if view.lease is None:
        if saving := last_saves(observation):
            who = ", ".join(saving)
            return Finding(False, "Starting", f"Waiting for the last saves of an earlier job of this name: {who}")
        return Finding(False, "Starting", f"Rank {view.rank} has no pod yet")
    record = view.lease.record
    if rank_complete(view):
        return None
    if view.primary is not None and _trains(view):
        return _silent(observation, view.primary, record.patience_s) if view.lease.silent(now.at) else None
    if view.primary is not None:
        if view.primary.deleting_since is not None and not view.primary.ended:
            ends = view.lease.phase is Phase.FINISHING
            what = "its training is complete, and its script may end" if ends else "it saves, and hands over"
            return Finding(False, "HandingOver", f"Pod {record.holder} was deleted: {what}")
        held_up = stuck(observation, view.primary)
        if held_up is not None:
            return held_up
        if view.primary.ended and view.primary.reason:
            ended = f"Pod {record.holder} was ended by its node ({view.primary.reason}): see `kubectl describe pod`"
            return Finding(False, "Ended", f"{ended}. A new pod is made, with growing pauses.")
    return _failing(view) or _ended(observation, view, now) or _starting(view)


def _ended(observation: Observation, view: RankView, now: Now) -> Finding | None:
    """Say why a rank's pod is lost that has ended or is gone, and what is awaited in its place."""
    assert view.lease is not None
    if perhaps_unmade(view.lease, view.primary):
        return None
    lost = judge_primary(
        view.lease,
        view.primary,
        scene(observation, now),
        hand_over_s=observation.job.policy.hand_over_s,
        relieved=False,
        unborn=view.lease.record.holder in observation.unborn,
    )
    if isinstance(lost, float) or lost.silent:
        return None
    # Which of them is not said: who is heard in time may change with every look.
    waits = bool(candidates(view, observation.nodes, now.at))
    awaited = "A redundant pod is to take over once it is heard" if waits else "A new pod is made, after a pause"
    return Finding(False, "Ended", f"Rank {view.rank} has lost its primary: {lost.message}. {awaited}.")


def _starting(view: RankView) -> Finding:
    """Say which pod is awaited, and what became of the one before if that was replaced by it."""
    assert view.lease is not None
    record = view.lease.record
    message, last = f"Pod {record.holder} of rank {view.rank} is starting", record.promotion
    container = view.primary.container if view.primary is not None else None
    if isinstance(container, Waiting) and container.reason == INITIALIZING:
        message += " (its init containers have not ended)"
    if last is not None and last.term == record.term and last.cold:
        message += f" in place of another: {last.message}"
    return Finding(False, "Starting", message)


def _failing(view: RankView) -> Finding | None:
    """Say why a rank that does not train failed before."""
    assert view.lease is not None
    record = view.lease.record
    failed = budget.application_failures(record)
    if failed > 0 and record.promotion is not None:
        times = "once" if failed == 1 else f"{failed} times"
        return Finding(
            False,
            "Failing",
            f"Rank {view.rank} has failed {times} without a new checkpoint; last: "
            f"{record.promotion.message}. Correct the script or its image; it is tried again with growing pauses.",
        )
    if record.failures > 0 and record.promotion is not None and record.promotion.cause == Cause.VOLUME_TROUBLE:
        mend = "Mend the volume; what was saved is left as it is, and it is tried again with growing pauses."
        return Finding(False, "VolumeTrouble", f"Rank {view.rank} cannot begin; {record.promotion.message}. {mend}")
    return None


def _silent(observation: Observation, pod: Pod, silent_s: int) -> Finding:
    if observation.control_plane_degraded:
        why = "No worker is heard: it is taken for cut off, not for dead, and is not replaced."
    elif pod.node is not None and observation.nodes.get(pod.node, False):
        why = "Its node is Ready and no redundant pod is warm, so it is not replaced: delete it if it hangs."
    elif observation.one_node:
        why = f"Node {pod.node} is not Ready, and its volume can be mounted on no other: bring the node back."
    else:
        why = "It is being replaced."
    return Finding(False, "Silent", f"Pod {pod.name} has not renewed its Lease for {silent_s} s. {why}")


def _trains(view: RankView) -> bool:
    assert view.lease is not None and view.primary is not None
    alive = view.primary.deleting_since is None and not view.primary.ended
    return alive and view.lease.record.current_release is None and view.lease.phase in (Phase.TRAINING, Phase.FINISHING)
