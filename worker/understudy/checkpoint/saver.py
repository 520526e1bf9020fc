"""Saves beside the training loop: the loop is blocked for its snapshot only.

Guarantees: one save is in flight; of the snapshots that wait, the newest wins; a save that fails is reported and
training goes on. Does not guarantee that every snapshot is saved. Reads no clock.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from understudy_contract.reports import CheckpointRef

from understudy.checkpoint.format import Array
from understudy.checkpoint.writer import TermWriter
from understudy.errors import Superseded


@dataclass(frozen=True, slots=True)
class _Snapshot:
    step: int
    tensors: Mapping[str, Array]
    extra: Mapping[str, Any]


class AsyncSaver:
    """A thread that commits snapshots. `on_commit` and `on_error` are called on it, and must not raise."""

    def __init__(
        self,
        writer: TermWriter,
        on_commit: Callable[[CheckpointRef], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._writer = writer
        self._on_commit = on_commit
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: _Snapshot | None = None
        self._busy = False
        self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="understudy-saver", daemon=True)
        self._thread.start()

    def submit(self, step: int, snapshot: Mapping[str, Array], extra: Mapping[str, Any]) -> None:
        """Hand over a snapshot, which nobody may change any more, and return at once.

        After Superseded it is dropped.
        """
        with self._changed:
            if self._closed:
                raise ValueError("the saver is closed")
            if not isinstance(self._error, Superseded):
                self._waiting = _Snapshot(step, snapshot, extra)
                self._changed.notify_all()

    def flush(self) -> CheckpointRef | None:
        """Wait until nothing is in flight or waiting; return the newest commit, or raise what the last save raised."""
        with self._changed:
            self._changed.wait_for(self._idle)
            if self._error is not None:
                raise self._error
            return self._writer.newest

    def close(self) -> None:
        """Finish what was submitted, and end the thread; raises nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _idle(self) -> bool:
        return self._waiting is None and not self._busy

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                snapshot, self._waiting = self._waiting, None
                if snapshot is None:
                    return
                self._busy = True
            error = self._save(snapshot)
            del snapshot  # or a copy of the whole state would live until the next one
            with self._changed:
                self._busy = False
                self._error = error
                if isinstance(error, Superseded):
                    self._waiting = None
                self._changed.notify_all()

    def _save(self, snapshot: _Snapshot) -> Exception | None:
        try:
            ref = self._writer.commit(snapshot.step, snapshot.tensors, snapshot.extra)
        except Exception as error:  # noqa: BLE001 - a thread has no caller: on_error and flush are told
            self._on_error(error)
            return error
        self._on_commit(ref)
        notices, self._writer.notices = self._writer.notices, []
        for notice in notices:
            self._on_error(notice)
        return None
