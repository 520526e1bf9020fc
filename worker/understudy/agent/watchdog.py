"""Notices a trainer that lives and does nothing: stopped, deadlocked, or waiting for data that never comes. Pure.

Judges the activity counter, which every event of the SDK changes: a step, a part of a save, a batch of a validation.
So only one single thing that takes longer than the deadline looks like a stall. Guarantees that a stall is noticed
within a look of its deadline; does not tell a hang from work that is slow. Trusts the machine's monotonic clock.
"""

from dataclasses import dataclass
from typing import Final

_LOOKS: Final = 100
"""Looks at the counter in the time of a deadline."""
_LOOK_MIN_S: Final = 0.1
_LOOK_MAX_S: Final = 0.5


@dataclass(slots=True)
class Watchdog:
    """What was seen of the activity counter; `limit_s` is the deadline that holds now, None while none does."""

    limit_s: float | None = None
    _activity: int = -1
    _since: float = 0.0
    _looked_at: float = 0.0

    def look(self, activity: int, now: float, limit_s: float | None) -> bool:
        """Look at the counter; say whether it has stood still for the deadline that holds now."""
        if activity != self._activity or limit_s != self.limit_s:
            self._activity, self._since, self.limit_s = activity, now, limit_s
        self._looked_at = now
        return limit_s is not None and now >= self._since + limit_s

    def wake_at(self) -> float:
        """Say when to look again."""
        if self.limit_s is None or self.limit_s == float("inf"):
            return float("inf")
        pause_s = min(max(self.limit_s / _LOOKS, _LOOK_MIN_S), _LOOK_MAX_S)
        return min(self._looked_at + pause_s, self._since + self.limit_s)
