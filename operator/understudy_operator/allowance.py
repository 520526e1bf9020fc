"""How much a job may make the operator write: buckets of tokens for its workers' notices, other Events, and its status.

Guarantees that over any minute no more than NOTICES_PER_MINUTE notices are posted for one job, and EVENTS_PER_MINUTE
other Events, beyond the burst that a bucket holds when it is full. A worker writes a notice as often as it likes, and
can end itself, or its readiness, again and again: each of those is an Event, which etcd stores and all who watch Events
are sent. Notices have a bucket of their own, so that a worker that talks without end keeps no promotion of its
job from being told. An Event that has to wait is posted later if it still holds; a notice that was overwritten
meanwhile is lost, and stands in the log of its pod. A worker that says at each renewal that it is warm, and that it is
not, would have the status written each time: beyond a burst, one a second is. Trusts the monotonic time that it is
given; lost with the process.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from understudy_operator.core.actions import Emit

NOTICES_AT_ONCE: Final = 5
NOTICES_PER_MINUTE: Final = 4.0
EVENTS_AT_ONCE: Final = 20
EVENTS_AT_ONCE_PER_RANK: Final = 3
"""A node that is lost takes a primary and a redundant pod of every rank at once."""
EVENTS_PER_MINUTE: Final = 12.0
STATUS_AT_ONCE: Final = 30
STATUS_PER_MINUTE: Final = 60.0


@dataclass(slots=True)
class Bucket:
    """Tokens that come back at a steady rate."""

    per_minute: float
    spent: float = 0.0
    """Tokens that are missing."""
    _at: float = -math.inf

    def left(self, size: int, at: float) -> int:
        """Count the tokens of a bucket of this size."""
        self._refill(at)
        return max(0, math.floor(size - self.spent))

    def take(self, at: float) -> None:
        """Take a token."""
        self._refill(at)
        self.spent += 1

    def next_at(self, size: int, at: float) -> float:
        """Say when there will be a token."""
        self._refill(at)
        return at + max(0.0, self.spent + 1 - size) * 60 / self.per_minute

    def _refill(self, at: float) -> None:
        if at > self._at:
            self.spent = max(0.0, self.spent - (at - self._at) * self.per_minute / 60)
            self._at = at


@dataclass(slots=True)
class Allowance:
    """What one job may still have written."""

    _notices: Bucket = field(default_factory=lambda: Bucket(NOTICES_PER_MINUTE))
    _events: Bucket = field(default_factory=lambda: Bucket(EVENTS_PER_MINUTE))
    _status: Bucket = field(default_factory=lambda: Bucket(STATUS_PER_MINUTE))

    def admit(self, wanted: list[Emit], ranks: int, at: float) -> tuple[list[Emit], float]:
        """Choose the Events that may be posted now, and say when the next of the others may be."""
        admitted: list[Emit] = []
        wake_at = math.inf
        for of_worker in (False, True):
            some = [event for event in wanted if event.of_worker is of_worker]
            bucket, size = self._of(of_worker, ranks)
            room = bucket.left(size, at)
            admitted += some[:room]
            if some[room:]:
                wake_at = min(wake_at, bucket.next_at(size, at))
        return admitted, wake_at

    def has_room(self, event: Emit, ranks: int, at: float) -> bool:
        """Tell whether an Event may be posted now."""
        bucket, size = self._of(event.of_worker, ranks)
        return bucket.left(size, at) > 0

    def spend(self, event: Emit, at: float) -> None:
        """Note that an Event was posted."""
        self._of(event.of_worker, 0)[0].take(at)

    def status_at(self, at: float) -> float:
        """Say when the status may be written."""
        return at if self._status.left(STATUS_AT_ONCE, at) else self._status.next_at(STATUS_AT_ONCE, at)

    def status_written(self, at: float) -> None:
        """Note that the status was written."""
        self._status.take(at)

    def _of(self, of_worker: bool, ranks: int) -> tuple[Bucket, int]:
        if of_worker:
            return self._notices, NOTICES_AT_ONCE
        return self._events, EVENTS_AT_ONCE + EVENTS_AT_ONCE_PER_RANK * ranks
