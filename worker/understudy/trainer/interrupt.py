"""Ctrl-C on a laptop: the first one ends the training after the running step and a save, the second one at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from understudy.trainer.link import Orders
from understudy.trainer.log import say


@contextmanager
def interruptible(orders: Orders, *, standalone: bool) -> Iterator[None]:
    """Turn SIGINT into a hand-over while the block runs; no effect beside an agent or outside the main thread."""
    if not standalone or threading.current_thread() is not threading.main_thread():
        yield
        return

    def hand_over(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        orders.hand_over = True
        say("interrupted: saving after this step (again: stop at once)")

    previous = signal.signal(signal.SIGINT, hand_over)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
