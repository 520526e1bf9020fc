"""Keys that want work: deduplicated, one worker a key at a time, retried with back-off (the semantics of client-go's
queue).

Guarantees that a key added while it is processed is processed once more afterwards, that no two workers hold one key,
and that of several delays of a key the earliest counts. Nothing survives the process. Not thread-safe: one event loop.
Trusts the loop's monotonic clock.
"""

import asyncio
import heapq
import itertools
from collections import deque
from typing import Final, Generic, TypeVar

K = TypeVar("K")

_RETRY_FIRST_S: Final = 0.005
_RETRY_MAX_S: Final = 30.0


class WorkQueue(Generic[K]):
    """A queue of keys. `get`, work, then `done`; `retry` before `done` after a failure, `forget` after a success."""

    def __init__(self) -> None:
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Count the keys that wait for a worker now."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Ask for work on a key as soon as a worker is free. A waiting delay of the key stays."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Ask for work on a key after a delay; the earliest of several delays counts."""
        if delay_s <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + delay_s
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._arm()

    async def get(self) -> K:
        """Wait for a key and hold it until `done`."""
        while not self._ready:
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter in self._getters:
                    self._getters.remove(getter)
                else:
                    self._wake()  # the key that woke us is another's now
                raise
        key = self._ready.popleft()
        self._processing.add(key)
        self._dirty.discard(key)
        return key

    def done(self, key: K) -> None:
        """Give a key back; it is queued again if it was added meanwhile."""
        self._processing.discard(key)
        if key in self._dirty:
            self._push(key)

    def retry(self, key: K) -> None:
        """Ask for work after the key's own back-off: 5 ms, doubling to 30 s."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(_RETRY_FIRST_S * 2.0 ** min(failures, 30), _RETRY_MAX_S))

    def forget(self, key: K) -> None:
        """Start the key's back-off anew."""
        self._failures.pop(key, None)

    def _push(self, key: K) -> None:
        self._ready.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._ready and self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # an earlier delay of the key has come first
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._arm()
