"""The saves of one primary: in the background while it trains, in the loop where the next thing must be durable.

In the background a thread commits snapshots, so that the loop is blocked for its snapshot only. One save is in flight;
of the snapshots that wait, the newest wins, and the others are never saved.

Guarantees that a save that fails stops no training: it is reported, each distinct error at most every ten minutes, and
the next save tries again. A hand-over and the end of the training try several times before they give up. Both are timed
by the monotonic clock. A higher term found on the volume is an order: it goes to `Orders`, and nothing more is saved.
Which commit is the newest is known by the writer alone.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from understudy_contract.events import EventReason
from understudy_contract.reports import CheckpointRef

from understudy.checkpoint import TermWriter
from understudy.errors import Retryable, Superseded, UnderstudyError
from understudy.protocol import Committed, FromTrainer, Notice
from understudy.trainer.link import Orders
from understudy.trainer.log import say
from understudy.trainer.state import State, Tensors

FINAL_TRIES: Final = 6
"""Tries of a save that must succeed; with the pauses between them about half a minute."""
TOLD_EVERY_S: Final = 600.0
"""A failure that lasts, or comes back, is told of again after so long: Kubernetes forgets Events after an hour."""
FIRST_PAUSE_S: Final = 0.5
"""Pause after the first failed try; doubled after each."""


_Saved = TypeVar("_Saved")


@dataclass(frozen=True, slots=True)
class _Snapshot:
    step: int
    tensors: Tensors
    extra: dict[str, Any]


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
        """Save `state` with `envelope()` as the manifest's extra; report commits and failures to the agent."""
        self._writer = writer
        self._state = state
        self._orders = orders
        self._tell = tell
        self._bump = bump
        self._envelope = envelope
        self._reported_at: dict[tuple[type[BaseException], int | None], float] = {}
        self._changed = threading.Condition()
        self._waiting: _Snapshot | None = None
        self._busy = self._closed = self._superseded = False
        self._thread = threading.Thread(target=self._run, name="understudy-saver", daemon=True)
        self._thread.start()

    @property
    def newest(self) -> CheckpointRef | None:
        """The newest commit of this term, else what it is based on."""
        return self._writer.newest

    def submit(self, step: int) -> None:
        """Save in the background; blocks for the snapshot only. After a higher term was found, save nothing."""
        snapshot = self._snapshot(step)
        with self._changed:
            if self._closed:
                raise ValueError("the saves of this term are closed")
            if not self._superseded:
                self._waiting = snapshot
                self._changed.notify_all()
        self._bump()

    def commit(self, step: int) -> CheckpointRef:
        """Save and return once it is durable; a step that is committed already is not written again.

        Raises Superseded at once, and the volume's error after several tries.
        """
        self.settle()
        if self.newest is not None and self.newest.step == step:
            return self.newest
        return self._insist(lambda: self._save(self._snapshot(step)))

    def settle(self) -> None:
        """Wait until no save is in flight or waiting; what failed is reported already."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None and not self._busy)

    def publish(self, name: str, write: Callable[[Path], None]) -> Path:
        """Let `write` make the trained model's file in this term's folder, visible once it is durable.

        Raises what `write` raises at once, and the volume's error after several tries.
        """
        return self._insist(lambda: self._writer.publish_final(name, write))

    def close(self) -> None:
        """Finish what was submitted, and end the thread; raises nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _snapshot(self, step: int) -> _Snapshot:
        return _Snapshot(step, self._state.tensors(), self._envelope())

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                snapshot, self._waiting = self._waiting, None
                if snapshot is None:
                    return
                self._busy = True
            try:
                self._save(snapshot)
            except Exception as error:  # noqa: BLE001 - a thread has no caller, and training goes on
                self._failed(error)
            del snapshot  # or a copy of the whole state would live until the next one
            with self._changed:
                self._busy = False
                if self._superseded:
                    self._waiting = None
                self._changed.notify_all()

    def _save(self, snapshot: _Snapshot) -> CheckpointRef:
        ref = self._writer.commit(snapshot.step, snapshot.tensors, snapshot.extra)
        self._bump()
        self._tell(Committed(ref))
        notices, self._writer.notices = self._writer.notices, []
        for notice in notices:
            self._failed(notice)
        return ref

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

    def _failed(self, error: BaseException) -> None:
        self._bump()
        if isinstance(error, Superseded):
            self._superseded, self._orders.superseded_by = True, error.term
            return
        kind = (type(error), getattr(error, "errno", None))
        now = time.monotonic()
        if now < self._reported_at.get(kind, -math.inf) + TOLD_EVERY_S:
            return
        self._reported_at[kind] = now
        sentence = str(error) if isinstance(error, UnderstudyError) else f"{type(error).__name__}: {error}"
        say(f"a save failed, training goes on: {sentence}")
        self._tell(Notice(EventReason.CHECKPOINT_FAILED, sentence))
