"""Opening a rank, for the first time or after its Lease was lost, and raising a term that the volume has passed.

A Lease may be deleted by hand at any moment, and etcd may be restored from a backup. Guarantees that a rank is opened
above every term and incarnation that status, pods or other Leases still show, and with everything else that they show
of it: whether it was complete, its durable floor (the status may be ten seconds behind), its failovers and failures.
A term that only the volume shows is reported by the primary before it begins (`term_floor`). Others may write on a
volume, so a term that the rank cannot have had (terms.py) raises nothing and becomes an Event. Looks at no clock.
"""

from collections.abc import Mapping
from typing import Any

from understudy_contract.bounds import TERM_MAX, clamp
from understudy_contract.events import EventReason
from understudy_contract.names import Resume, Role, Term, pod_name
from understudy_contract.reports import CheckpointRef, Heartbeat, Promotion
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
    status = observation.job.status
    entries = [entry for entry in status.get("ranks", ()) if entry.get("rank") == view.rank]
    failovers = [entry for entry in status.get("failovers", ()) if entry.get("rank") == view.rank]
    known = [pod.term or 0 for pod in view.pods.values()]
    known += [clamp(int(entry.get("term", 0)), TERM_MAX) for entry in (*entries, *failovers)]
    # A name is used only once: an earlier pod of that name may run on, cut off, and would believe to hold the Lease.
    mine = pod_name(observation.job.name, view.rank, 0).removesuffix("0")
    named = [*view.pods, *(name for name in observation.predecessor_pods if name.startswith(mine))]
    named += [lease.record.holder for lease in view.slots if lease is not None]
    named += [str(entry.get("primary", "")) for entry in entries]
    named += [str(pod.get("pod", "")) for entry in entries for pod in entry.get("redundant", ())]
    named += [str(entry.get(end, "")) for entry in failovers for end in ("from", "to")]
    incarnation = max(incarnation_of(name) for name in ("", *named)) + 1
    # The label and the status are written one beside the other: either may still lack the last promotion.
    terms = {str(entry["primary"]): int(entry.get("term", 0)) for entry in entries if entry.get("primary")}
    labelled = ((pod.name, pod.term or 0) for pod in view.pods.values() if pod.role is Role.PRIMARY)
    terms |= {name: max(term, terms.get(name, 0)) for name, term in labelled}
    ours = [pod for pod in view.pods.values() if pod.is_of(observation.job.name)]
    living = [pod for pod in ours if pod.name in terms and not pod.ended and pod.deleting_since is None]
    complete = any(entry.get("complete") and entry.get("primary") for entry in entries)
    if complete:
        holder = str(entries[0]["primary"])
    elif living:
        holder = max(living, key=lambda pod: terms[pod.name]).name
    else:
        holder, incarnation = pod_name(observation.job.name, view.rank, incarnation), incarnation + 1
    beats = [lease.record.current_heartbeat for lease in view.slots if lease is not None]
    floors = [beat.loaded for beat in beats if beat is not None and beat.loaded is not None]
    floor = max([*floors, *map(_checkpoint, entries)], key=_place, default=None)
    last: Mapping[str, Any] = max(failovers, key=lambda entry: int(entry["term"]), default={})
    counts = any(entry.get("failovers") or entry.get("failuresWithoutProgress") for entry in entries)
    promotion = _remembered(last, entries[0] if entries else {}) if last or counts else None
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


def _checkpoint(rank: Mapping[str, Any]) -> CheckpointRef | None:
    """Return the newest checkpoint that the status names for a rank, without the digest, which it does not hold."""
    if "checkpointStep" not in rank or "checkpointTerm" not in rank:
        return None
    return CheckpointRef(int(rank["checkpointTerm"]), int(rank["checkpointStep"]), "")


def _remembered(failover: Mapping[str, Any], rank: Mapping[str, Any]) -> Promotion:
    """Rebuild the record of the last promotion from the status, so that no count starts again.

    If the last failover is no longer listed, only the counts are known: term 0 stands for a promotion without details.
    """
    wall = str(failover.get("promotedAt", ""))
    return Promotion(
        term=int(failover.get("term", 0)),
        source=str(failover.get("from", "")),
        target=str(failover.get("to", "")),
        cause=str(failover.get("cause", "")),
        message=str(failover.get("message", "")),
        failed_at=str(failover.get("failedAt", wall)),
        detected_at=str(failover.get("detectedAt", wall)),
        promoted_at=wall,
        known_step=int(rank.get("step", 0)),
        known_step_exact=False,
        # As the status has it: the checkpoint from which the failures are counted must not look like a new one.
        checkpoint=_checkpoint(rank),
        cold=bool(failover.get("cold", False)),
        failovers=int(rank.get("failovers", 1 if failover else 0)),
        restarts=int(rank.get("restarts", 0)),
        failures=int(rank.get("failuresWithoutProgress", 0)),
    )
