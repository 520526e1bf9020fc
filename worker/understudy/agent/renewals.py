"""The renewals of the one Lease that this pod holds, up to its release: when to send one, and what it says. Pure.

Timing. Three renewals are sent in each lease duration, so one may be lost and one late. At most one is in flight,
except that a release overtakes a renewal that hangs. What is sent is the newest content at the moment of sending. A
renewal that is not answered within its interval is given up, because a new connection may do better. Each one that was
given up lets the next wait for an interval longer, up to nearly a lease duration, because an API server that takes two
seconds for each call must be heard out.

Last words. `release` gives the reason for which this pod gives up its Lease; nobody else keeps it. The release is sent
at once, on whichever Lease is held then, and again until it is accepted. It is given up after one lease duration. Only
the release that reports a complete training is never given up: without it the training would be done again.

Refused words. No words of the trainer cost the Lease. A renewal that is refused for what it says is sent once more
without the words of the trainer (words.py). If that one is accepted, the words were to blame: the notice among them is
dropped, and the others stay out until they change. If it is refused as well, the words were not to blame, and the next
renewal has them again.

Times are the machine's (monotonic seconds).
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec
from understudy_contract.exits import ReleaseReason
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Term
from understudy_contract.reports import CheckpointRef, Release

from understudy.agent.model import (
    DEFAULT_DURATION_S,
    QUICK_RETRY_S,
    RELEASE_WAIT_S,
    RETRY_S,
    Renew,
    RenewalFailed,
    Renewed,
)
from understudy.agent.progress import Progress
from understudy.agent.verdict import LastWords
from understudy.agent.words import Words, without_words, words_of

_NEVER: Final = float("inf")
_TIMEOUT_MAX_S: Final = 5.0
_PATIENCE_MAX: Final = 3
"""Intervals that an answer is waited for at most: as many as a lease has."""


@dataclass(slots=True)
class _Held:
    """The Lease in our name, and the timing of its renewals."""

    name: str
    term: Term
    duration_s: int
    due_at: float
    """When to renew next."""
    patience: int
    """Intervals that the next answer is waited for."""
    in_flight: int = 0
    """Number of the renewal that is in flight; 0: none."""
    settled: bool = False
    """The release was accepted, or nobody will ever read it."""
    healthy: bool = True
    """The last renewal was accepted; for the log."""
    urgent: bool = False
    """Renew at once, or as soon as the renewal in flight is answered."""
    releasing: bool = False
    """The renewal in flight is the release."""
    overtake_at: float = _NEVER
    """When a release overtakes the renewal in flight."""
    sent_at: float = 0.0

    @property
    def interval_s(self) -> float:
        """Three renewals a lease."""
        return (self.duration_s or DEFAULT_DURATION_S) / 3

    @property
    def timeout_s(self) -> float:
        """Below the interval at first, so that a lost request costs no more than itself."""
        return min(0.9 * self.interval_s * self.patience, _TIMEOUT_MAX_S)

    def wake_at(self) -> float:
        """Return when the next renewal is due; minus infinity: now."""
        if self.settled:
            return _NEVER
        if self.in_flight:
            return self.overtake_at
        return -_NEVER if self.urgent else self.due_at

    def release(self, now: float) -> None:
        """Release at once, or shortly after the renewal in flight was sent."""
        self.urgent, self.overtake_at = True, now + RELEASE_WAIT_S

    def send(self, number: int, now: float, *, releasing: bool) -> None:
        """Note a renewal that is sent now."""
        self.in_flight, self.sent_at, self.due_at = number, now, now + self.interval_s
        self.urgent, self.releasing, self.overtake_at = False, releasing, _NEVER

    def accept(self, duration_s: int, now: float) -> None:
        """Note that the renewal in flight was accepted, and how long the Lease lasts by now."""
        self.in_flight, self.healthy = 0, True
        if now - self.sent_at < self.interval_s:
            self.patience = 1
        if duration_s and duration_s != self.duration_s:
            self.duration_s, self.urgent = duration_s, True  # until the operator knows it, the longer of the two counts
        self.settled = self.settled or self.releasing

    def fail(self, now: float, *, quick: bool) -> None:
        """Note that the renewal in flight failed, and plan the next."""
        self.in_flight, self.healthy = 0, False
        if now - self.sent_at > 0.9 * self.timeout_s:
            self.patience = min(self.patience + 1, _PATIENCE_MAX)
        self.due_at = now + QUICK_RETRY_S
        if not quick:  # a request that timed out has used up its pause
            self.due_at = max(self.due_at, self.sent_at + min(self.interval_s, RETRY_S))


@dataclass(slots=True)
class Renewals:
    """Renews the Lease that is held with what `progress` says. Notices go along one by one, each until accepted."""

    pod: str
    progress: Progress
    words: LastWords | None = field(default=None, init=False)
    """What the release says; None: no release is wanted."""
    _give_up_at: float = field(default=_NEVER, init=False)
    """When the release counts as impossible."""
    _held: _Held | None = field(default=None, init=False)
    _last: _Held | None = field(default=None, init=False)
    """The Lease held now, or before: how slow the API server is does not depend on which."""
    _highest: Term = field(default=Term(0), init=False)
    """Highest term in which the Lease was held."""
    _number: int = field(default=0, init=False)
    _sent: Words | None = field(default=None, init=False)
    """Words of the renewal in flight; None: it carries none."""
    _refused: Words | None = field(default=None, init=False)
    """Words that were refused."""

    @property
    def term(self) -> Term | None:
        """Term of the Lease that is held; None: none is held."""
        return self._held.term if self._held is not None else None

    def hold(self, record: LeaseRecord, now: float) -> None:
        """Renew this Lease from now on, and no other."""
        patience = self._last.patience if self._last is not None else 1
        self._refused = None
        self._held = self._last = _Held(record.name, record.term, record.duration_s, due_at=now, patience=patience)
        if self.words is not None:
            self._held.release(now)

    def adopt(self, record: LeaseRecord) -> None:
        """Go on in the term that the Lease has now. If it is lower (an older backup of etcd), ask for a higher one."""
        assert self._held is not None
        self._highest = max(self._highest, self._held.term)
        self._refused = None  # it was refused for its term, not for its words
        self._held.term, self._held.urgent = record.term, True

    def drop(self) -> None:
        """Renew nothing any more: another pod has the Lease."""
        self._held = None

    def hurry(self) -> None:
        """Renew at once: somebody waits for what changed."""
        if self._held is not None:
            self._held.urgent = True

    def release(self, words: LastWords, now: float) -> None:
        """Give the Lease up with these words, at once."""
        self.words = words
        duration_s = (self._held.duration_s if self._held is not None else 0) or DEFAULT_DURATION_S
        self._give_up_at = _NEVER if words.reason is ReleaseReason.COMPLETED else now + duration_s
        if self._held is not None:
            self._held.release(now)

    def forget_release(self) -> None:
        """Write nothing into the Lease any more: another pod holds it, in a term that is not below ours."""
        if self._held is not None:
            self._held.settled = True

    @property
    def is_released(self) -> bool:
        """Return whether no release is left to be written."""
        return self.words is None or (self._held is not None and self._held.settled)

    @property
    def over_at(self) -> float:
        """Return when to exit even if the release is not written; minus infinity: it is written."""
        return -_NEVER if self.is_released else self._give_up_at

    def next(self, step: int, now: float, *, primary: bool) -> Renew | None:
        """Return the renewal to send now, if any."""
        held, words = self._held, self.words
        if held is None or now < held.wake_at():
            return None
        self._number += 1
        notice = self.progress.next_notice
        held.send(self._number, now, releasing=words is not None)
        beat = self.progress.beat(self.pod, held.term, step, primary=primary)
        floor = self._highest if primary and self._highest > held.term else 0
        beat = msgspec.structs.replace(beat, duration_s=held.duration_s, term_floor=max(beat.term_floor, floor))
        release = _compose(words, held.term, self.progress.checkpoint) if words is not None else None
        renewal = Renew(held.name, self._number, beat, held.timeout_s, release, notice)
        said = words_of(renewal)
        self._sent = None if said == self._refused else said
        return without_words(renewal) if self._sent is None else renewal

    def on_answer(self, answer: Renewed | RenewalFailed, now: float) -> str | None:
        """Take an answer in. Return a line for the log when the Lease begins to fail, or to be renewed again."""
        held = self._held
        if held is None or held.name != answer.lease or held.in_flight != answer.number:
            return None  # of a Lease that is not held any more, or overtaken by a release
        was_healthy = held.healthy
        if isinstance(answer, RenewalFailed):
            held.fail(now, quick=self.words is not None)
            if answer.gone and held.releasing and self.words and self.words.reason is not ReleaseReason.COMPLETED:
                # The Lease is gone, mostly with its job. Whoever makes it again looks at the pod itself. Only that a
                # training is complete cannot be seen from the pod.
                held.settled = True
            if answer.unfit:
                self._refused = self._sent
            return f"Lease {held.name} could not be renewed, retrying: {answer.message}" if was_healthy else None
        held.accept(answer.duration_s, now)
        accepted = self._sent or self._refused
        if accepted is not None and accepted.notice is not None:
            self.progress.drop_notice()
        if was_healthy:
            return None
        without = ", without the words of the trainer that were refused" if self._sent is None else ""
        return f"Lease {held.name} is renewed again{without}"

    def wake_at(self) -> float:
        """Return when `next` will have something; minus infinity: now."""
        return self._held.wake_at() if self._held is not None else _NEVER


def _compose(words: LastWords, term: Term, checkpoint: CheckpointRef | None) -> Release:
    return Release(term, words.reason, words.code, words.message, checkpoint)
