"""When to read which Lease. Pure; the caller gives the time, in seconds of a monotonic clock.

Guarantees that at most one GET of each Lease is in flight. A read that is requested while an older one is in flight is
sent after it: the answer of the older one may be from before the change that the request is about.
"""

from typing import Final

_NEVER: Final = float("inf")


class ReadScheduler:
    """The reads that are planned, and those that are in flight."""

    def __init__(self) -> None:
        self._sent_at: dict[str, float] = {}
        """Of the read in flight, by Lease."""
        self._due_at: dict[str, float] = {}
        self._failing: set[str] = set()

    def request(self, lease: str, at: float) -> None:
        """Read this Lease at that time. Of several requests the earliest counts."""
        self._due_at[lease] = min(self._due_at.get(lease, _NEVER), at)

    def answered(self, lease: str) -> float:
        """Note an answer, and return when its read was sent; minus infinity if none was in flight."""
        self._failing.discard(lease)
        return self._sent_at.pop(lease, -_NEVER)

    def failed(self, lease: str, retry_at: float) -> bool:
        """Note that a read failed, and plan the next one. Return whether it is the first failure in a row."""
        first = lease not in self._failing
        self._failing.add(lease)
        self._sent_at.pop(lease, None)
        self.request(lease, retry_at)
        return first

    def is_reading(self, lease: str) -> bool:
        """Return whether a read of this Lease is in flight."""
        return lease in self._sent_at

    def due(self, now: float) -> list[str]:
        """Return the Leases to read now, and count their reads as sent."""
        leases = [lease for lease, at in self._due_at.items() if now >= at and lease not in self._sent_at]
        for lease in leases:
            del self._due_at[lease]
            self._sent_at[lease] = now
        return leases

    def wake_at(self) -> float:
        """Return when `due` will have something."""
        return min((at for lease, at in self._due_at.items() if lease not in self._sent_at), default=_NEVER)
