"""Condition Training: whether every rank has a primary that steps, else what is true of the first that does not.

A rank whose training is complete, and whose script has not ended, trains no more and has not failed: it is FINISHING.

Trusts the monotonic clock of the operator for a silence.
"""

from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import TRAINER_CONTAINER, Resume
from understudy_contract.reports import Cause, Phase

from understudy_operator.core import budget
from understudy_operator.core.adoption import in_the_way
from understudy_operator.core.causes import told
from understudy_operator.core.detection import perhaps_unmade
from understudy_operator.core.model import Now, Observation, Pod, RankView, Waiting
from understudy_operator.core.opening import last_saves
from understudy_operator.core.pending import INITIALIZING, Finding, claim_refused, problem, stuck, volume_trouble
from understudy_operator.core.states import JobState, RankState

FINISHING: Final = "Finishing"
"""Reason of the condition, and phase of a job of which nothing trains any more."""
FINISHING_NAMED: Final = 3
"""Ranks that are named at most."""


def training(job: JobState, complete: bool, now: Now) -> Finding:
    """Assess the condition Training."""
    observation = job.observation
    if complete:
        return Finding(False, "Completed", "The training is over")
    if refused := claim_refused(observation):
        return Finding(False, str(EventReason.CLAIM_REFUSED), refused)
    for rank in job.ranks:
        finding = _rank_training(observation, rank, now)
        if finding is not None:
            return problem(observation) or finding
    return _all_well(job)


def _all_well(job: JobState) -> Finding:
    ending = [rank.view for rank in job.ranks if finishing(rank)]
    if not ending:
        return Finding(True, "Training", f"Every rank trains{_restarted(job)}{_beside(job.observation)}")
    waits = [f"container {TRAINER_CONTAINER} of pod {v.primary.name} (rank {v.rank})" for v in ending if v.primary]
    more = f" and {len(waits) - FINISHING_NAMED} more" if len(waits) > FINISHING_NAMED else ""
    limit = f"{job.observation.job.policy.end_deadline_s} s after its last step (spec.failover.endDeadlineSeconds)"
    named = ", ".join(waits[:FINISHING_NAMED]) + more
    said = f"Training complete, waiting for the script to end: {named}; it is ended {limit}"
    if all(finishing(rank) or rank.complete for rank in job.ranks):
        return Finding(False, FINISHING, said)
    return Finding(True, "Training", f"Every other rank trains. {said}")


def finishing(rank: RankState) -> bool:
    """Tell whether a rank's training is complete, and its script has not ended."""
    view = rank.view
    if view.lease is None or view.primary is None or rank.complete:
        return False
    return view.lease.phase is Phase.FINISHING and _trains(view)


def _restarted(job: JobState) -> str:
    """Name the ranks whose trainers have failed and been started again in their pods since their newest checkpoint."""
    said = ""
    for rank in job.ranks:
        view = rank.view
        if view.lease is not None and not rank.complete and (failed := budget.survived(view.lease.record)) > 0:
            last = budget.last_survived(view.lease.record)
            said += f"; the trainer of rank {view.rank} has failed {_times(failed)} without a new checkpoint, and "
            said += f"was started again in its pod; last: {last}"
    return said


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _beside(observation: Observation) -> str:
    """Repeat what the primaries said of an earlier job's checkpoints that this job does not go on from."""
    records = [view.lease.record for view in observation.ranks if view.lease is not None]
    told = [r.notice.message for r in records if r.notice is not None and r.notice.reason == EventReason.NOT_INHERITED]
    return f"; {told[0]}" if told else ""


def _rank_training(observation: Observation, rank: RankState, now: Now) -> Finding | None:
    view = rank.view
    if view.lease is None:
        if (left := in_the_way(observation)) is not None:
            return left
        if saving := last_saves(observation):
            who = ", ".join(saving)
            return Finding(False, "Starting", f"Waiting for the last saves of an earlier job of this name: {who}")
        return Finding(False, "Starting", f"Rank {view.rank} has no pod yet")
    record = view.lease.record
    if rank.complete:
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
        if view.primary.ended and view.primary.reason and (reason := told(view.primary)) is not None:
            ended = f"Pod {record.holder} {reason.verb}{reason.tail}"
            return Finding(False, "Ended", f"{ended}. A new pod is made, with growing pauses.")
    return _held_by_volume(view) or _failing(rank) or _ended(rank) or _starting(observation, view)


