"""Programs that block, in strict lockstep with the timeline: exactly one of all threads runs at any moment.

A `Program` is a process made of ordinary blocking code. Its threads are real ones, but each runs only while the
timeline has handed over to it, and hands back whenever it would block. So it can be stopped or killed wherever it
blocks, and before each call to its file system; a killed one unwinds at once, and nothing it does then has an effect.
`Threading` and `Clock` have what the product takes from the modules `threading` and `time`.
"""

import _thread
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from tests.simulation.timeline import Process, Timeline


class Killed(BaseException):
    """The program is no more: no handler for errors runs in it."""


_back = _thread.allocate_lock()
_back.acquire()
_idle: "list[_Worker]" = []
_running: "Thread | None" = None


class _Worker:
    """A real thread, used again for one simulated thread after the other."""

    def __init__(self) -> None:
        self.go = _thread.allocate_lock()
        self.go.acquire()
        self.body: Callable[[], None] | None = None
        threading.Thread(target=self._run, daemon=True, name="simulated").start()

    def _run(self) -> None:
        while True:
            self.go.acquire()
            assert self.body is not None
            self.body()
            self.body = None
            _idle.append(self)
            _back.release()


def current() -> "Thread":
    """Give the simulated thread that runs."""
    assert _running is not None, "a program's code runs outside its program"
    return _running


class Thread:
    """One thread of a program."""

    def __init__(self, program: "Program", target: Callable[[], None]) -> None:
        self.program = program
        self.done = False
        self._target = target
        self._ticket = 0
        self._worker: _Worker | None = None
        self._joining: list[tuple[Thread, int]] = []

    def start(self) -> None:
        """Let it run from the next moment on."""
        self.program.threads.append(self)
        self.program.timeline.after(0.0, self.wake, 0)

    def join(self) -> None:
        """Wait for its end; called by another thread of the program."""
        while not self.done:
            waiter = current()
            self._joining.append((waiter, waiter.ticket()))
            waiter.block()

    def ticket(self) -> int:
        """Name the wait that comes next, for `wake`."""
        return self._ticket

    def block(self, seconds: float | None = None) -> None:
        """Wait to be woken, or for so long; called by this thread. Nobody would wake one of a dead program any more."""
        if self.program.dead:
            raise Killed
        if seconds is not None:
            self.program.timeline.after(seconds, self.wake, self._ticket)
        _back.release()
        assert self._worker is not None
        self._worker.go.acquire()
        if self.program.dead:
            raise Killed

    def wake(self, ticket: int) -> None:
        """Let it go on, if it still is in that wait; a paused one does so when it is resumed."""
        if self.done or ticket != self._ticket:
            return
        if self.program.paused:
            self.program.held.append((self, ticket))
            return
        self._ticket += 1
        self._resume()

    def unwind(self) -> None:
        """End it where it stands: the program is dead."""
        if self._worker is not None and not self.done:
            self._resume()
        self.done = True

    def _resume(self) -> None:
        global _running
        if self._worker is None:
            self._worker = _idle.pop() if _idle else _Worker()
            self._worker.body = self._body
        _running = self
        self._worker.go.release()
        _back.acquire()
        _running = None

    def _body(self) -> None:
        try:
            self._target()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - nobody else would see it
            self.program.ended(error)
        self.done = True
        for waiter, ticket in self._joining:
            self.program.timeline.after(0.0, waiter.wake, ticket)


class Program:
    """A process of blocking code, on the machine of a `Process`."""

    def __init__(self, timeline: Timeline, machine: Process, ended: Callable[[BaseException], None]) -> None:
        self.timeline = timeline
        self.machine = machine
        self.ended = ended
        """Told of what ends a thread, unless it was killed."""
        self.threads: list[Thread] = []
        self.held: list[tuple[Thread, int]] = []
        self.paused = self.dead = False
        self.belongings: Any = None
        """What the code of this program finds around it."""
        self._countdown = 0
        self._interruption: Callable[[], float | None] | None = None

    def interrupt(self, calls: int, what: Callable[[], float | None]) -> None:
        """Ask `what` before the so-manieth call to the file system from now: seconds to stand still, None: it is
        killed."""
        self._countdown, self._interruption = calls, what

    def before_call(self) -> None:
        """Stand still here, or die, if it was said so; called before each call to the file system."""
        if self.dead:
            raise Killed
        if self._countdown:
            self._countdown -= 1
            if not self._countdown and self._interruption is not None:
                seconds = self._interruption()
                if seconds is None:
                    self.timeline.after(0.0, self.ended, SystemExit(137))
                    current().block(3600.0)
                else:
                    current().block(seconds)

    def pause(self) -> None:
        """Stop it, as SIGSTOP does."""
        self.paused = True

    def resume(self) -> None:
        """Let it go on."""
        self.paused = False
        held, self.held = self.held, []
        for thread, ticket in held:
            self.timeline.after(0.0, thread.wake, ticket)

    def kill(self) -> None:
        """End it."""
        if self.dead:
            return
        self.dead, self.paused = True, False
        for thread in self.threads:
            thread.unwind()


class Clock:
    """What the product takes from `time`."""

    @staticmethod
    def monotonic() -> float:
        """Tell the clock of the program's machine."""
        return current().program.machine.time()

    @staticmethod
    def sleep(seconds: float) -> None:
        """Let time pass."""
        thread = current()
        if thread.program.dead:
            raise Killed
        thread.block(seconds)


class _Condition:
    def __init__(self) -> None:
        self._waiting: list[tuple[Thread, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for(self, predicate: Callable[[], bool]) -> None:
        thread = current()
        if thread.program.dead:
            raise Killed
        while not predicate():
            self._waiting.append((thread, thread.ticket()))
            thread.block()

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for thread, ticket in waiting:
            thread.program.timeline.after(0.0, thread.wake, ticket)


class _RLock:
    def __init__(self) -> None:
        self._owner: Thread | None = None
        self._depth = 0
        self._free = _Condition()

    def __enter__(self) -> Self:
        thread = current()
        self._free.wait_for(lambda: self._owner in (None, thread))
        self._owner = thread
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._free.notify_all()


class Threading:
    """What the product takes from `threading`."""

    Condition = _Condition
    RLock = _RLock

    @staticmethod
    def Thread(*, target: Callable[[], None], name: str, daemon: bool) -> Thread:  # noqa: N802 - as there
        """Make a thread of the program that asks."""
        return Thread(current().program, target)


class Inbox:
    """A queue.SimpleQueue whose readers are threads of a program."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiting: tuple[Thread, int] | None = None

    def put(self, item: Any) -> None:
        """Add an item; called by anybody."""
        self._items.append(item)
        if self._waiting is not None:
            thread, ticket = self._waiting
            thread.program.timeline.after(0.0, thread.wake, ticket)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for an item."""
        thread = current()
        if not self._items:
            self._waiting = thread, thread.ticket()
            thread.block(timeout)
            self._waiting = None
        elif thread.program.dead:
            raise Killed
        return self.get_nowait()

    def get_nowait(self) -> Any:
        """Take an item; raises queue.Empty."""
        if not self._items:
            raise queue.Empty
        return self._items.popleft()


def quiet_exit(error: BaseException) -> int:
    """Tell the exit code of a script that ends with an exception, as Python does."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 1


assert sys.version_info >= (3, 11)
