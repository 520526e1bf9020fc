"""A Lease, decoded and encoded in one place; what its annotations hold is in reports.py.

Who writes what:

| field | rank's Lease | slot's Lease |
|---|---|---|
| holderIdentity, leaseTransitions, leaseDurationSeconds | operator (CAS on resourceVersion) | operator |
| annotations incarnation, floor, promotion, failures, active-since, … | operator | operator (failures only) |
| renewTime, annotations heartbeat, released, notice | holder (JSON Patch with `test` on holder and term) | holder |

`holderIdentity` is a pod's name; `leaseTransitions` is the term of a rank, and the number of assignments of a slot.
renewTime is for people and for the change that it makes: nobody compares it with a clock. A heartbeat or a release of
another term or pod than the Lease now names is history and is ignored (`current_heartbeat`, `current_release`).

Guarantees that every text and number of a Lease is in its bounds (bounds.py), as written and as read: an annotation is
what its author likes, and only the annotation's name is the API server's to check.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from understudy_contract.bounds import COUNT_MAX, LEASE_DURATION_MAX_S, NAME_MAX_BYTES, bounded, clamp, moment
from understudy_contract.names import Annotation, Step, Term
from understudy_contract.reports import CheckpointRef, GivenUp, Heartbeat, Notice, Promotion, Release
from understudy_contract.text import clean

_T = TypeVar("_T", bound=msgspec.Struct)

_DIGITS_MAX: Final = 18
"""Of a number in an annotation: more may not fit into 64 bits, and Python refuses to read more than 4300."""


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
    """As written; a holder learns of a change with the answer to its next renewal."""
    renew_time: str | None
    former_duration_s: int = 0
    """The longest that was written before, by which a holder may still go; 0: none was, since the Lease was passed
    on."""
    incarnation: int = 0
    """Incarnations of the rank taken so far: the next pod's number."""
    failures: int = 0
    """Consecutive failures of the application without progress between them."""
    promotion: Promotion | None = None
    given_up: GivenUp | None = None
    active_since: str | None = None
    """When the rank was opened or resumed, RFC 3339."""
    switchover: Term | None = None
    """The term in which a switchover was asked for."""
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
    def patience_s(self) -> int:
        """How long the holder may be silent: the longer of what is written and what it goes by.

        What it says that it goes by counts only up to what was once written into this Lease: a worker gives itself no
        longer lease than it was given.
        """
        beat = self.current_heartbeat
        claimed_s = beat.duration_s if beat is not None else 0
        return max(self.duration_s, min(claimed_s, self.former_duration_s))

    @property
    def current_release(self) -> Release | None:
        """The release, if it is one of the present term."""
        return self.release if self.release is not None and self.release.term == self.term else None

    @property
    def switches_over(self) -> bool:
        """The present term is to end because somebody asked for it."""
        return self.switchover == self.term

    @property
    def floor(self) -> CheckpointRef | None:
        """The durable floor: the newest checkpoint that is known to be committed, from whomever it is known."""
        said = [report.checkpoint for report in (self.heartbeat, self.release) if report is not None]
        return max((ref for ref in (self.operator_floor, *said) if ref is not None), default=None)

    @property
    def floor_step(self) -> Step:
        """Step of the durable floor; 0 without one."""
        return Step(self.floor.step if self.floor else 0)


def encode(value: msgspec.Struct) -> str:
    """Render an annotation's JSON, in its bounds."""
    return msgspec.json.encode(bounded(value)).decode()


def _decode(kind: type[_T], text: str | None) -> _T | None:
    if text is None:
        return None
    try:
        return bounded(msgspec.json.decode(text, type=kind))
    except (msgspec.MsgspecError, RecursionError):  # the second where brackets stand a thousand deep
        return None


class _Owner(msgspec.Struct):
    uid: str


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
        return LeaseRecord(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version,
            holder=clean(spec.holder_identity or "", NAME_MAX_BYTES),
            term=Term(spec.lease_transitions or 0),
            duration_s=clamp(spec.lease_duration_seconds or 0, LEASE_DURATION_MAX_S),
            former_duration_s=clamp(natural(notes.get(Annotation.FORMER_DURATION)) or 0, LEASE_DURATION_MAX_S),
            renew_time=spec.renew_time,
            incarnation=clamp(natural(notes.get(Annotation.INCARNATION)) or 0, COUNT_MAX),
            failures=clamp(natural(notes.get(Annotation.FAILURES)) or 0, COUNT_MAX),
            promotion=_decode(Promotion, notes.get(Annotation.PROMOTION)),
            switchover=None if (asked := natural(notes.get(Annotation.SWITCHOVER))) is None else Term(asked),
            active_since=moment(notes.get(Annotation.ACTIVE_SINCE)),
            given_up=_decode(GivenUp, notes.get(Annotation.GIVEN_UP)),
            operator_floor=_decode(CheckpointRef, notes.get(Annotation.FLOOR)),
            heartbeat=_decode(Heartbeat, notes.get(Annotation.HEARTBEAT)),
            release=_decode(Release, notes.get(Annotation.RELEASED)),
            notice=_decode(Notice, notes.get(Annotation.NOTICE)),
            owner_uid=meta.owner_references[0].uid if meta.owner_references else "",
            labels=meta.labels,
        )


def decode_lease(body: bytes) -> LeaseRecord:
    """Decode one Lease of the API's JSON; raises msgspec.MsgspecError on anything that is not a Lease."""
    return msgspec.json.decode(body, type=LeaseObject).record()


def natural(text: str | None, most: int = 10**_DIGITS_MAX) -> int | None:
    """Read a number that anybody may have written; None for what is none, or above `most`."""
    # `isdigit` alone holds "²" to be a digit.
    if text is None or len(text) > _DIGITS_MAX or not (text.isascii() and text.isdigit()):
        return None
    return number if (number := int(text)) <= most else None


def micro_time(moment: datetime) -> str:
    """Render a MicroTime; the API refuses one without its fraction, which isoformat drops when it is 0."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def annotation_pointer(annotation: Annotation) -> str:
    """Give the JSON Pointer of an annotation (RFC 6901), for a JSON Patch."""
    return "/metadata/annotations/" + annotation.replace("~", "~0").replace("/", "~1")


def renewal_patch(
    beat: Heartbeat, now: datetime, *, release: Release | None = None, notice: Notice | None = None
) -> bytes:
    """Build a renewal: a JSON Patch that the API refuses with 422 once holder or term have changed; stamps the notice.

    What it reports is brought into its bounds, so that the API server never refuses it for its size. Needs the Lease's
    annotations map to exist (`add` below a missing map is refused): the operator creates Leases with one.
    """
    patch: list[dict[str, object]] = [
        {"op": "test", "path": "/spec/holderIdentity", "value": beat.pod},
        {"op": "test", "path": "/spec/leaseTransitions", "value": beat.term},
        {"op": "add", "path": "/spec/renewTime", "value": micro_time(now)},
        {"op": "add", "path": annotation_pointer(Annotation.HEARTBEAT), "value": encode(beat)},
    ]
    if release is not None:
        patch.append({"op": "add", "path": annotation_pointer(Annotation.RELEASED), "value": encode(release)})
    if notice is not None:
        stamped = msgspec.structs.replace(notice, at=micro_time(now))
        patch.append({"op": "add", "path": annotation_pointer(Annotation.NOTICE), "value": encode(stamped)})
    return msgspec.json.encode(patch)
