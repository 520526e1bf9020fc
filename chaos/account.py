"""The failovers that truly happened, read off the ranks' Leases as they change: what the status is compared with.

A failover is a Lease that passes from one pod to another. A rank that is opened anew (its Lease was deleted), resumed
(nobody held it), or given a higher term with the same holder has lost no primary.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from understudy_contract.lease import LeaseRecord
from understudy_contract.names import rank_lease_name

from chaos.target import Target
from testbed.kube import parse_time
from testbed.world import LeaseChange


@dataclass(frozen=True, slots=True)
class Seen:
    """One failover."""

    target: Target
    old_term: int
    term: int
    old: str
    new: str
    cause: str
    message: str
    cold: bool
    promoted_at: float
    renewed_at: float
    """When the Lease had been renewed or passed on last, as its writer says."""
    acknowledged: bool
    """The old primary had reported in its term."""


@dataclass(slots=True)
class Account:
    """All of them so far, oldest first."""

    failovers: list[Seen] = field(default_factory=list)
    unseen: dict[str, int] = field(default_factory=dict)
    """Terms by job that came and went while nobody could see: the API server was away."""
    _last: dict[str, LeaseRecord] = field(default_factory=dict)
    _read_until: float = 0.0

    def read(self, history: Iterable[LeaseChange], targets: tuple[Target, ...]) -> None:
        """Take in what is new of a history of Leases, which is given newest first."""
        names = {rank_lease_name(target.job, target.rank): target for target in targets}
        new = list(itertools.takewhile(lambda change: change.seen_at > self._read_until, history))
        for change in reversed(new):
            self._read_until = change.seen_at
            if (target := names.get(change.record.name)) is not None:
                self._take(target, change.record)

    def of(self, target: Target, since: float) -> list[Seen]:
        """List a rank's failovers that were decided after a moment."""
        return [seen for seen in self.failovers if seen.target == target and seen.promoted_at >= since]

    def _take(self, target: Target, record: LeaseRecord) -> None:
        last = self._last.get(record.name)
        self._last[record.name] = record
        if last is None or last.uid != record.uid or record.term <= last.term:
            return
        promotion = record.promotion
        passed_on = last.holder not in ("", record.holder)
        if passed_on and promotion is not None and promotion.term == record.term:
            self.failovers.append(
                Seen(
                    target=target,
                    old_term=int(last.term),
                    term=int(record.term),
                    old=promotion.source,
                    new=record.holder,
                    cause=promotion.cause,
                    message=promotion.message,
                    cold=promotion.cold,
                    promoted_at=parse_time(promotion.promoted_at),
                    renewed_at=parse_time(last.renew_time) if last.renew_time else 0.0,
                    acknowledged=last.current_heartbeat is not None,
                )
            )
        if (missed := int(record.term) - int(last.term) - 1) > 0:
            self.unseen[target.job] = self.unseen.get(target.job, 0) + missed
