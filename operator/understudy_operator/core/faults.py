"""Containing the operator's own errors: a part of a decision that raises is left out, and the rest stands.

What is decided about a job is put together from parts: each rank's promotion, its pods, the children, the report. Some
of them read what users and workers have written, and an error in one must not cost another: least of all a promotion.
Guarantees that `Parts.add` never raises, and that the parts keep their order. What failed is named (`Fault`), becomes
the condition OperatorError and an Event, and is logged by whoever acts. Reads no clock.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from understudy_operator.core.actions import Action


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of a decision that raised an unexpected error."""

    part: str
    error: Exception

    def __str__(self) -> str:
        return f"{self.part} failed: {type(self.error).__name__}: {self.error}"


class Parts:
    """The actions of a decision, as far as they could be decided."""

    def __init__(self, wake_at: float) -> None:
        self.actions: list[Action] = []
        self.wake_at = wake_at
        self.faults: list[Fault] = []

    def add(self, part: str, clause: Callable[[], Iterable[Action] | tuple[Iterable[Action], float]]) -> None:
        """Add the actions of a clause, and the time at which it wants to look again."""
        try:
            found = clause()
            actions, wake_at = found if isinstance(found, tuple) else (found, self.wake_at)
            self.actions += list(actions)
            self.wake_at = min(self.wake_at, wake_at)
        except Exception as error:  # noqa: BLE001 - the error is kept and reported
            self.faults.append(Fault(part, error))
