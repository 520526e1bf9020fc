"""From an order of the agent to a writer for the term: which checkpoint a primary goes on from.

Guarantees that a primary starts from the newest checkpoint on the volume, at or above the durable floor, verified; and
from nothing only when the rank never committed anything, nor the earlier job that it is to go on from. Does not decide
roles. Trusts no clock.
"""

import contextlib
import itertools
import queue
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.names import Resume
from understudy_contract.reports import CheckpointRef

from understudy.checkpoint import Checkpoint, RankStore, TermWriter
from understudy.checkpoint.marks import Mark, earlier_jobs, leave_mark
from understudy.checkpoint.store import FLOOR_WAIT_S
from understudy.errors import CheckpointsExist, Superseded, VolumeMismatch, VolumeTrouble
from understudy.protocol import Follow, HandOver, Promote, Standby, Supersede
from understudy.trainer.context import Context
from understudy.trainer.exits import HandedOverExit, SupersededExit
from understudy.trainer.link import Closed, Link

WAIT_S: Final = 1.0
"""How often a trainer that waits for its order shows that it lives."""
LOOK_EVERY: Final = 10
"""Waits after which a trainer that waits for a higher term looks whether its own is free by now."""
TELL_AFTER: Final = 30
"""Waits after which it tells what is in its way: the operator answers within one or two."""


