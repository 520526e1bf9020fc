"""Batches computed ahead of the loop, on one thread.

Guarantees that `get(index)` gives what `make(index)` returned or raises what it raised, whatever was prefetched before,
and that `make` is never called twice at once nor for an index at or above `limit`. It may be called for indices that
nobody asks for in the end, and twice for one: it must be a pure function. Reads no clock.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

T = TypeVar("T")

DEPTH: Final = 2
"""Batches ahead: one would be enough for a steady producer; each costs its memory on every redundant pod too."""


@dataclass(frozen=True, slots=True)
class _Result(Generic[T]):
    value: T | None
    error: BaseException | None


class Prefetcher(Generic[T]):
    """Computes `make(index)` for the next few indices."""

    def __init__(self, make: Callable[[int], T], limit: int) -> None:
        """Start the thread; it waits until an index is asked for or aimed at."""
        self._make = make
        self._limit = limit
        self._changed = threading.Condition()
        self._want: int | None = None
        self._results: dict[int, _Result[T]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="understudy-prefetch", daemon=True)
        self._thread.start()

    def aim(self, index: int) -> None:
        """Have `index` and the next ones ready; forget what lies outside."""
        with self._changed:
            self._want = index
            self._results = {i: result for i, result in self._results.items() if index <= i < index + DEPTH}
            self._changed.notify_all()

    def get(self, index: int) -> T:
        """Wait for one batch, and aim at the one after it. An index above the limit is computed here and now."""
        if index >= self._limit:
            return self._make(index)
        self.aim(index)
        with self._changed:
            self._changed.wait_for(lambda: index in self._results or self._closed)
            if index not in self._results:
                raise RuntimeError("the prefetcher was closed while a batch was waited for")
            result = self._results.pop(index)
            self._want = index + 1
            self._changed.notify_all()
        if result.error is not None:
            raise result.error
        return cast("T", result.value)

    def close(self) -> None:
        """End the thread after the batch that it computes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _next(self) -> int | None:
        if self._want is None:
            return None
        window = range(self._want, min(self._want + DEPTH, self._limit))
        return next((index for index in window if index not in self._results), None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next() is not None)
                index = self._next()
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
