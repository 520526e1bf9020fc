"""The renewals of the Lease that this pod holds now: composed, sent one at a time, answered. Pure.

Guarantees that no words of the trainer cost the Lease. All that a renewal carries is in its bounds (lease.py), but a
policy of the cluster, or an API server to come, may refuse it all the same. Whatever is refused for what it says is
sent once more without the trainer's words: who holds the Lease, in which term, and how far it has come. If that is
accepted, the words were to blame: a notice among them is dropped, the others stay out until they are other words. If it
is refused as well, they were not, and the next renewal has them again.
"""

from dataclasses import dataclass, field, replace

import msgspec
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Term
from understudy_contract.reports import FirstStep, Heartbeat, Notice

from understudy.agent.held import Held
from understudy.agent.model import Renew, RenewalFailed, Renewed
from understudy.agent.progress import Progress
from understudy.agent.verdict import LastWords


@dataclass(frozen=True, slots=True)
class _Words:
    """What a renewal repeats of the trainer's own words."""

    volume: str | None
    model: str | None
    first_step: FirstStep | None
    last: str
    """Message of a release."""
    notice: Notice | None


def _words_of(renewal: Renew) -> _Words:
    beat, release = renewal.beat, renewal.release
    last = release.message if release is not None else ""
    return _Words(beat.volume, beat.model, beat.first_step, last, renewal.notice)


def _bare(renewal: Renew) -> Renew:
    """Leave the trainer's words out. A field that is added to the heartbeat is left out, unless it is listed here."""
    beat, release = renewal.beat, renewal.release
    plain = Heartbeat(
        pod=beat.pod,
        term=beat.term,
        phase=beat.phase,
        step=beat.step,
        loaded=beat.loaded,
        checkpoint=beat.checkpoint,
        duration_s=beat.duration_s,
        term_floor=beat.term_floor,
        failures=beat.failures,
        restarts=beat.restarts,
    )
    silent = msgspec.structs.replace(release, message="") if release is not None else None
    return replace(renewal, beat=plain, release=silent, notice=None)


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
    _sent: _Words | None = field(default=None, init=False)
    """Words of the renewal in flight; None: it is a bare one."""
    _refused: _Words | None = field(default=None, init=False)
    """Words that were refused."""

    def hold(self, record: LeaseRecord, now: float) -> None:
        """Renew this Lease from now on, and no other."""
        patience = self._last.patience if self._last is not None else 1
        self._refused = None
        self.held = self._last = Held(record.name, record.term, record.duration_s, due_at=now, patience=patience)

    def adopt(self, record: LeaseRecord) -> None:
        """Go on in the term that the Lease has now; where it is lower (of a backup of etcd), ask for a higher one."""
        if self.held is not None:
            self._highest = max(self._highest, self.held.term)
            self._refused = None  # for its term, not for its words
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
        held.sent(self._number, now)
        beat = self.progress.beat(self.pod, held.term, step, primary=primary)
        floor = self._highest if primary and self._highest > held.term else 0
        beat = msgspec.structs.replace(beat, duration_s=held.duration_s, term_floor=max(beat.term_floor, floor))
        release = held.release(self.progress.checkpoint)
        renewal = Renew(held.name, self._number, beat, held.timeout_s, release, notice)
        said = _words_of(renewal)
        self._sent = None if said == self._refused else said
        return _bare(renewal) if self._sent is None else renewal

    def on_answer(self, answer: Renewed | RenewalFailed, now: float) -> str | None:
        """Take an answer in; give a line for the log when health changes."""
        held = self.held
        if held is None or held.name != answer.lease or held.in_flight != answer.number:
            return None  # of a Lease that is not held any more, or overtaken by a release
        was_healthy, held.healthy = held.healthy, isinstance(answer, Renewed)
        if isinstance(answer, RenewalFailed):
            held.failed(now, gone=answer.gone)
            if answer.unfit:
                self._refused = self._sent
            return f"Lease {held.name} could not be renewed, retrying: {answer.message}" if was_healthy else None
        held.accepted(answer.duration_s, now)
        accepted = self._sent or self._refused
        if accepted is not None and accepted.notice is not None:
            self.progress.notices.pop(0)
        if was_healthy:
            return None
        without = ", without the words of the trainer that were refused" if self._sent is None else ""
        return f"Lease {held.name} is renewed again{without}"

    def wake_at(self, now: float) -> float:
        """Say when `next` will have something."""
        return self.held.wake_at(now) if self.held is not None else float("inf")
