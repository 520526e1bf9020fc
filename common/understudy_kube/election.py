"""What a Lease says about who leads, and from when on another may take it. Pure: a clock's times are arguments.

Guarantees that a held Lease is never free before its holder's own promise has run out on the observer's clock. What
the wall's clocks wrote into it is not even read.
"""

import math
from dataclasses import dataclass
from typing import Final

import msgspec

UP_FOR_ELECTION: Final = -math.inf
"""A time that is always past."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How long each may take.

    The defaults let a follower act 5 s after the leader died, for one request a second, and a leader lead on while the
    API server takes two seconds for each call.
    """

    lease_s: int = 5
    """A record that stands still for so long is up for election. Whole seconds: the API's unit."""
    deadline_s: float = 4.5
    """A leader that could not renew for so long begins nothing more; what is under way has until the end of the lease.
    An API server that answers in less than half of it is never too slow: a renewal counts from when it was sent."""
    renewal_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.renewal_s < self.deadline_s < self.lease_s:
            raise ValueError(
                f"renewal_s ({self.renewal_s:g}) < deadline_s ({self.deadline_s:g}) < lease_s ({self.lease_s}) must "
                "hold: a leader tries again before it gives up, and gives up before another takes over"
            )


@dataclass(frozen=True, slots=True)
class Record:
    """What the Lease says, and which version of it: a new one is a sign of life, whoever wrote it."""

    version: str
    holder: str
    duration_s: int
    transitions: int


class _Meta(msgspec.Struct):
    namespace: str
    name: str
    uid: str
    resource_version: str = msgspec.field(name="resourceVersion")


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None


class LeadershipLease(msgspec.Struct):
    """The Lease as the API has it."""

    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)

    def record(self) -> Record:
        """Say what counts."""
        spec = self.spec
        return Record(
            version=self.metadata.resource_version,
            holder=spec.holder_identity or "",
            duration_s=spec.lease_duration_seconds or 0,
            transitions=spec.lease_transitions or 0,
        )


def free_at(record: Record | None, identity: str, unchanged_since: float, lease_s: int) -> float:
    """Tell when a process may take a Lease, given since when it knows the record as it is.

    A Lease that was deleted was somebody's a moment ago, who may not know yet.
    """
    if record is None:
        return unchanged_since + lease_s
    if record.holder in ("", identity):
        return UP_FOR_ELECTION
    return unchanged_since + (record.duration_s or lease_s)
