"""Virtual time: one heap of what happens next, and processes whose clocks, pauses and deaths are their own.

Guarantees that the same calls in the same order give the same run: what is due at one moment happens in the order in
which it was planned. A `Process` is an asyncio event loop of its own: what runs in it sees the clock of its machine,
stands still while it is paused, and never runs again once it was killed.
"""

import asyncio
import heapq
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SPIN_MAX = 20_000
"""Callbacks that a process may run at one moment: more are a loop that time does not end."""


class ViolationError(AssertionError):
    """The product broke a promise; the message says which, and how."""


class SpinError(ViolationError):
    """A process never comes to rest."""


class Timeline:
    """What happens next, in seconds since the start."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runnable: deque[Process] = deque()
        self._heap: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._order = 0

    def at(self, when: float, callback: Callable[..., object], *args: object) -> None:
        """Plan a call."""
        self._order += 1
        heapq.heappush(self._heap, (max(self.now, when), self._order, callback, args))

    def after(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        """Plan a call from now."""
        self.at(self.now + delay_s, callback, *args)

    def next(self) -> bool:
        """Let the next thing happen, and everything that follows from it at once; tell whether there was one."""
        while self.runnable:
            self.runnable.popleft().run_ready()
        if not self._heap:
            return False
        self.now, _, callback, args = heapq.heappop(self._heap)
        callback(*args)
        return True


class Process(asyncio.AbstractEventLoop):
    """One process: everything that asyncio needs, on the clock of its machine."""

    def __init__(self, timeline: Timeline, name: str, *, rate: float = 1.0, wall_error_s: float = 0.0) -> None:
        self.timeline = timeline
        self.name = name
        self.alive = True
        self.paused = False
        self.paused_at = self.resumed_at = -math.inf
        self.wall_error_s = wall_error_s
        self.trouble: list[str] = []
        """Exceptions that nobody caught."""
        self._rate = rate
        self._local_at, self._global_at = 1000.0, timeline.now
        self._ready: deque[asyncio.Handle] = deque()
        self._late: list[asyncio.TimerHandle] = []
        self._queued = False
        self._stands_still = False
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # Clocks

    def time(self) -> float:
        """Tell the monotonic clock."""
        if self._stands_still:
            return self._local_at
        return self._local_at + (self.timeline.now - self._global_at) * self._rate

    def wall(self) -> datetime:
        """Tell the wall clock."""
        return EPOCH + timedelta(seconds=self.timeline.now + self.wall_error_s)

    # Life

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Let something from outside reach the process: at once, or when it is resumed."""
        if self.alive:
            self.call_soon(callback, *args)

    def pause(self, *, clock_too: bool = False) -> None:
        """Stop it, as SIGSTOP does; its monotonic clock as well, as the suspension of a virtual machine does."""
        self.paused = True
        self.paused_at = self.timeline.now
        if clock_too:
            self._local_at, self._global_at = self.time(), self.timeline.now
            self._stands_still = True

    def resume(self) -> None:
        """Let it go on; what was due meanwhile happens now."""
        if not self.paused:
            return
        self.paused = False
        self.resumed_at = self.timeline.now
        if self._stands_still:
            self._global_at, self._stands_still = self.timeline.now, False
        late, self._late = sorted(self._late, key=lambda handle: handle.when()), []
        for handle in late:
            if handle.when() > self.time():
                self._arm(handle)
            else:
                self._push(handle)
        self._announce()

    def kill(self) -> None:
        """End it: its tasks are cancelled, and nothing that they still try reaches anybody."""
        if not self.alive:
            return
        self.alive, self.paused = False, False
        for task in list(self._tasks):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.cancel()
        self.run_ready()

    # What asyncio asks of a loop

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._push(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._arm(handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """See asyncio."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def is_running(self) -> bool:
        """See asyncio."""
        return True

    def is_closed(self) -> bool:
        """See asyncio."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See asyncio."""
        if self.alive:
            self.trouble.append(f"{context.get('message')}: {context.get('exception')!r}")

    def must_not_fail(self, task: asyncio.Task[Any]) -> None:
        """Take note of the exception that ends a task, if one does; a callback of tasks on which nobody waits."""
        if not task.cancelled() and (error := task.exception()) is not None and self.alive:
            self.trouble.append(f"a task ended with {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def run_ready(self) -> None:
        """Run what can run now."""
        self._queued = False
        if self.paused:
            return
        ready, left = self._ready, SPIN_MAX
        events._set_running_loop(self)
        try:
            while ready and left:
                left -= 1
                handle = ready.popleft()
                if not handle._cancelled:  # type: ignore[attr-defined]
                    handle._run()
        finally:
            events._set_running_loop(None)
        if not left:
            raise SpinError(f"{self.name} ran {SPIN_MAX} callbacks at one moment and wants more: {ready[0]}")

    def _arm(self, handle: asyncio.TimerHandle) -> None:
        delay_s = max(0.0, handle.when() - self.time()) / self._rate
        if delay_s < 1e9:
            self.timeline.after(delay_s, self._due, handle)

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if handle._cancelled or not self.alive:  # type: ignore[attr-defined]
            return
        if self.paused:
            self._late.append(handle)
        else:
            self._push(handle)

    def _push(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)
        self._announce()

    def _announce(self) -> None:
        if not self._queued and self._ready and self.alive:
            self._queued = True
            self.timeline.runnable.append(self)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
