"""The status of a TrainingJob as typed values: what the operator writes, and everybody else reads.

Two rules hold for every value here.

1. Writing. A field that is None is left out of the JSON. A list is always written, even when it is empty, because a
   status is written by a merge patch, and only an empty list takes away what the list held before.
2. Reading. `read_status` never fails. A status is derived from Leases and pods, so one that cannot be read is as good
   as none. A field or an entry of a list that no operator can have written is left out, and the rest is kept. So
   nothing that somebody writes into a status keeps the operator from promoting a redundant pod.

Guarantees that every number fits into the type that the CRD gives it. Does not guarantee that the status is true, or
that its texts are clean: who may write it may write anything. Times are wall-clock, RFC 3339, for display; this module
reads no clock.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

import msgspec

STATUS_MAX_BYTES: Final = 512 * 1024
"""A longer status is not read. 256 ranks with five redundant pods each, and 20 failovers, take 200 kB."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What the CRD admits as int32 and int64."""

_T = TypeVar("_T")


def _empty() -> tuple[()]:
    """Be the default of a list that is always written: `omit_defaults` leaves out a list whose default is `()`."""
    return ()


class JobPhase(StrEnum):
    """One word for how a job is doing; a later release may know more of them."""

    PENDING = "Pending"
    RUNNING = "Running"
    DEGRADED = "Degraded"
    FINISHING = "Finishing"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """What a condition speaks of; a later release may know more of them."""

    TRAINING = "Training"
    REDUNDANT = "Redundant"
    NODE_FAULT_TOLERANT = "NodeFaultTolerant"
    COMPLETE = "Complete"
    FAILED = "Failed"
    CONTROL_PLANE_DEGRADED = "ControlPlaneDegraded"
    OPERATOR_ERROR = "OperatorError"


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One observation about the job, in the form that Kubernetes gives to conditions."""

    type: str
    """A ConditionType, or one that a later release knows."""
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str
    last_transition_time: str
    """When `status` changed last."""
    observed_generation: Number | None = None

    @property
    def holds(self) -> bool:
        """Tell whether the condition is known to be true."""
        return self.status == "True"


class RedundantStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One redundant pod of a rank."""

    pod: str
    ready: bool | None = None
    """It could take over at once."""
    loaded_step: Number | None = None
    """Step of the checkpoint that it has verified and loaded."""


class RankStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One rank: its pods and its progress. A field that is None is not known."""

    rank: Count
    term: Count | None = None
    step: Number | None = None
    """Steps that the primary has completed."""
    failovers: Count | None = None
    """Promotions after a lost primary, cold starts included."""
    restarts: Count | None = None
    """Cold starts among them."""
    failures_without_progress: Count | None = None
    complete: bool | None = None
    redundant: tuple[RedundantStatus, ...] = msgspec.field(default_factory=_empty)
    primary: str | None = None
    """The pod that holds the rank."""
    checkpoint_step: Number | None = None
    checkpoint_term: Count | None = None
    """The newest committed checkpoint."""
    model: str | None = None
    """Path of the finished model on the volume."""
    trainer_restarts: Count | None = None
    """How often the trainer was started again inside the primary's pod, in the present term."""
    last_failure: str | None = None
    """Why it failed the last time before that."""


class FailoverStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One failover. Its rank and its term name it."""

    rank: Count
    term: Count
    """The term that began with it."""
    source: str | None = msgspec.field(name="from", default=None)
    """The pod that lost the rank."""
    target: str | None = msgspec.field(name="to", default=None)
    """The pod that was promoted."""
    cause: str | None = None
    """A Cause, or one that a later release knows."""
    message: str | None = None
    failed_at: str | None = None
    detected_at: str | None = None
    promoted_at: str
    cold: bool | None = None
    """No redundant pod was warm, so a new pod was started."""
    first_step_at: str | None = None
    """When the successor completed its first step, by its own clock; None: it has not reported one yet."""
    lost_steps: Number | None = None
    lost_steps_is_lower_bound: bool | None = None


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The whole status. One that was never written is `JobStatus()`."""

    observed_generation: Number | None = None
    start_time: str | None = None
    """When the first rank was started, or resumed after a suspension."""
    adopted_uid: str | None = None
    """uid of an earlier job of this name whose children this one has adopted."""
    phase: str | None = None
    """A JobPhase, or one that a later release knows."""
    conditions: tuple[Condition, ...] = msgspec.field(default_factory=_empty)
    step: Number | None = None
    """Steps that every rank has completed."""
    restarts: Count | None = None
    failover_count: Count | None = None
    redundant_ready: Count | None = None
    redundant_desired: Count | None = None
    redundant: str | None = None
    """`redundant_ready`/`redundant_desired`, for people."""
    ranks: tuple[RankStatus, ...] = msgspec.field(default_factory=_empty)
    failovers: tuple[FailoverStatus, ...] = msgspec.field(default_factory=_empty)
    """The newest ones, oldest first."""

    def condition(self, kind: ConditionType) -> Condition | None:
        """Return the condition of a type; None if there is none."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def of_rank(self, rank: int) -> RankStatus | None:
        """Return what is said of a rank; None if nothing is."""
        return next((entry for entry in self.ranks if entry.rank == rank), None)

    def failovers_of(self, rank: int) -> tuple[FailoverStatus, ...]:
        """Return the failovers of a rank, oldest first."""
        return tuple(failover for failover in self.failovers if failover.rank == rank)


_LISTS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "conditions": msgspec.json.Decoder(Condition),
    "ranks": msgspec.json.Decoder(RankStatus),
    "failovers": msgspec.json.Decoder(FailoverStatus),
}
_PLAIN: Final[Mapping[str, tuple[str, msgspec.json.Decoder[Any]]]] = {
    field.encode_name: (field.name, msgspec.json.Decoder(field.type))
    for field in msgspec.structs.fields(JobStatus)
    if field.name not in _LISTS
}
"""Name and decoder of each field that is no list, by its name in JSON."""
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read_status(text: bytes) -> JobStatus:
    """Read a status, as far as the operator could have written it; never fails."""
    if len(text) > STATUS_MAX_BYTES:
        return JobStatus()
    known: dict[str, Any] = {}
    for name, raw in (_decoded(text, _FIELDS) or {}).items():
        if name in _LISTS:
            found = (_decoded(entry, _LISTS[name]) for entry in _decoded(raw, _ENTRIES) or ())
            known[name] = tuple(entry for entry in found if entry is not None)
        elif name in _PLAIN:
            field, decoder = _PLAIN[name]
            known[field] = _decoded(raw, decoder)
    return JobStatus(**known)


def status_of(job: Mapping[str, Any]) -> JobStatus:
    """Read the status of a TrainingJob that is at hand as a JSON object."""
    return read_status(msgspec.json.encode(job.get("status")))


def _decoded(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T | None:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):  # the last of a string that is not UTF-8
        return None
