"""What a Lease says: holder, term, heartbeat, release, record of the last promotion; decoded and encoded in one
place.

Who writes what:

| field | rank's Lease | slot's Lease |
|---|---|---|
| holderIdentity, leaseTransitions, leaseDurationSeconds | operator (CAS on resourceVersion) | operator |
| annotations incarnation, floor, promotion, failures, given-up | operator | operator (failures only) |
| renewTime, annotations heartbeat, released, notice | holder (JSON Patch with `test` on holder and term) | holder |

`holderIdentity` is a pod's name; `leaseTransitions` is the term of a rank, and the number of assignments of a slot.
renewTime is for people and for the change that it makes: nobody compares it with a clock. A heartbeat or a release of
another term or pod than the Lease now names is history and is ignored (`current_heartbeat`, `current_release`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from understudy_contract.names import Annotation, Step, Term

_T = TypeVar("_T", bound=msgspec.Struct)

LAST_WORDS_MAX_CHARS: Final = 1024
"""A release's message is cut here: annotations of one object share 256 KiB, and status repeats them."""


class Phase(StrEnum):
    """What the process behind a heartbeat is doing."""

    STARTING = "starting"
    """Importing, building, warming up, restoring: it could not take a step at once."""
    READY = "ready"
    """Redundant: warm, with the newest known checkpoint loaded."""
    TRAINING = "training"
    FINISHING = "finishing"
    """The last step is committed; the script's code behind `train` runs."""


class Cause(StrEnum):
    """Why a rank's primary was replaced."""

    POD_DELETED = "PodDeleted"
    PROCESS_EXITED = "ProcessExited"
    CONTAINER_EXITED = "ContainerExited"
    LEASE_EXPIRED = "LeaseExpired"
    STALLED = "Stalled"
    NOT_INTEGRATED = "NotIntegrated"


class CheckpointRef(msgspec.Struct, frozen=True, order=True):
    """Name of one committed checkpoint. Order: by term, then by step."""

    term: int
    step: int
    digest: str
    """SHA-256 of the manifest, in hexadecimal."""


class FirstStep(msgspec.Struct, frozen=True):
    """The first step that a primary completed in its term."""

    step: int
    """Steps completed, this one included: the term resumed from `step - 1`."""
    at: str
    """Wall-clock time of the worker, RFC 3339 with microseconds: for display."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a worker reports inside its renewal."""

    pod: str
    """The reporter; must equal holderIdentity to count."""
    term: int
    """The reporter's term of the Lease it renews (leaseTransitions); must be equal to count."""
    phase: Phase
    step: int = 0
    """Steps completed."""
    loaded: CheckpointRef | None = None
    """Redundant: the checkpoint that is verified and loaded."""
    checkpoint: CheckpointRef | None = None
    """Primary: newest commit of its own, or the one it started from: the durable floor."""
    first_step: FirstStep | None = None
    volume: str | None = None
    """Random id of the volume, as read from the volume."""
    model: str | None = None
    """Path of the finished model, relative to the volume's root."""


class Notice(msgspec.Struct, frozen=True):
    """One sentence of a worker for the job's Events."""

    reason: str
    message: str


