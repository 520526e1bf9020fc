"""A feed of batches: what a training reads its data from, and where it stands in them.

A feed is aimed at a step, and then gives one batch after the other. Its state is saved with a checkpoint, and loaded
before it is aimed at the step of that checkpoint. FunctionFeed is the kind whose batches are a pure function of the
step: the step is all its state. An iterator that can save its place would be another kind.

FunctionFeed computes batches ahead of the loop, on one thread. Guarantees that `next` gives what `make(index)` returned
or raises what it raised, whatever was computed before, and that the thread never computes an index at or above `limit`.
`make` may be called for indices that nobody asks for in the end, and twice for one. Reads no clock.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, cast

T = TypeVar("T")
Batch = TypeVar("Batch", covariant=True)

DEPTH: Final = 2
"""Batches ahead: one would be enough for a steady producer; each costs its memory on every redundant pod too."""


@dataclass(frozen=True, slots=True)
class _Result(Generic[T]):
    value: T | None
    error: BaseException | None


class Feed(Protocol[Batch]):
    """Batches, one for each step."""

    def aim(self, step: int) -> None:
        """Go to the batch of this step, and have it ready."""
        ...

    def next(self) -> Batch:
        """Return the batch, and go to the one after it."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what must be saved to find the place again, beside the step: JSON values."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        ...

    def close(self) -> None:
        """End what computes ahead."""
        ...


class FunctionFeed(Generic[T]):
    """The feed whose batch of a step is `make(step)`."""

    def __init__(self, make: Callable[[int], T], limit: int) -> None:
        """Start the thread; it waits until it is aimed."""
        self._make = make
        self._limit = limit
        self._changed = threading.Condition()
        self._want: int | None = None
        self._results: dict[int, _Result[T]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="understudy-feed", daemon=True)
        self._thread.start()

    def aim(self, index: int) -> None:
        """Have the batches of `index` and of the next ones ready; forget what lies outside."""
        with self._changed:
            self._want = index
            self._results = {i: result for i, result in self._results.items() if index <= i < index + DEPTH}
            self._changed.notify_all()

    def next(self) -> T:
        """Wait for one batch, and aim at the one after it. One past the limit is computed in the caller's thread."""
        index = self._want
        assert index is not None
        if index >= self._limit:
            self._want = index + 1
            return self._make(index)
        with self._changed:
            self._changed.wait_for(lambda: index in self._results or self._closed)
            if index not in self._results:
                raise RuntimeError("the feed was closed while a batch was waited for")
            result = self._results.pop(index)
            self._want = index + 1
            self._changed.notify_all()
        if result.error is not None:
            raise result.error
        return cast("T", result.value)

    def state(self) -> dict[str, Any]:
        """Return nothing: the step is the place."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over nothing."""

    def close(self) -> None:
        """End the thread after the batch that it computes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _to_compute(self) -> int | None:
        if self._want is None:
            return None
        window = range(self._want, min(self._want + DEPTH, self._limit))
        return next((index for index in window if index not in self._results), None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._to_compute() is not None)
                index = self._to_compute()
                if self._closed or index is None:
                    return
            result = self._compute(index)
            with self._changed:
                want = self._want
                if want is not None and want <= index < want + DEPTH:
                    self._results[index] = result
                    self._changed.notify_all()

    def _compute(self, index: int) -> _Result[T]:
        try:
            return _Result(self._make(index), None)
        except BaseException as error:  # noqa: BLE001 - raised where the batch is asked for
            return _Result(None, error)
