"""A redundant trainer's life between its start and its promotion: warm, with the newest checkpoint loaded.

A checkpoint comes to a redundant pod in one way: once a second, and whenever the agent says something, the trainer
looks at the volume for a newer one, and loads it. This needs neither the agent nor the API server, and it is prompt:
the rank's Lease names a checkpoint up to a third of a lease duration later, with the primary's next renewal.

The checkpoint that the Lease names (Follow) is evidence, and no second way. It says three things. The volume is the
primary's, if it has this very checkpoint, by its digest. The rank has had its term, so folders of this term are no
stranger's. And if the volume shows only older ones, the named one is asked for by its name: it is not visible here yet,
which the next look will tell, or it is damaged, which is reported while the primary still lives.

Guarantees that Ready is said only for a checkpoint that was verified, is loaded, and lies on the primary's volume: the
volume's id is compared, or the evidence is. A volume that is not the primary's is reported: at once if it has an id of
its own, else when a cache of names can no longer hide the id, by the monotonic clock.
"""

import contextlib
import time
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.reports import CheckpointRef

from understudy.checkpoint import RankStore
from understudy.checkpoint.store import FLOOR_WAIT_S
from understudy.counters import Counters
from understudy.errors import CheckpointDamaged, CheckpointMissing, Retryable, VolumeMismatch, VolumeReadOnly
from understudy.protocol import Follow, Notice, Promote, Ready, Standby
from understudy.trainer.link import AgentLink, receive
from understudy.trainer.loading import Loader
from understudy.trainer.log import say

PEEK_INTERVAL_S: Final = 1.0
"""How often the volume is looked at: one listing of a folder, and the manifest of the newest checkpoint."""


class Follower:
    """Follows the primary's checkpoints until the promotion."""

    def __init__(self, link: AgentLink, store: RankStore, loader: Loader, order: Standby, counters: Counters) -> None:
        """Follow `store`, loading each newer checkpoint with `loader`; `counters` show that this is alive, or reads."""
        self._link = link
        self._store = store
        self._loader = loader
        self._counters = counters
        self._volume = order.volume
        self._named: CheckpointRef | None = None
        """The newest checkpoint that the rank's Lease has named."""
        self._announced: CheckpointRef | None = None
        self._rejected: set[CheckpointRef] = set()
        self._said: set[str] = set()
        self._looked_since: float | None = None
        """Since when this volume has been looked at for the primary's id."""

    def run(self) -> Promote:
        """Follow until promoted. Raises SystemExit when this pod is to end."""
        while True:
            self._follow()
            if (promote := self._take_messages()) is not None:
                return promote

    def _take_messages(self) -> Promote | None:
        """Wait for a message until the next look, and take in those that came with it."""
        message = receive(self._link, PEEK_INTERVAL_S)
        if message is None:
            self._counters.bump()
        while message is not None:
            match message:
                case Promote():
                    return message
                case Follow(checkpoint=ref, volume=volume):
                    self._named = ref
                    self._store.know_term(ref.term)
                    self._volume = volume or self._volume
                case Standby(volume=volume):
                    self._volume = volume or self._volume
            message = receive(self._link, 0)
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
        newest = self._store.peek()
        if newest is None or (self._named is not None and newest < self._named):
            newest = self._named
        if newest is not None and newest != self._loader.ref and newest not in self._rejected:
            with contextlib.suppress(CheckpointMissing):  # not visible here yet, or pruned meanwhile: look again
                self._load_or_reject(newest)

    def _load_or_reject(self, ref: CheckpointRef) -> None:
        try:
            self._loader.take(self._store.load(ref))
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
        if checkpoint is not None and checkpoint.ref != self._loader.ref:
            self._loader.take(checkpoint)

    def _announce(self) -> None:
        loaded = self._loader.ref
        announced = loaded is not None and loaded == self._announced
        if announced or not self._on_the_primarys_volume() or loaded is None:
            return
        self._announced = loaded
        say(f"standing by with step {loaded.step} of term {loaded.term}")
        self._link.send(Ready(loaded))

    def _on_the_primarys_volume(self) -> bool:
        if self._volume is None:
            return self._loader.ref == self._named
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
