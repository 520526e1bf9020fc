"""Which Leases are to be read, and when: at most one GET of each at a time. Pure."""

from typing import Final

_NEVER: Final = float("inf")


class Asking:
    """Questions to the API. A question asked while an older one is in flight is asked again after it."""

    def __init__(self) -> None:
        self._in_flight: dict[str, float] = {}
        self._at: dict[str, float] = {}
        self._failing: set[str] = set()

    def ask(self, lease: str, at: float) -> None:
        """Read this Lease at that time; the earliest of several counts."""
        self._at[lease] = min(self._at.get(lease, _NEVER), at)

    def answered(self, lease: str) -> float:
        """Note an answer; say when its question was asked."""
        self._failing.discard(lease)
        return self._in_flight.pop(lease, -_NEVER)

    def failed(self, lease: str, retry_at: float) -> bool:
        """Note that no answer came, and ask again; say whether it is the first failure in a row."""
        first = lease not in self._failing
        self._failing.add(lease)
        self._in_flight.pop(lease, None)
        self.ask(lease, retry_at)
        return first

    def is_asked(self, lease: str) -> bool:
        """Say whether an answer is under way."""
        return lease in self._in_flight

    def due(self, now: float) -> list[str]:
        """Give the Leases to read now, and note them as asked."""
        leases = [lease for lease, at in self._at.items() if now >= at and lease not in self._in_flight]
        for lease in leases:
            del self._at[lease]
            self._in_flight[lease] = now
        return leases

    def wake_at(self) -> float:
        """Say when `due` will have something."""
        return min((at for lease, at in self._at.items() if lease not in self._in_flight), default=_NEVER)
