"""Ways to leave a training loop, each as a script of its own: `python loops.py NAME` runs one of them."""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from numpy_trainer import Regression
from understudy import Session

STOP = 25
"""Step after which the loop is left."""

WILLING: dict[str, Callable[[Session], object]] = {}
"""Loops that are left by the script's own will."""
FAILING: dict[str, Callable[[Session], object]] = {}
"""Loops that an exception leaves, or that nobody can tell from such."""
ENDS: dict[str, Callable[[Session], object]] = {}
"""What a script does when its pod ends, or after its training."""


def steps(session: Session, total: int = 1_000_000) -> Generator[int]:
    return session.steps(total, save_every=10, log_every=10)


def progress(iterable: Iterator[int]) -> Iterator[int]:
    """Wrap an iterator as a progress bar does."""
    try:
        for item in iterable:
            int("0")
            yield item
    finally:
        int("0")


def willing(loop: Callable[[Session], object]) -> Callable[[Session], object]:
    WILLING[loop.__name__] = loop
    return loop


def failing(loop: Callable[[Session], object]) -> Callable[[Session], object]:
    FAILING[loop.__name__] = loop
    return loop


def ends(loop: Callable[[Session], object]) -> Callable[[Session], object]:
    ENDS[loop.__name__] = loop
    return loop


@willing
def break_out(session: Session) -> None:
    for step in steps(session):
        if step == STOP:
            break


@willing
def return_from_a_function(session: Session) -> int | None:
    for step in steps(session):
        if step == STOP:
            return step
    return None


@willing
def return_from_a_nested_loop(session: Session) -> tuple[int, int] | None:
    for step in steps(session):
        for number in range(3):
            if (step, number) == (STOP, 1):
                return step, number
    return None


@willing
def stop_and_break(session: Session) -> None:
    for step in steps(session):
        if step == STOP:
            session.stop()
            break


@willing
def break_in_an_except_clause(session: Session) -> None:
    for step in steps(session):
        try:
            if step == STOP:
                raise StopIteration
        except StopIteration:
            break


@willing
def break_while_something_is_handled(session: Session) -> None:
    try:
        raise ImportError("an optional module")
    except ImportError:
        for step in steps(session):
            if step == STOP:
                break


@willing
def break_with_an_exception_kept(session: Session) -> None:
    kept = []
    for step in steps(session):
        try:
            raise ValueError("kept for a report")
        except ValueError as error:
            kept[:] = [error]
        if step == STOP:
            break


@willing
def break_through_finally(session: Session) -> None:
    for step in steps(session):
        try:
            if step == STOP:
                break
        finally:
            int("0")


@willing
def closing(session: Session) -> None:
    with contextlib.closing(steps(session)) as iterator:
        for step in iterator:
            if step == STOP:
                break


@willing
def next_by_hand_and_close(session: Session) -> None:
    iterator = steps(session)
    while next(iterator) < STOP:
        pass
    iterator.close()


@willing
def kept_in_a_function(session: Session) -> None:
    iterator = steps(session)
    for step in iterator:
        if step == STOP:
            break


@willing
def stop_and_break_with_a_kept_iterator(session: Session) -> None:
    session.kept = iterator = steps(session)  # type: ignore[attr-defined]
    for step in iterator:
        if step == STOP:
            session.stop()
            break


@willing
def islice(session: Session) -> None:
    for _ in itertools.islice(steps(session), STOP):
        pass


@willing
def zip_with_data_that_end(session: Session) -> None:
    for _ in zip(range(STOP), steps(session), strict=False):
        pass
    # zip asks the first one first: here it ends before another step is taken


@willing
def zip_with_data_that_end_after_a_step(session: Session) -> None:
    for _ in zip(steps(session), range(STOP - 1), strict=False):
        pass


@willing
def a_progress_bar(session: Session) -> None:
    for step in progress(steps(session)):
        if step == STOP:
            break


@willing
def any_of_them(session: Session) -> None:
    any(step == STOP for step in steps(session))


@failing
def raise_in_the_body(session: Session) -> None:
    for step in steps(session):
        if step == STOP:
            raise ValueError("this body is broken")


@failing
def raise_and_catch_outside(session: Session) -> None:
    try:
        raise_in_the_body(session)
    except ValueError as error:
        print("caught", error)


