"""Notices a trainer that lives and does nothing: stopped, deadlocked, or waiting for data that never comes. Pure.

Judges the activity counter, which every event of the SDK changes: a step, a save, a batch of a validation.
So only one single thing that takes longer than the deadline looks like a stall. Guarantees that a stall is noticed
within a look of its deadline, and that time in which the agent itself stood still is not held against the trainer; does
not tell a hang from work that is slow. Trusts the machine's monotonic clock.
"""

from dataclasses import dataclass
from typing import Final

_LOOKS: Final = 100
"""Looks at the counter in the time of a deadline."""
_LOOK_MIN_S: Final = 0.1
_LOOK_MAX_S: Final = 0.5
_OVERSLEPT_S: Final = 2.0
"""A look that comes so late was held up by the machine: frozen, or short of CPU."""


@dataclass(frozen=True, slots=True)
class Patience:
    """A deadline, and the name of the setting that makes it."""

    limit_s: float
    setting: str


@dataclass(slots=True)
class Watchdog:
    """What was seen of the activity counter; `patience` is the deadline that holds now, None while none does."""

    patience: Patience | None = None
    _activity: int = -1
    _since: float = 0.0
    _looked_at: float = 0.0

    def look(self, activity: int, now: float, patience: Patience | None) -> bool:
        """Look at the counter; say whether it has stood still for the deadline that holds now."""
        if activity != self._activity or patience != self.patience:
            self._activity, self._since, self.patience = activity, now, patience
        elif now - self._looked_at > _OVERSLEPT_S:
            # This process stood still, and the trainer probably with it: the time proves nothing.
            self._since += now - self._looked_at
        self._looked_at = now
        return patience is not None and now >= self._since + patience.limit_s

    def rest(self) -> None:
        """Look no more until there is another deadline."""
        self.patience = None

    def wake_at(self) -> float:
        """Say when to look again."""
        if self.patience is None or self.patience.limit_s == float("inf"):
            return float("inf")
        pause_s = min(max(self.patience.limit_s / _LOOKS, _LOOK_MIN_S), _LOOK_MAX_S)
        return min(self._looked_at + pause_s, self._since + self.patience.limit_s)
