"""One sentence for each way in which a script can fail, told to the agent before the traceback is printed as usual.

An exception that crosses `name_failure` is given a note that names the call; what is told is that note, or else the
exception and the line of the script. Nothing is swallowed.

What is told when, and what the agent makes of it:

- An exception leaves the training loop: `Failed(final=False)`. The script may still catch it, to clean up or to log it,
  so the agent only remembers it. It is the reason of the failure if the process then ends before the training is
  complete, with whatever code, or does nothing until its deadline.
- Nobody has caught it, in the main thread or in the thread that trains: `Failed`. The process gets some seconds to end.
- The thread that has trained ends in another way, such as `sys.exit` in the loop, and its process lives on: `Failed`.

Exceptions of other threads are no failures of the training: a thread that only reports may die, and one that feeds the
loop makes the loop fail, or wait until its deadline. `sys.exit` before the loop began is not told: the process ends by
it, or, where a thread keeps it, startupDeadlineSeconds ends it.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from understudy_contract.bounds import TEXT_MAX_BYTES
from understudy_contract.text import clean

from understudy.errors import CheckpointDamaged, Retryable, UnderstudyError, VolumeMismatch
from understudy.protocol import Failed

VOLUME: Final = (Retryable, VolumeMismatch, CheckpointDamaged)
"""Errors of the storage: they end no job, since they pass when somebody mends it."""

OUTLIVED_S: Final = 1.0
"""From the end of the thread that trains to the end of its process: what is there later is kept by something."""

_PREFIX: Final = "understudy: "


@contextmanager
def name_failure(call: str) -> Iterator[None]:
    """Note on an exception which call raised it; the innermost name wins."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, UnderstudyError) and _note_of(error) is None:
            error.add_note(f"{_PREFIX}{call} raised {type(error).__name__}: {_brief(error)}")
        raise


def explain_failures(tell: Callable[[Failed], None], trains: Callable[[], threading.Thread | None]) -> None:
    """Let uncaught exceptions be told; the hooks that were there run after it. `trains()` is the loop's thread."""
    previous, previous_in_threads = sys.excepthook, threading.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell(failed(error))
        previous(kind, error, trace)

    def hook_in_threads(args: threading.ExceptHookArgs) -> None:
        if args.thread is not None and args.thread is trains() and args.exc_value is not None:
            tell(failed(args.exc_value))
        previous_in_threads(args)

    sys.excepthook = hook
    threading.excepthook = hook_in_threads


def explain_end(thread: threading.Thread, reason: Callable[[], Failed | None], tell: Callable[[Failed], None]) -> None:
    """Call `tell(reason())` when `thread` has ended and its process still runs, unless the reason is None.

    Python counts the main thread as ended before it waits for the threads that are not daemons.
    """

    def watch() -> None:
        thread.join()
        time.sleep(OUTLIVED_S)
        if (why := reason()) is not None:
            tell(why)

    threading.Thread(target=watch, name="understudy-end", daemon=True).start()


def failed(error: BaseException, *, final: bool = True) -> Failed:
    """Say what failed, as the agent is told."""
    return Failed(sentence(error), isinstance(error, VOLUME), final)


def sentence(error: BaseException) -> str:
    """Say in one sentence what failed."""
    if isinstance(error, UnderstudyError):
        text = str(error)
    elif (note := _note_of(error)) is not None:
        text = note
    else:
        text = f"{type(error).__name__}: {_brief(error)}{_place(error.__traceback__)}"
    return clean(text, TEXT_MAX_BYTES)  # it ends up in annotations and Events; the traceback in the log has the rest


def _brief(error: BaseException) -> str:
    """Leave out the stack that TensorFlow puts into the message of an error in a graph; the log has it."""
    lines = str(error).splitlines()
    if not lines or not lines[0].startswith("Graph execution error"):
        return str(error)
    noise = ("Graph execution error", "Detected at node", "File ", "[[{{node")
    kept = [line for line in map(str.strip, lines) if line and not line.startswith(noise)]
    return " ".join(kept) or lines[0]


def _note_of(error: BaseException) -> str | None:
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note.removeprefix(_PREFIX) for note in notes if note.startswith(_PREFIX)), None)


def _place(trace: TracebackType | None) -> str:
    script = sys.argv[0]
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == script:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" ({Path(script).name}, line {line})" if line is not None else ""
