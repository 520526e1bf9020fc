"""Bookkeeping of the one Lease that this pod holds: when to renew, what is in flight, whether it is released. Pure.

Guarantees at most one renewal in flight, except that a release overtakes one that hangs, and that what is sent is the
newest content at the moment of sending. One that is not answered within an interval is given up, since a new connection
may do better; each that was given up lets the next wait for an interval longer, up to nearly a lease, since an API
server that takes two seconds for each call must be heard out. Times are the machine's (monotonic seconds).
"""

from dataclasses import dataclass
from typing import Final

from understudy_contract.exits import ReleaseReason
from understudy_contract.names import Term
from understudy_contract.reports import CheckpointRef, Release

from understudy.agent.model import DEFAULT_DURATION_S, QUICK_RETRY_S, RELEASE_WAIT_S, RETRY_S
from understudy.agent.verdict import LastWords

_TIMEOUT_MAX_S: Final = 5.0
_PATIENCE_MAX: Final = 3
"""Intervals that an answer is waited for at most: as many as a lease has."""


@dataclass(slots=True)
class Held:
    """A Lease in our name."""

    name: str
    term: Term
    duration_s: int
    due_at: float
    """When to renew next."""
    patience: int = 1
    """Intervals that the next answer is waited for."""
    in_flight: int = 0
    """Number of the renewal that is under way; 0: none."""
    words: LastWords | None = None
    """Set once the Lease is to be released."""
    settled: bool = False
    """The release is written, or will never be."""
    healthy: bool = True
    """The last renewal was accepted; for the log."""
    _urgent: bool = False
    _releasing: bool = False
    """The renewal in flight is the release."""
    _overtake_at: float = 0.0
    _sent_at: float = 0.0

    @property
    def interval_s(self) -> float:
        """Three renewals a lease: one may be lost and one late."""
        return (self.duration_s or DEFAULT_DURATION_S) / 3

    @property
    def timeout_s(self) -> float:
        """Below the interval at first, so that a lost request costs no more than itself."""
        return min(0.9 * self.interval_s * self.patience, _TIMEOUT_MAX_S)

    def hurry(self) -> None:
        """Renew at once, or as soon as the renewal in flight is answered."""
        self._urgent = True

    def let_go(self, words: LastWords, now: float) -> None:
        """Release at once."""
        self.words = words
        self._urgent = True
        self._overtake_at = now + RELEASE_WAIT_S

    def release(self, checkpoint: CheckpointRef | None) -> Release | None:
        """Compose the release to write, in the term that is held now."""
        words = self.words
        return Release(self.term, words.reason, words.code, words.message, checkpoint) if words is not None else None

    def wants(self, now: float) -> bool:
        """Say whether a renewal is to be sent now."""
        return not self.settled and now >= self.wake_at(now)

    def wake_at(self, now: float) -> float:
        """Say when `wants` becomes true if nothing else happens."""
        if self.settled:
            return float("inf")
        if self.in_flight:
            return self._overtake_at if self.words is not None else float("inf")
        return now if self._urgent else self.due_at

    def sent(self, number: int, now: float) -> None:
        """Note a renewal on its way."""
        self.in_flight = number
        self._sent_at = now
        self._urgent = False
        self._releasing = self.words is not None
        self._overtake_at = float("inf")
        self.due_at = now + self.interval_s

    def accepted(self, duration_s: int, now: float) -> None:
        """Note that the renewal in flight was accepted, and how long the Lease lasts by now."""
        self.in_flight = 0
        if now - self._sent_at < self.interval_s:
            self.patience = 1
        if duration_s and duration_s != self.duration_s:
            self.duration_s, self._urgent = duration_s, True  # until it is told, the longer of the two counts
        self.settled = self.settled or self._releasing

    def failed(self, now: float, *, gone: bool = False) -> None:
        """Note that the renewal in flight failed, and plan the next.

        Where the Lease is gone (with its job, mostly) a release is over: whoever makes it anew looks at the pod itself,
        which alone does not tell that its training is complete.
        """
        self.in_flight = 0
        if now - self._sent_at > 0.9 * self.timeout_s:
            self.patience = min(self.patience + 1, _PATIENCE_MAX)
        if gone and self._releasing and self.words is not None and self.words.reason is not ReleaseReason.COMPLETED:
            self.settled = True
        self.due_at = now + QUICK_RETRY_S
        if self.words is None:  # a request that timed out has used up its pause
            self.due_at = max(self.due_at, self._sent_at + min(self.interval_s, RETRY_S))
