"""The saves of one primary: asynchronous while it trains, synchronous where the next thing must be durable.

Guarantees that a save that fails stops no training: it is reported, each distinct error at most every ten minutes, and
the next save tries again; a hand-over and the end of the training try several times before they give up. Both are timed
by the monotonic clock. A higher term found on the volume is an order: it goes to `Orders`.
"""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from understudy_contract.events import EventReason
from understudy_contract.reports import CheckpointRef

from understudy.checkpoint import AsyncSaver, TermWriter
from understudy.errors import Retryable, Superseded, UnderstudyError
from understudy.protocol import Committed, FromTrainer, Notice
from understudy.trainer.link import Orders
from understudy.trainer.log import say
from understudy.trainer.state import State

FINAL_TRIES: Final = 6
"""Tries of a save that must succeed; with the pauses between them about half a minute."""
TOLD_EVERY_S: Final = 600.0
"""A failure that lasts, or comes back, is told of again after so long: Kubernetes forgets Events after an hour."""
FIRST_PAUSE_S: Final = 0.5
"""Pause after the first failed try; doubled after each."""


_Saved = TypeVar("_Saved")


class Saves:
    """Commits a State into one term's folder."""

    def __init__(
        self,
        writer: TermWriter,
        state: State,
        *,
        orders: Orders,
        tell: Callable[[FromTrainer], None],
        bump: Callable[[], None],
        envelope: Callable[[], dict[str, Any]],
    ) -> None:
        """Save `state` with `envelope()` as the manifest's extra; commits and failures are told to the agent."""
        self._writer = writer
        self._state = state
        self._orders = orders
        self._tell = tell
        self._bump = bump
        self._envelope = envelope
        self._reported_at: dict[tuple[type[BaseException], int | None], float] = {}
        self._saver = AsyncSaver(writer, self._committed, self._failed)
        self.newest: CheckpointRef | None = writer.newest

    def submit(self, step: int) -> None:
        """Save in the background; blocks for the snapshot only."""
        self._saver.submit(step, self._state.tensors(), self._envelope())
        self._bump()

    def commit(self, step: int) -> CheckpointRef:
        """Save and return once it is durable; a step that is committed already is not written again.

        Raises Superseded at once, and the volume's error after several tries.
        """
        self.settle()
        if self.newest is not None and self.newest.step == step:
            return self.newest
        ref = self._insist(lambda: self._writer.commit(step, self._state.tensors(), self._envelope()))
        self._committed(ref)
        return ref

    def settle(self) -> None:
        """Wait until no save is in flight or waiting; what failed is reported already."""
        with contextlib.suppress(Exception):
            self._saver.flush()

    def publish(self, name: str, write: Callable[[Path], None]) -> Path:
        """Let `write` make the trained model's file in this term's folder, visible once it is durable.

        Raises what `write` raises at once, and the volume's error after several tries.
        """
        return self._insist(lambda: self._writer.publish_final(name, write))

    def close(self) -> None:
        """Wait for the save in flight."""
        self._saver.close()

    def _insist(self, save: Callable[[], _Saved]) -> _Saved:
        pause_s = FIRST_PAUSE_S
        for tries_left in reversed(range(FINAL_TRIES)):
            self._bump()
            try:
                return save()
            except Retryable as error:
                self._failed(error)
                if not tries_left:
                    raise
                time.sleep(pause_s)
                pause_s *= 2
        raise AssertionError("unreachable")

    def _committed(self, ref: CheckpointRef) -> None:
        self.newest = ref
        self._bump()
        self._tell(Committed(ref))

    def _failed(self, error: BaseException) -> None:
        self._bump()
        if isinstance(error, Superseded):
            self._orders.superseded_by = error.term
            return
        kind = (type(error), getattr(error, "errno", None))
        now = time.monotonic()
        if now < self._reported_at.get(kind, -math.inf) + TOLD_EVERY_S:
            return
        self._reported_at[kind] = now
        sentence = str(error) if isinstance(error, UnderstudyError) else f"{type(error).__name__}: {error}"
        say(f"a save failed, training goes on: {sentence}")
        self._tell(Notice(EventReason.CHECKPOINT_FAILED, sentence))