class Restorer:
    """Loads checkpoints for one session, and knows the one that is loaded."""

    def __init__(
        self,
        store: RankStore,
        context: Context,
        load: Callable[[Checkpoint], None],
        notice: Callable[[EventReason, str], None],
    ) -> None:
        """Restore from `store` with `load`; `notice(reason, sentence)` reports what was skipped."""
        self._store = store
        self._context = context
        self._load = load
        self._notice = notice
        self.loaded: Checkpoint | None = None
        """Without its tensors: they are in the state."""
        self._foreign: str | None = None
        self.inherited: Checkpoint | None = None
        """The same of an earlier job: a fresh start of this one begins with it."""

    def take(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint into the state."""
        self._load(checkpoint)
        self.loaded = replace(checkpoint, tensors={})

    def begin(self, order: Promote) -> tuple[TermWriter, str]:
        """Make sure that the right checkpoint is loaded and open the term; returns its writer and the volume's id.

        Raises VolumeMismatch, FloorMissing, CheckpointDamaged, Superseded, or the volume's trouble.
        """
        self._store.know_term(order.term)
        # The id may be as late to be seen on this node as any other name; another id is another volume.
        volume = self._store.volume_id(wait_s=FLOOR_WAIT_S if order.volume is not None else 0.0)
        if order.volume is not None and volume != order.volume:
            raise VolumeMismatch(order.volume, volume)
        volume = volume or self._store.create_volume_id()
        self._mark()
        self._catch_up(order.floor)
        if self.loaded is None:
            self._inherit()
        try:
            return self._open(order.term), volume
        except CheckpointsExist:
            self._catch_up(order.floor)  # a slow volume showed its first checkpoint only now
            return self._open(order.term), volume

    def report_foreign(self) -> None:
        """Tell, once, what lies in the rank's folder and is passed over."""
        with contextlib.suppress(VolumeTrouble):
            if (sentence := self._store.foreign()) is not None and sentence != self._foreign:
                self._foreign = sentence
                self._notice(EventReason.FOREIGN_ON_VOLUME, sentence)

    def await_term(self, link: Link, order: Promote, taken: Superseded, bump: Callable[[], None]) -> Promote:
        """Wait until this order's term can begin, or for a higher one; `taken` says which term is on the volume.

        Usually the operator answers at once: this pod is superseded, or gets a higher term. It raises no term for one
        that the rank cannot have had (terms.py), nor does anybody when a stranger's folder lies there: so what is in
        the way is told, and once it is removed this pod goes on.
        """
        for waits in itertools.count(1):
            if (higher := next_order(link, taken.term, bump)) is not None:
                self._notice(
                    EventReason.FOREIGN_ON_VOLUME,
                    f"term {higher.term} begins instead of {order.term}: {self._store.path} has a folder of term "
                    f"{taken.term}, of which the Lease knew nothing. If etcd was not restored from a backup, "
                    f"somebody else writes there: look at term-{taken.term}-...",
                )
                return higher
            if waits % LOOK_EVERY == 0:
                with contextlib.suppress(VolumeTrouble):
                    if self._store.is_free(order.term, self._context.pod_uid):
                        return order
            if waits == TELL_AFTER:
                self._notice(
                    EventReason.FOREIGN_ON_VOLUME,
                    f"term {order.term} waits: {self._store.path} has a folder of term {taken.term}, and nobody has "
                    f"given this pod a higher one. If no pod of this job trains in term {taken.term}, remove that "
                    f"folder, term-{taken.term}-...: this pod then goes on",
                )
        raise AssertionError("unreachable")

    def _mark(self) -> None:
        if self._context.created:
            leave_mark(self._context.root, self._context.job_uid, self._own_mark())

    def _own_mark(self) -> Mark:
        context = self._context
        return Mark(context.created, context.job, context.ranks, context.namespace)

    def _inherit(self) -> None:
        """Load what an earlier job of this name left, or say that it stays where it is."""
        context = self._context
        if not context.created:
            return
        for uid, mark in earlier_jobs(context.root, context.job_uid, self._own_mark()):
            left = RankStore(context.root, uid, context.rank, keep=context.keep)
            if context.resume == Resume.LATEST:
                if (newest := left.newest()) is not None:
                    for sentence in newest.damaged:
                        self._notice(EventReason.CHECKPOINT_DAMAGED, sentence)
                    self._load(newest)
                    self.inherited = replace(newest, tensors={})
                    sentence = f"going on from step {newest.ref.step} of an earlier job, {left.path}"
                    if mark.ranks not in (0, context.ranks):
                        sentence += f"; that one had {_ranks(mark.ranks)}, and this one has {_ranks(context.ranks)}"
                    self._notice(EventReason.INHERITED, sentence)
                    return
            elif (ref := left.peek()) is not None:
                self._notice(
                    EventReason.NOT_INHERITED,
                    f"an earlier job of this name left step {ref.step} in {left.path}; this one starts from step 0 "
                    "beside it, since spec.checkpoint.resume is Never. To go on from that step, delete this job and "
                    "apply it with spec.checkpoint.resume: Latest; remove that folder when nobody needs it",
                )
                return

    def _open(self, term: int) -> TermWriter:
        return self._store.begin(term, self._context.pod_uid, self.loaded)

    def _catch_up(self, floor: CheckpointRef | None) -> None:
        loaded = self.loaded.ref if self.loaded else None
        if loaded is not None and loaded == self._store.peek(floor):
            return  # the redundant pod followed in time: nothing to read on the way to the first step
        newest = self._store.newest(floor)
        if newest is None:
            return
        for sentence in newest.damaged:
            self._notice(EventReason.CHECKPOINT_DAMAGED, sentence)
        self.inherited = None
        if newest.ref != loaded:
            self.take(newest)


def _ranks(number: int) -> str:
    return "1 rank" if number == 1 else f"{number} ranks"


def first_order(link: Link) -> Standby | Promote:
    """Wait for the role. Raises SystemExit when this pod is to end before it had one."""
    while True:
        match link.inbox.get():
            case Standby() | Promote() as order:
                return order
            case HandOver():
                raise HandedOverExit
            case Supersede(term=term):
                raise SupersededExit(term)
            case Closed():
                raise SystemExit("understudy: the agent closed its socket before it gave this trainer a role")
            case Follow():
                continue  # nothing to follow before the role is known: the volume is read at the start of Standby


def next_order(link: Link, term: int, bump: Callable[[], None]) -> Promote | None:
    """Wait a moment for a Promote above this term, calling `bump`. Raises SystemExit when this pod is to end."""
    try:
        message = link.inbox.get(timeout=WAIT_S)
    except queue.Empty:
        bump()
        return None
    match message:
        case Promote() if message.term > term:
            return message
        case HandOver():
            raise HandedOverExit
        case Supersede(term=other):
            raise SupersededExit(other)
        case Closed():
            raise SystemExit("understudy: the agent closed its socket before this trainer's term could begin")
        case _:
            return None
