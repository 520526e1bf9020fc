"""Loading checkpoints into the state of a training: from which source, and which one is loaded. Reads no clock.

A source gives checkpoints, every byte verified. The volume is one: RankStore has these methods. Another pod could be
one as well, if it serves the checkpoint that it has in memory.

`Loader` alone knows which checkpoint is loaded. A redundant pod loads each newer one (standby.py); a primary makes sure
that the right one is loaded before it begins its term (restore.py).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from understudy_contract.events import EventReason
from understudy_contract.reports import CheckpointRef

from understudy.checkpoint import Checkpoint

Notify = Callable[[EventReason, str], None]
"""Reports a sentence as an Event of the job; training goes on."""


class Source(Protocol):
    """Where checkpoints of one rank come from."""

    def peek(self, floor: CheckpointRef | None = None) -> CheckpointRef | None:
        """Name what `newest(floor)` would load, without its tensors; None if there is nothing, or not the floor."""
        ...

    def load(self, ref: CheckpointRef) -> Checkpoint:
        """Load this checkpoint. Raises CheckpointDamaged, CheckpointMissing."""
        ...

    def newest(self, floor: CheckpointRef | None = None) -> Checkpoint | None:
        """Load the newest one, at or above the floor; None if the rank never committed one."""
        ...


class Loader:
    """Loads checkpoints of one source into one state."""

    def __init__(self, source: Source, load: Callable[[Checkpoint], None], notice: Notify) -> None:
        """Load from `source` with `load`; `notice(reason, sentence)` reports what was skipped."""
        self._source = source
        self._load = load
        self._notice = notice
        self.loaded: Checkpoint | None = None
        """Without its tensors: they are in the state."""
        self.inherited: Checkpoint | None = None
        """The same of an earlier job: a fresh start of this one begins with it."""

    @property
    def ref(self) -> CheckpointRef | None:
        """Name of the checkpoint that is loaded."""
        return self.loaded.ref if self.loaded is not None else None

    def take(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint into the state."""
        self._load(checkpoint)
        self.loaded = replace(checkpoint, tensors={})

    def inherit(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint of an earlier job into the state."""
        self.report_damage(checkpoint)
        self._load(checkpoint)
        self.inherited = replace(checkpoint, tensors={})

    def catch_up(self, floor: CheckpointRef | None) -> None:
        """Make sure that the newest checkpoint is loaded, at or above the floor."""
        loaded = self.ref
        if loaded is not None and loaded == self._source.peek(floor):
            return  # the redundant pod followed in time: nothing to read on the way to the first step
        newest = self._source.newest(floor)
        if newest is None:
            return
        self.report_damage(newest)
        self.inherited = None
        if newest.ref != loaded:
            self.take(newest)

    def report_damage(self, checkpoint: Checkpoint) -> None:
        """Report the damaged checkpoints that were passed over on the way to this one."""
        for sentence in checkpoint.damaged:
            self._notice(EventReason.CHECKPOINT_DAMAGED, sentence)
