"""From an order of the agent to a writer for the term: which checkpoint a primary goes on from.

Guarantees that a primary starts from the newest checkpoint on the volume, at or above the durable floor, verified; and
from nothing only when the rank never committed anything, nor the earlier job that it is to go on from. Does not decide
roles. Trusts the monotonic clock, for the time for which a volume in trouble is tried again.
"""

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.names import Resume

from understudy.checkpoint import RankStore, TermWriter
from understudy.checkpoint.marks import Mark, earlier_jobs, leave_mark
from understudy.checkpoint.store import FLOOR_WAIT_S
from understudy.errors import CheckpointsExist, Superseded, VolumeMismatch, VolumeTrouble
from understudy.protocol import Promote
from understudy.trainer.context import Context
from understudy.trainer.link import AgentLink, receive
from understudy.trainer.loading import Loader, Notify

OPEN_WITHIN_S: Final = 120.0
OPEN_PAUSE_S: Final = 1.0
OPEN_PAUSE_MAX_S: Final = 3.0
"""Tries to begin a term on a volume that is full, read-only or failing."""
WAIT_S: Final = 1.0
"""How often a trainer that waits for its order shows that it lives."""
LOOK_EVERY: Final = 10
"""Waits after which a trainer that waits for a higher term looks whether its own is free by now."""
TELL_AFTER: Final = 30
"""Waits after which it tells what is in its way: the operator answers within one or two."""


class Restorer:
    """Opens the terms of one session, each on the right checkpoint."""

    def __init__(self, store: RankStore, context: Context, loader: Loader, notice: Notify) -> None:
        """Write terms into `store`, and restore with `loader`; `notice(reason, sentence)` reports what is odd."""
        self._store = store
        self._context = context
        self._loader = loader
        self._notice = notice
        self._foreign: str | None = None

    def open(self, order: Promote, wait: Callable[[float], None] | None) -> tuple[TermWriter, str]:
        """Do as `begin`; while the volume is in trouble, try again for two minutes: it is not the program's trouble.

        `wait(seconds)` is called between the tries; None: do not try again.
        """
        give_up_at, pause_s = time.monotonic() + OPEN_WITHIN_S, OPEN_PAUSE_S
        reported = ""
        while True:
            try:
                return self.begin(order)
            except VolumeTrouble as trouble:
                if wait is None or time.monotonic() + pause_s > give_up_at:
                    raise
                if str(trouble) != reported:
                    reported = str(trouble)
                    message = f"term {order.term} cannot begin yet, retrying: {reported}"
                    self._notice(EventReason.VOLUME_TROUBLE, message)
            wait(pause_s)
            pause_s = min(2 * pause_s, OPEN_PAUSE_MAX_S)

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
        self._loader.catch_up(order.floor)
        if self._loader.loaded is None:
            self._inherit()
        try:
            return self._open(order.term), volume
        except CheckpointsExist:
            self._loader.catch_up(order.floor)  # a slow volume showed its first checkpoint only now
            return self._open(order.term), volume

    def report_foreign(self) -> None:
        """Tell, once, what lies in the rank's folder and is passed over."""
        with contextlib.suppress(VolumeTrouble):
            if (sentence := self._store.foreign()) is not None and sentence != self._foreign:
                self._foreign = sentence
                self._notice(EventReason.FOREIGN_ON_VOLUME, sentence)

    def await_term(self, link: AgentLink, order: Promote, taken: Superseded, bump: Callable[[], None]) -> Promote:
        """Wait until this order's term can begin, or for a higher one; `taken` says which term is on the volume.

        Usually the operator answers at once: this pod is superseded, or gets a higher term. It raises no term for one
        that the rank cannot have had (terms.py), nor does anybody when a stranger's folder lies there: so what is in
        the way is told, and once it is removed this pod goes on.
        """
        for waits in itertools.count(1):
            message = receive(link, WAIT_S)
            if message is None:
                bump()
            elif isinstance(message, Promote) and message.term > taken.term:
                self._notice(
                    EventReason.FOREIGN_ON_VOLUME,
                    f"term {message.term} begins instead of {order.term}: {self._store.path} has a folder of term "
                    f"{taken.term}, of which the Lease knew nothing. If etcd was not restored from a backup, "
                    f"somebody else writes there: look at term-{taken.term}-...",
                )
                return message
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
                    self._loader.inherit(newest)
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
        return self._store.begin(term, self._context.pod_uid, self._loader.loaded)


def _ranks(number: int) -> str:
    return "1 rank" if number == 1 else f"{number} ranks"
