"""How a trainer ends without failing: SystemExit with a reserved code, so that the script's `finally` clauses run.

A pod that is deleted first saves and hands over. Then its script is told in the way that it knows: its own handler of
SIGTERM runs, once, in the main thread, at the place where the loop stands between two steps. What the handler raises
ends the script; a handler that returns is followed by HandedOverExit. After that come `finally` clauses, the end of
threads that are no daemons, and exit handlers, for as long as the pod's grace period lasts.

A script without a handler of its own gets no signal, since the default action would cut its `finally` clauses off.
Neither do its child processes or a launcher above it: they end with the script, or with the container.
"""

import concurrent.futures.thread  # noqa: F401 - see at_end_of_script
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final

from understudy_contract.exits import ExitCode

_NAMED: Final = 3
"""Threads and processes that are named at most."""


class HandedOverExit(SystemExit):
    """The state is saved and another pod goes on: nothing behind the training loop runs."""

    def __init__(self) -> None:
        super().__init__(int(ExitCode.HANDED_OVER))


class SupersededExit(SystemExit):
    """Another pod trains this rank at a higher term."""

    def __init__(self, term: int) -> None:
        super().__init__(int(ExitCode.SUPERSEDED))
        self.term = term
        """The higher term."""


def terminate_script() -> None:
    """Run the script's own handler of SIGTERM, if it has one: here in the main thread, else soon after."""
    if callable(signal.getsignal(signal.SIGTERM)):
        signal.raise_signal(signal.SIGTERM)


def at_end_of_script(tell: Callable[[str], None]) -> None:
    """Tell when the main thread has come to its end, and what the interpreter waits for then, if it waits for anything.

    threading calls such functions before it waits for threads that are no daemons, atexit only after that. No public
    function does. concurrent.futures uses the same one to wait for its threads: it is imported here, since what was
    registered last is called first.
    """

    def ended() -> None:
        tell(_waited_for())

    try:
        threading._register_atexit(ended)  # type: ignore[attr-defined]
    except RuntimeError:
        ended()  # the interpreter is shutting down already


def _waited_for() -> str:
    """Name the threads and child processes that keep the interpreter from ending; nothing where there are none."""
    own = (threading.main_thread(), threading.current_thread())
    names = [f"thread {t.name}" for t in threading.enumerate() if t not in own and not t.daemon]
    if (multiprocessing := sys.modules.get("multiprocessing")) is not None:
        names += [f"process {child.name}" for child in multiprocessing.active_children() if not child.daemon]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
