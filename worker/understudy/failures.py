"""One sentence for each way in which a script can fail, told to the agent before the traceback is printed as usual.

An exception that crosses `name_failure` is given a note that names the call; `explain_failures` makes the process's
excepthook tell the agent that note, or else the exception and the line of the script. Nothing is swallowed.
"""

import sys
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


def explain_failures(tell: Callable[[Failed], None]) -> None:
    """Let uncaught exceptions of the process be told; the hook that was there runs after it."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell(Failed(sentence(error), isinstance(error, VOLUME)))
        previous(kind, error, trace)

    sys.excepthook = hook


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
