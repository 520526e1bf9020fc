"""Was the training loop left by the script's own will, or by an exception?

A generator hears the same of both: GeneratorExit, at the moment when the loop gives it up. But the two leave different
marks in the frame that runs the loop, and `left_willingly` reads them while the generator is being closed:

1. An exception that passes through a frame is remembered by a traceback, whose `tb_frame` is that frame and whose
   `tb_lasti` is the instruction that the frame stands at. A frame that stands elsewhere has dealt with that exception,
   or puts it on its way again at the end of a `finally` or `with`: then it stands where no loop is left (RERAISE).
2. An exception that is being handled while the generator is closed, and was not when the last step was asked for, is
   why it is closed: so in `except` and `finally` clauses, and in the `__exit__` of contextlib.closing.
3. Neither, and the frame leaves a loop, or has called what closes the generator or drops it on its return: that is
   `break`, `return`, an explicit close(), or another iterator in the same zip that has come to its end.

An iterator that wraps this one, such as a progress bar, is closed first by the same mechanism: GeneratorExit passes
through its frame, or is handled there, and the question is passed on to the frame that ran it.

Guarantees that an exception which leaves the loop is never taken for a decision, as long as the generator goes with the
loop: whatever is not one of the cases above counts as no decision. So a generator that outlives its loop in a variable,
and is closed by nobody, decides nothing, and neither does one that is dropped when an exception was dealt with
elsewhere. Does not look at exceptions that the body of the loop has caught itself. Relies on CPython's frames, 3.11 to
3.13; a test holds each shape of a loop against them. Reads no clock.
"""

import gc
import inspect
import opcode
from types import FrameType, TracebackType
from typing import Final

_CALLS: Final = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW", "CACHE", "PRECALL"})
"""Where a frame stands while a function that it has called closes the generator, or returns and drops it."""
_LEAVES: Final = frozenset({"POP_TOP", "POP_ITER", "FOR_ITER", "END_FOR"})
"""Where a frame stands when it leaves a loop."""
_YIELDS: Final = frozenset({"YIELD_VALUE", "RESUME"})
"""Where a generator's frame stands when an exception is thrown into it."""


def left_willingly(closing: GeneratorExit, frame: FrameType | None, handled: BaseException | None) -> bool:
    """Say whether a generator is being closed because the script wanted to leave its loop.

    `frame` is the one that runs while the generator is closed, `handled` the exception that was being handled when the
    generator was resumed last.
    """
    context = closing.__context__
    while isinstance(context, GeneratorExit) and context is not handled and frame is not None:
        context, frame = context.__context__, frame.f_back
    if context is not handled:
        return False
    while frame is not None and (passing := _passing(frame)) is not None:
        if passing is not GeneratorExit:
            return False
        frame = frame.f_back
    return frame is not None and _opcode(frame) in _CALLS | _LEAVES


def _passing(frame: FrameType) -> type[BaseException] | None:
    """Tell what is on its way through a frame: GeneratorExit through that of a generator, BaseException, or nothing."""
    traces = [t for t in gc.get_referrers(frame) if isinstance(t, TracebackType)]
    for trace in traces:
        if trace.tb_frame is not frame or trace.tb_lasti != frame.f_lasti:
            continue
        # Until it is caught, 3.11 keeps an exception apart from its traceback.
        error = next((e for e in gc.get_referrers(trace) if isinstance(e, BaseException)), None)
        closed = _opcode(frame) in _YIELDS if error is None else isinstance(error, GeneratorExit)
        return GeneratorExit if closed and frame.f_code.co_flags & inspect.CO_GENERATOR else BaseException
    return None


def _opcode(frame: FrameType) -> str:
    return opcode.opname[frame.f_code.co_code[frame.f_lasti]] if frame.f_lasti >= 0 else ""