@failing
def raise_and_catch_around_the_loop(session: Session) -> None:
    try:
        for step in steps(session):
            if step == STOP:
                raise ValueError("this body is broken")
    except ValueError as error:
        print("caught", error)


@failing
def raise_from_a_kept_iterator_and_catch(session: Session) -> None:
    def fit() -> None:
        iterator = steps(session)
        for step in iterator:
            if step == STOP:
                raise ValueError("this body is broken")

    with contextlib.suppress(ValueError):
        fit()


@failing
def raise_through_finally(session: Session) -> None:
    with contextlib.suppress(ValueError):
        for step in steps(session):
            try:
                if step == STOP:
                    raise ValueError("this body is broken")
            finally:
                int("0")


@failing
def raise_through_with(session: Session) -> None:
    with contextlib.suppress(ValueError):
        for step in steps(session):
            with contextlib.ExitStack():
                if step == STOP:
                    raise ValueError("this body is broken")


@failing
def raise_below_closing(session: Session) -> None:
    with contextlib.suppress(ValueError), contextlib.closing(steps(session)) as iterator:
        for step in iterator:
            if step == STOP:
                raise ValueError("this body is broken")


@failing
def raise_below_a_progress_bar(session: Session) -> None:
    with contextlib.suppress(ValueError):
        for step in progress(steps(session)):
            if step == STOP:
                raise ValueError("this body is broken")


@failing
def close_in_an_except_clause(session: Session) -> None:
    iterator = steps(session)
    try:
        for step in iterator:
            if step == STOP:
                raise ValueError("this body is broken")
    except ValueError:
        iterator.close()


@failing
def data_that_fail(session: Session) -> None:
    def data() -> Iterator[int]:
        yield from range(STOP)
        raise OSError("a file is gone")

    with contextlib.suppress(OSError):
        for _ in zip(steps(session), data(), strict=False):
            pass


@failing
def exit_0_in_the_body(session: Session) -> None:
    for step in steps(session):
        if step == STOP:
            sys.exit(0)


@failing
def exit_3_in_the_body(session: Session) -> None:
    for step in steps(session):
        if step == STOP:
            sys.exit(3)


@failing
def keyboard_interrupt(session: Session) -> None:
    for step in steps(session):
        if step == STOP:
            signal.raise_signal(signal.SIGINT)


@failing
def hard_exit(session: Session) -> None:
    for step in steps(session):
        if step == STOP:
            os._exit(0)


@failing
def next_by_hand_and_never_closed(session: Session) -> None:
    session.kept = iterator = steps(session)  # type: ignore[attr-defined]
    while next(iterator) < STOP:
        pass


@ends
def handler_that_exits(session: Session) -> None:
    signal.signal(signal.SIGTERM, lambda *_: (print("my handler"), sys.exit(143)))
    try:
        for _ in steps(session):
            pass
    finally:
        print("finally")


@ends
def handler_that_returns(session: Session) -> None:
    signal.signal(signal.SIGTERM, lambda *_: print("my handler"))
    try:
        for _ in steps(session):
            pass
    finally:
        print("finally")


@ends
def handler_that_polls(session: Session) -> None:
    signal.signal(signal.SIGTERM, lambda *_: (print("my handler"), session.poll()))
    try:
        for _ in steps(session):
            pass
    finally:
        print("finally")


@ends
def handler_after_the_training(session: Session) -> None:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: (print("my handler"), told.set()))
    for _ in steps(session, total=20):
        pass
    while not told.is_set():  # Event.wait would do; a handler runs between two of these
        time.sleep(0.01)


@ends
def thread_that_lives_on(session: Session) -> None:
    threading.Thread(target=threading.Event().wait, name="upload").start()
    for _ in steps(session, total=20):
        pass


@ends
def pool_that_lives_on(session: Session) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ThreadPoolExecutor(thread_name_prefix="pool").submit(threading.Event().wait)
    for _ in steps(session, total=20):
        pass


if __name__ == "__main__":
    state = Regression()
    loops = {**WILLING, **FAILING, **ENDS}
    loops[sys.argv[1]](Session(state, state.step, directory=Path("checkpoints")))
    print("behind the loop")
