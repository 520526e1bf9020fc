"""A redundant trainer's life between its start and its promotion: warm, with the newest checkpoint loaded.

Guarantees that Ready is said only for a checkpoint that was verified, is loaded, and lies on the primary's volume: the
volume's id is compared, or the checkpoint is the one that the primary named by its digest. It acts on the agent's
messages; once a second the volume is read as well, so that an agent that cannot reach the API does not stop it.
A volume that is not the primary's is told: at once if it has an id of its own, else when a cache of names can no longer
hide the id, by the monotonic clock.
"""

import contextlib
import queue
import time
from collections.abc import Callable
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.reports import CheckpointRef

from understudy.checkpoint import Checkpoint, RankStore
from understudy.checkpoint.store import FLOOR_WAIT_S
from understudy.counters import Counters
from understudy.errors import CheckpointDamaged, CheckpointMissing, Retryable, VolumeMismatch, VolumeReadOnly
from understudy.protocol import Follow, FromAgent, HandOver, Notice, Promote, Ready, Standby, Supersede
from understudy.trainer.exits import HandedOverExit, SupersededExit
from understudy.trainer.link import Closed, Link
from understudy.trainer.log import say

PEEK_INTERVAL_S: Final = 1.0
"""How often the volume is read without being told: a fallback, one directory listing."""


class Follower:
    """Follows the primary's checkpoints until the promotion."""

    def __init__(
        self, link: Link, store: RankStore, order: Standby, load: Callable[[Checkpoint], None], counters: Counters
    ) -> None:
        """Follow `store`, loading each newer checkpoint with `load`; `counters` show that this is alive, or reads."""
        self._link = link
        self._store = store
        self._load = load
        self._counters = counters
        self._volume = order.volume
        self._wanted: CheckpointRef | None = None
        self._announced: CheckpointRef | None = None
        self._rejected: set[CheckpointRef] = set()
        self._said: set[str] = set()
        self._looked_since: float | None = None
        """Since when this volume has been looked at for the primary's id."""
        self.loaded: CheckpointRef | None = None

    def run(self) -> Promote:
        """Follow until promoted. Raises SystemExit when the agent is gone or a higher term ended this pod."""
        while True:
            self._follow()
            if (promote := self._take_messages()) is not None:
                return promote

    def _take_messages(self) -> Promote | None:
        message: FromAgent | Closed
        try:
            message = self._link.inbox.get(timeout=PEEK_INTERVAL_S)
        except queue.Empty:
            self._counters.bump()
            return None
        while True:
            match message:
                case Promote():
                    return message
                case Follow(checkpoint=ref, volume=volume):
                    self._wanted = ref
                    self._store.know_term(ref.term)
                    self._volume = volume or self._volume
                case Standby(volume=volume):
                    self._volume = volume or self._volume
                case Supersede(term=term):
                    raise SupersededExit(term)
                case HandOver():
                    raise HandedOverExit
                case Closed():
                    raise SystemExit("understudy: the agent is gone; a redundant trainer has nothing to do without it")
            try:
                message = self._link.inbox.get_nowait()  # only the newest checkpoint matters
            except queue.Empty:
                return None

    def _follow(self) -> None:
        with self._counters.busy():  # promoted amid a long read it must not count as one that hangs
            try:
                self._catch_up()
                self._announce()
            except VolumeReadOnly as trouble:  # it stays so until somebody mends it
                self._notice(EventReason.VOLUME_TROUBLE, str(trouble))
            except Retryable as trouble:
                self._once(str(trouble))

    def _catch_up(self) -> None:
        seen = (self._store.peek(), self._wanted)
        newest = max((ref for ref in seen if ref is not None), default=None)
        if newest is not None and newest != self.loaded and newest not in self._rejected:
            with contextlib.suppress(CheckpointMissing):  # not visible here yet, or pruned meanwhile: look again
                self._load_or_reject(newest)

    def _load_or_reject(self, ref: CheckpointRef) -> None:
        try:
            self._take(self._store.load(ref))
        except CheckpointDamaged as damage:
            self._rejected.add(ref)
            self._notice(EventReason.CHECKPOINT_DAMAGED, str(damage))
            self._fall_back()

    def _fall_back(self) -> None:
        try:
            checkpoint = self._store.newest(None, wait_s=0)
        except CheckpointDamaged as trouble:
            self._once(str(trouble))
            return
        if checkpoint is not None and checkpoint.ref != self.loaded:
            self._take(checkpoint)

    def _take(self, checkpoint: Checkpoint) -> None:
        self._load(checkpoint)
        self.loaded = checkpoint.ref

    def _announce(self) -> None:
        announced = self.loaded is not None and self.loaded == self._announced
        if announced or not self._on_the_primarys_volume() or self.loaded is None:
            return
        self._announced = self.loaded
        say(f"standing by with step {self.loaded.step} of term {self.loaded.term}")
        self._link.send(Ready(self.loaded))

    def _on_the_primarys_volume(self) -> bool:
        if self._volume is None:
            return self.loaded == self._wanted
        found = self._store.volume_id()
        if found == self._volume:
            return True
        now = time.monotonic()
        if self._looked_since is None:
            self._looked_since = now
        if found is not None or now >= self._looked_since + FLOOR_WAIT_S:
            self._notice(EventReason.VOLUME_MISMATCH, str(VolumeMismatch(self._volume, found)))
        return False

    def _notice(self, reason: EventReason, message: str) -> None:
        if message not in self._said:
            self._once(message)
            self._link.send(Notice(reason, message))

    def _once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            say(message)
