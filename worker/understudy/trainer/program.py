"""What a Session trains: a program, with its state, its step, and what it does around the steps.

A script that has only a state and a function gives these two to Session. A program that does more (understudy.keras is
one) is a subclass of Program: it overrides what it needs, and the rest does nothing. Reads no clock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.trainer.feed import Feed
from understudy.trainer.state import State


@dataclass(frozen=True, slots=True)
class Export:
    """One way to save a trained model."""

    name: str
    """Of the file, in the folder `final`."""
    write: Callable[[Path], None]
    """Writes the file at the path that it is given; called again when the volume was in trouble."""


class Program:
    """One training, as its Session calls it. The methods stand in the order of the calls."""

    warms_up_always = False
    """Take a step for warming up also in a pod that is primary from the start."""
    feed: Feed[Any] | None = None
    """Where the data comes from; its place is saved with each checkpoint."""

    def __init__(self, state: State) -> None:
        """Train this state: all that a step changes."""
        self.state = state

    def facts(self) -> Mapping[str, str]:
        """Say what exactness depends on, beside what Session records itself."""
        return {}

    def prepare(self, index: int) -> None:
        """Get ready for this step, which is the next one, while there is time."""

    def started(self, step: int) -> None:
        """This pod is primary now, and `step` steps are restored."""

    def step(self, index: int) -> None:
        """Take one step, which is the same for the same state and index."""
        raise NotImplementedError

    def metrics(self) -> Mapping[str, float]:
        """Return the newest values for a log line, computed."""
        return {}

    def ended(self) -> None:
        """The checkpoint of the last step is durable."""

    def exports(self) -> Sequence[Export]:
        """Return the ways to save the trained model, the best first. One that fails is reported, the next is tried."""
        return ()


class Functions(Program):
    """A state and a function."""

    def __init__(
        self, state: State, step_fn: Callable[[int], object], metrics: Callable[[], Mapping[str, float]] | None
    ) -> None:
        super().__init__(state)
        self._step_fn = step_fn
        self._metrics = metrics

    def step(self, index: int) -> None:
        """Call the function."""
        self._step_fn(index)

    def metrics(self) -> Mapping[str, float]:
        """Call the function for metrics, if there is one."""
        return self._metrics() if self._metrics is not None else {}


def as_program(
    given: State | Program,
    step_fn: Callable[[int], object] | None,
    metrics: Callable[[], Mapping[str, float]] | None,
) -> Program:
    """Make a program of what Session was given."""
    if isinstance(given, Program):
        if step_fn is not None or metrics is not None:
            raise TypeError("a Program has a step and metrics of its own: give Session the program alone")
        return given
    if step_fn is None:
        raise TypeError("Session needs a state and a step function, or a Program: Session(state, step_fn)")
    return Functions(given, step_fn, metrics)