def _held_by_volume(view: RankView) -> Finding | None:
    """Say why a primary that runs cannot begin on the volume, in its own words: it waits, and begins once it can."""
    assert view.lease is not None
    record, pod = view.lease.record, view.primary
    if pod is None or pod.ended or pod.deleting_since is not None or view.lease.phase is not Phase.STARTING:
        return None
    return volume_trouble(record, f"Pod {record.holder} of rank {view.rank} waits for its volume")


def _ended(rank: RankState) -> Finding | None:
    """Say why a rank's pod is lost that has ended or is gone, and what is awaited in its place."""
    view, lost = rank.view, rank.verdict
    assert view.lease is not None
    if perhaps_unmade(view.lease, view.primary):
        return None
    if isinstance(lost, float) or lost.silent:
        return None
    # Which of them is not said: who is heard in time may change with every look.
    awaited = (
        "A redundant pod is to take over once it is heard" if rank.candidates else "A new pod is made, after a pause"
    )
    return Finding(False, "Ended", f"Rank {view.rank} has lost its primary: {lost.message}. {awaited}.")


def _starting(observation: Observation, view: RankView) -> Finding:
    """Say which pod is awaited, and what became of the one before if that was replaced by it."""
    assert view.lease is not None
    record = view.lease.record
    message, last = f"Pod {record.holder} of rank {view.rank} is starting", record.promotion
    if survived := budget.last_survived(record):
        return Finding(False, "Starting", f"{message} its trainer again, which failed: {survived}")
    container = view.primary.container if view.primary is not None else None
    if isinstance(container, Waiting) and container.reason == INITIALIZING:
        message += " (its init containers have not ended)"
    if last is not None and last.term == record.term and last.cold:
        message += f" in place of another: {last.message}"
    return Finding(False, "Starting", message + _anew(observation, record))


def _anew(observation: Observation, record: LeaseRecord) -> str:
    """Warn before a training begins at step 0 on a claim that an earlier job of this name has used."""
    claim, job = observation.claim, observation.job
    if claim is None or claim.job_uid in ("", job.identity) or job.policy.resume != Resume.NEVER or record.floor:
        return ""
    return (
        f". It starts from step 0, beside what an earlier job of this name may have left on claim {claim.name}: to go "
        "on from that, delete this job and apply it with spec.checkpoint.resume: Latest"
    )


def _failing(rank: RankState) -> Finding | None:
    """Say why a rank that does not train failed before."""
    view, failed = rank.view, rank.failures
    assert view.lease is not None
    record = view.lease.record
    if budget.survived(record) > 0:
        return Finding(
            False,
            "Failing",
            f"Rank {view.rank} has failed {_times(failed)} without a new checkpoint; last: "
            f"{budget.last_survived(record)}. "
            f"Its trainer was started again in pod {record.holder}: correct the script.",
        )
    if failed > 0 and record.promotion is not None:
        return Finding(
            False,
            "Failing",
            f"Rank {view.rank} has failed {_times(failed)} without a new checkpoint; last: "
            f"{record.promotion.message}. Correct the script or its image; it is tried again with growing pauses.",
        )
    if record.failures > 0 and record.promotion is not None and record.promotion.cause == Cause.VOLUME_TROUBLE:
        mend = "Mend the volume; what was saved is left as it is, and it is tried again with growing pauses."
        return Finding(False, "VolumeTrouble", f"Rank {view.rank} cannot begin; {record.promotion.message}. {mend}")
    return None


def _silent(observation: Observation, pod: Pod, silent_s: int) -> Finding:
    if observation.fleet.control_plane_degraded:
        why = "No worker is heard: it is taken for cut off, not for dead, and is not replaced."
    elif pod.node is not None and observation.fleet.nodes.get(pod.node, False):
        why = "Its node is Ready and no redundant pod is warm, so it is not replaced: delete it if it hangs."
    elif observation.fleet.one_node:
        why = f"Node {pod.node} is not Ready, and its volume can be mounted on no other: bring the node back."
    else:
        why = "It is being replaced."
    return Finding(False, "Silent", f"Pod {pod.name} has not renewed its Lease for {silent_s} s. {why}")


def _trains(view: RankView) -> bool:
    assert view.lease is not None and view.primary is not None
    alive = view.primary.deleting_since is None and not view.primary.ended
    return alive and view.lease.record.current_release is None and view.lease.phase in (Phase.TRAINING, Phase.FINISHING)
