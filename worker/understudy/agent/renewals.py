"""The renewals of the Lease that this pod holds now: composed, sent one at a time, answered. Pure."""

from dataclasses import dataclass, field

import msgspec
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Term

from understudy.agent.held import Held
from understudy.agent.model import Renew, RenewalFailed, Renewed
from understudy.agent.progress import Progress
from understudy.agent.verdict import LastWords


@dataclass(slots=True)
class Renewals:
    """Renews `held` with what `progress` says; notices go along one by one, each until it is accepted."""

    pod: str
    progress: Progress
    held: Held | None = None
    _last: Held | None = field(default=None, init=False)
    """The Lease held now, or before: how slow the API server is does not depend on which."""
    _highest: Term = field(default=Term(0), init=False)
    """Highest term in which the Lease was held."""
    _number: int = field(default=0, init=False)
    _notice_in: int = field(default=0, init=False)

    def hold(self, record: LeaseRecord, now: float) -> None:
        """Renew this Lease from now on, and no other."""
        patience = self._last.patience if self._last is not None else 1
        self.held = self._last = Held(record.name, record.term, record.duration_s, due_at=now, patience=patience)

    def adopt(self, record: LeaseRecord) -> None:
        """Go on in the term that the Lease has now; where it is lower (of a backup of etcd), ask for a higher one."""
        if self.held is not None:
            self._highest = max(self._highest, self.held.term)
            self.held.term = record.term
            self.held.hurry()

    def hurry(self) -> None:
        """Renew at once: somebody waits for what changed."""
        if self.held is not None:
            self.held.hurry()

    def next(self, step: int, words: LastWords | None, now: float, *, primary: bool) -> Renew | None:
        """Give the renewal to send now, if any."""
        held = self.held
        if held is None:
            return None
        if words is not None and held.words is None:
            held.let_go(words, now)
        if not held.wants(now):
            return None
        self._number += 1
        notice = self.progress.notices[0] if self.progress.notices else None
        self._notice_in = self._number if notice is not None else 0
        held.sent(self._number, now)
        beat = self.progress.beat(self.pod, held.term, step, primary=primary)
        floor = self._highest if primary and self._highest > held.term else 0
        beat = msgspec.structs.replace(beat, duration_s=held.duration_s, term_floor=max(beat.term_floor, floor))
        return Renew(held.name, self._number, beat, held.timeout_s, held.release(self.progress.checkpoint), notice)

    def on_answer(self, answer: Renewed | RenewalFailed, now: float) -> str | None:
        """Take an answer in; give a line for the log when health changes."""
        held = self.held
        if held is None or held.name != answer.lease or held.in_flight != answer.number:
            return None  # of a Lease that is not held any more, or overtaken by a release
        was_healthy, held.healthy = held.healthy, isinstance(answer, Renewed)
        if isinstance(answer, RenewalFailed):
            held.failed(now, gone=answer.gone)
            return f"Lease {held.name} could not be renewed, trying on: {answer.message}" if was_healthy else None
        held.accepted(answer.duration_s, now)
        if answer.number == self._notice_in:
            self.progress.notices.pop(0)
        return None if was_healthy else f"Lease {held.name} is renewed again"

    def wake_at(self, now: float) -> float:
        """Say when `next` will have something."""
        return self.held.wake_at(now) if self.held is not None else float("inf")