class Promotion(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Record of the last promotion of a rank, written in the same CAS that decides it."""

    term: int
    source: str
    """Pod that lost the rank."""
    target: str
    cause: Cause
    message: str
    failed_at: str
    detected_at: str
    promoted_at: str
    known_step: int
    """Last step that the old primary is known to have completed."""
    known_step_exact: bool
    """False: the old primary may have gone on after its last report, so lost steps are a lower bound."""
    cold: bool = False
    """No redundant pod could take over: the target was created for it."""
    checkpoint: CheckpointRef | None = None
    failovers: int = 1
    """Promotions of this rank so far, this one included."""
    restarts: int = 0
    """Cold ones among them."""
    failures: int = 0
    """Consecutive failures of the application up to this one, with no new checkpoint between them."""


class GivenUp(msgspec.Struct, frozen=True):
    """A rank that failed too often, and is not tried again."""

    cause: Cause
    message: str
    at: str


@dataclass(frozen=True, slots=True)
class Release:
    """A holder's own statement that it gives the Lease up."""

    term: Term
    reason: str
    """A ReleaseReason, or one that a later release knows."""
    exit_code: int
    message: str = ""

    def encode(self) -> str:
        """Render `<term>:<reason>:<exit code>:<message>`."""
        return f"{self.term}:{self.reason}:{self.exit_code}:{self.message[:LAST_WORDS_MAX_CHARS]}"

    @classmethod
    def decode(cls, text: str) -> "Release | None":
        """Parse `encode`'s form; None for anything else."""
        term, _, rest = text.partition(":")
        reason, _, rest = rest.partition(":")
        code, _, message = rest.partition(":")
        if not (term.isdigit() and reason and code.lstrip("-").isdigit()):
            return None
        return cls(Term(int(term)), reason, int(code), message)


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A Lease, decoded. Unreadable annotations decode as absent: a damaged report is a missing one."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    holder: str
    term: Term
    duration_s: int
    renew_time: str | None
    incarnation: int = 0
    """Incarnations of the rank taken so far: the next pod's number."""
    failures: int = 0
    """Consecutive failures of the application without progress between them."""
    promotion: Promotion | None = None
    given_up: GivenUp | None = None
    operator_floor: CheckpointRef | None = None
    heartbeat: Heartbeat | None = None
    release: Release | None = None
    notice: Notice | None = None
    owner_uid: str = ""
    """uid of the owning TrainingJob."""
    labels: Mapping[str, str] | None = None

    @property
    def current_heartbeat(self) -> Heartbeat | None:
        """The heartbeat, if the present holder wrote it in the present term."""
        beat = self.heartbeat
        return beat if beat is not None and beat.pod == self.holder and beat.term == self.term else None

    @property
    def current_release(self) -> Release | None:
        """The release, if it is one of the present term."""
        return self.release if self.release is not None and self.release.term == self.term else None

    @property
    def floor(self) -> CheckpointRef | None:
        """The durable floor: the newest checkpoint that is known to be committed, from whomever it is known."""
        reported = self.heartbeat.checkpoint if self.heartbeat else None
        return max((ref for ref in (self.operator_floor, reported) if ref is not None), default=None)

    @property
    def floor_step(self) -> Step:
        """Step of the durable floor; 0 without one."""
        return Step(self.floor.step if self.floor else 0)


def encode(value: msgspec.Struct) -> str:
    """Render an annotation's JSON."""
    return msgspec.json.encode(value).decode()


def _decode(kind: type[_T], text: str | None) -> _T | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None


def _natural(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


class _Owner(msgspec.Struct):
    uid: str
    controller: bool = False


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    uid: str
    resource_version: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[_Owner] = []


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_transitions: int | None = None
    lease_duration_seconds: int | None = None
    renew_time: str | None = None


class LeaseObject(msgspec.Struct):
    """The part of a coordination.k8s.io/v1 Lease that is read."""

    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)

    def record(self) -> LeaseRecord:
        """Interpret the annotations."""
        meta, spec = self.metadata, self.spec
        notes = meta.annotations
        released = notes.get(Annotation.RELEASED)
        return LeaseRecord(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version,
            holder=spec.holder_identity or "",
            term=Term(spec.lease_transitions or 0),
            duration_s=spec.lease_duration_seconds or 0,
            renew_time=spec.renew_time,
            incarnation=_natural(notes.get(Annotation.INCARNATION)),
            failures=_natural(notes.get(Annotation.FAILURES)),
            promotion=_decode(Promotion, notes.get(Annotation.PROMOTION)),
            given_up=_decode(GivenUp, notes.get(Annotation.GIVEN_UP)),
            operator_floor=_decode(CheckpointRef, notes.get(Annotation.FLOOR)),
            heartbeat=_decode(Heartbeat, notes.get(Annotation.HEARTBEAT)),
            release=Release.decode(released) if released else None,
            notice=_decode(Notice, notes.get(Annotation.NOTICE)),
            owner_uid=meta.owner_references[0].uid if meta.owner_references else "",
            labels=meta.labels,
        )


def decode_lease(body: bytes) -> LeaseRecord:
    """Decode one Lease of the API's JSON; raises msgspec.MsgspecError on anything that is not a Lease."""
    return msgspec.json.decode(body, type=LeaseObject).record()


def micro_time(moment: datetime) -> str:
    """Render a MicroTime; the API refuses one without its fraction, which isoformat drops when it is 0."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _pointer(annotation: Annotation) -> str:
    return "/metadata/annotations/" + annotation.replace("~", "~0").replace("/", "~1")


def renewal_patch(
    beat: Heartbeat, now: datetime, *, release: Release | None = None, notice: Notice | None = None
) -> bytes:
    """Build a renewal: a JSON Patch that the API refuses with 422 once holder or term have changed.

    Needs the Lease's annotations map to exist (`add` below a missing map is refused): the operator creates Leases
    with one.
    """
    patch: list[dict[str, object]] = [
        {"op": "test", "path": "/spec/holderIdentity", "value": beat.pod},
        {"op": "test", "path": "/spec/leaseTransitions", "value": beat.term},
        {"op": "add", "path": "/spec/renewTime", "value": micro_time(now)},
        {"op": "add", "path": _pointer(Annotation.HEARTBEAT), "value": encode(beat)},
    ]
    if release is not None:
        patch.append({"op": "add", "path": _pointer(Annotation.RELEASED), "value": release.encode()})
    if notice is not None:
        patch.append({"op": "add", "path": _pointer(Annotation.NOTICE), "value": encode(notice)})
    return msgspec.json.encode(patch)
