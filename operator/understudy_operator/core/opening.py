"""Opening a rank, for the first time or after its Lease was lost, and raising a term that the volume has passed.

A Lease may be deleted by hand at any moment, and etcd may be restored from a backup. Guarantees that a rank is opened
above every term and incarnation that status, pods or other Leases still show, and with everything else that they show
of it: whether it was complete, its durable floor (the status may be ten seconds behind), its failovers and failures.
A term that only the volume shows is reported by the primary before it begins (`term_floor`). Others may write on a
volume, so a term that the rank cannot have had (terms.py) raises nothing and becomes an Event. Looks at no clock.
"""

from understudy_contract.bounds import TERM_MAX, clamp
from understudy_contract.events import EventReason
from understudy_contract.names import Resume, Role, Term, pod_name
from understudy_contract.reports import CheckpointRef, Heartbeat, Promotion
from understudy_contract.status import FailoverStatus, RankStatus
from understudy_contract.terms import TERM_CEILING, highest_plausible

from understudy_operator.core.actions import Emit, OpenRank, PatchLease
from understudy_operator.core.model import Observation, RankView, incarnation_of
from understudy_operator.core.patches import raise_term


def last_saves(observation: Observation) -> list[str]:
    """List pods of the earlier job that may still save: a job that resumes from them opens no rank before they end."""
    if observation.job.policy.resume != Resume.LATEST:
        return []
    return sorted(name for name, saves in observation.predecessor_pods.items() if saves)


def open_rank(observation: Observation, view: RankView) -> OpenRank:
    """Open a rank: with the primary that outlived the Lease, with the one that completed it, or with a new pod."""
    told = observation.job.status.of_rank(view.rank) or RankStatus(rank=view.rank)
    failovers = observation.job.status.failovers_of(view.rank)
    known = [pod.term or 0 for pod in view.pods.values()]
    known += [clamp(term or 0, TERM_MAX) for term in (told.term, *(failover.term for failover in failovers))]
    # A name is used only once: an earlier pod of that name may run on, cut off, and would believe to hold the Lease.
    mine = pod_name(observation.job.name, view.rank, 0).removesuffix("0")
    named = [*view.pods, *(name for name in observation.predecessor_pods if name.startswith(mine))]
    named += [lease.record.holder for lease in view.slots if lease is not None]
    named += [told.primary or "", *(pod.pod for pod in told.redundant)]
    named += [name or "" for failover in failovers for name in (failover.source, failover.target)]
    incarnation = max(incarnation_of(name) for name in named) + 1
    # Label and status are written at the same time: each of them may still lack the last promotion.
    terms = {told.primary: told.term or 0} if told.primary else {}
    labelled = ((pod.name, pod.term or 0) for pod in view.pods.values() if pod.role is Role.PRIMARY)
    terms |= {name: max(term, terms.get(name, 0)) for name, term in labelled}
    ours = [pod for pod in view.pods.values() if pod.is_of(observation.job.name)]
    living = [pod for pod in ours if pod.name in terms and not pod.ended and pod.deleting_since is None]
    complete = bool(told.complete and told.primary)
    if told.complete and told.primary:
        holder = told.primary
    elif living:
        holder = max(living, key=lambda pod: terms[pod.name]).name
    else:
        holder, incarnation = pod_name(observation.job.name, view.rank, incarnation), incarnation + 1
    beats = [lease.record.current_heartbeat for lease in view.slots if lease is not None]
    floors = [beat.loaded for beat in beats if beat is not None and beat.loaded is not None]
    floor = max([*floors, _checkpoint(told)], key=_place, default=None)
    last = max(failovers, key=lambda failover: failover.term, default=None)
    counts = told.failovers or told.failures_without_progress
    promotion = _remembered(last, told) if last is not None or counts else None
    return OpenRank(view.rank, Term(max(known, default=0) + 1), holder, incarnation, floor, complete, promotion)


def outrun(observation: Observation, view: RankView) -> list[PatchLease | Emit]:
    """Raise the term of a primary that cannot begin, because the volume already has its term; it is no failure.

    Not after a release: a release counts only in its own term, and this one may say that the rank is complete.
    """
    beat = view.lease.record.current_heartbeat if view.lease is not None else None
    if view.lease is None or beat is None or beat.term_floor < beat.term or view.lease.record.current_release:
        return []
    if beat.term_floor >= min(highest_plausible(beat.term) + 1, TERM_CEILING):
        key = f"term floor {view.rank} {beat.term_floor}"
        return [Emit(key, EventReason.FOREIGN_ON_VOLUME, _implausible(observation, view.rank, beat))]
    return [raise_term(view.rank, view.lease.record, Term(beat.term_floor + 1))]


def _implausible(observation: Observation, rank: int, beat: Heartbeat) -> str:
    below = f"{observation.job.policy.sub_path}/" if observation.job.policy.sub_path else ""
    folder = f"{below}{observation.job.identity}/rank-{rank}/term-{beat.term_floor}-..."
    return (
        f"{beat.pod} cannot begin term {beat.term}: it reports term {beat.term_floor}, which rank {rank} cannot have "
        f"had. Remove {folder} from claim {observation.job.policy.claim_name}, then delete the pod"
    )


def _place(checkpoint: CheckpointRef | None) -> tuple[int, int]:
    return (checkpoint.term, checkpoint.step) if checkpoint is not None else (-1, -1)


def _checkpoint(rank: RankStatus) -> CheckpointRef | None:
    """Return the newest checkpoint that the status names for a rank, without the digest, which it does not hold."""
    if rank.checkpoint_step is None or rank.checkpoint_term is None:
        return None
    return CheckpointRef(rank.checkpoint_term, rank.checkpoint_step, "")


def _remembered(failover: FailoverStatus | None, rank: RankStatus) -> Promotion:
    """Rebuild the record of the last promotion from the status, so that no count starts again.

    If the last failover is no longer listed, only the counts are known: term 0 stands for a promotion without details.
    """
    last = failover or FailoverStatus(rank=rank.rank, term=0, promoted_at="")
    return Promotion(
        term=last.term,
        source=last.source or "",
        target=last.target or "",
        cause=last.cause or "",
        message=last.message or "",
        failed_at=last.promoted_at if last.failed_at is None else last.failed_at,
        detected_at=last.promoted_at if last.detected_at is None else last.detected_at,
        promoted_at=last.promoted_at,
        known_step=rank.step or 0,
        known_step_exact=False,
        # As the status has it: the checkpoint from which the failures are counted must not look like a new one.
        checkpoint=_checkpoint(rank),
        cold=bool(last.cold),
        failovers=int(failover is not None) if rank.failovers is None else rank.failovers,
        restarts=rank.restarts or 0,
        failures=rank.failures_without_progress or 0,
    )
