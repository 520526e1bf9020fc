"""What this agent knows of the rank's Lease, and whether it may trust the watch. Pure.

The Lease is learnt in two ways: by the watch, and by a GET. Guarantees that an older version never replaces a newer
one, whichever way it came. There is one exception: the answer to a GET that was sent after the newer version had come.
Then the API server itself has gone back, because etcd was restored from a backup.

A watch can die without an error. A primary renews its Lease three times in each lease duration, so a watch that says
nothing for two of these renewals is suspected, and the Lease is read. If that read finds something new, the watch has
missed it and is started again. Times are the machine's (monotonic seconds).
"""

from dataclasses import dataclass
from typing import Final

from understudy_contract.lease import LeaseRecord

from understudy.agent.model import DEFAULT_DURATION_S

_SILENT_RENEWALS: Final = 2
"""Renewals that a watch may miss before it is suspected; there are three in a lease duration."""


@dataclass(slots=True)
class LeaseView:
    """The newest version seen."""

    record: LeaseRecord | None = None
    watch_missed: bool = False
    """The last read found what the watch had not reported."""
    _heard_at: float = 0.0
    _taken_at: float = 0.0
    _suspicious: bool = False

    def take(self, record: LeaseRecord, now: float, *, asked_at: float | None) -> bool:
        """Take a version in, by a GET that was sent at `asked_at`, or by the watch (None).

        Return whether it counts: not if it is older than the one that is known.
        """
        known, self.watch_missed = self.record, False
        late = asked_at is None or asked_at <= self._taken_at
        if known is not None and late and int(record.resource_version) < int(known.resource_version):
            return False
        self._heard_at = now
        if self._suspicious and asked_at is not None:
            self._suspicious = False
            self.watch_missed = known is not None and record.resource_version != known.resource_version
        self.record, self._taken_at = record, now
        return True

    def suspect_at(self) -> float:
        """Return when to suspect the watch if nothing is heard until then."""
        if self.record is None:
            return float("inf")
        return self._heard_at + _SILENT_RENEWALS / 3 * (self.record.duration_s or DEFAULT_DURATION_S)

    def suspect(self, now: float) -> None:
        """Note that the Lease is read because its watch is silent."""
        self._suspicious, self._heard_at = True, now
