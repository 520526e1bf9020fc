"""What is known of the rank's Lease, and whether its watch can be trusted. Pure.

Guarantees that an older version never replaces a newer one, whichever way it came; but for an answer to a question that
was asked after the newer one had come: then the API server itself has gone back, to a backup of etcd.
"""

from dataclasses import dataclass
from typing import Final

from understudy_contract.lease import LeaseRecord

from understudy.agent.model import DEFAULT_DURATION_S

_SILENT_RENEWALS: Final = 2
"""A primary renews three times a lease; a watch that is silent for two of them may be dead."""


@dataclass(slots=True)
class Sight:
    """The newest version seen."""

    record: LeaseRecord | None = None
    watch_missed: bool = False
    """The last look found what the watch had not told."""
    _heard_at: float = 0.0
    _taken_at: float = 0.0
    _suspicious: bool = False

    def take(self, record: LeaseRecord, now: float, *, watched: bool, asked_at: float) -> bool:
        """Take a version in; say whether it is worth a thought, not older than what is known."""
        known, self.watch_missed = self.record, False
        late = watched or asked_at <= self._taken_at
        if known is not None and late and int(record.resource_version) < int(known.resource_version):
            return False
        self._heard_at = now
        if self._suspicious and not watched:
            self._suspicious = False
            self.watch_missed = known is not None and record.resource_version != known.resource_version
        self.record, self._taken_at = record, now
        return True

    def suspect_at(self) -> float:
        """Say when the watch is to be suspected if nothing is heard until then."""
        if self.record is None:
            return float("inf")
        return self._heard_at + _SILENT_RENEWALS / 3 * (self.record.duration_s or DEFAULT_DURATION_S)

    def suspect(self, now: float) -> None:
        """Note that the Lease is looked at because its watch is silent."""
        self._suspicious, self._heard_at = True, now
