"""What the status must tell in the end of who held each rank: invariant 15.

Sees every Lease change hands as the API server does, and knows which pods have ever existed. Only of a primary that is
lost before it has reported, and replaced by a new pod, it cannot know whether the operator had seen it, which then is a
failover: there the record decides. Expects nothing of a run in which a rank's Lease or the status was deleted, or etcd
restored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from understudy_contract.lease import LeaseRecord
from understudy_operator.core.failovers import FAILOVERS_KEPT
from understudy_operator.core.succession import UNREPORTED_MAX

from tests.simulation.server import Json

Require = Callable[[int, bool, str], None]
"""Raises unless the invariant of this number holds."""
NUMBER: Final = 15


@dataclass(frozen=True, slots=True)
class Failover:
    """A rank was passed from one pod to another."""

    source: str
    target: str
    cold: bool
    """The target had never existed."""


class Account:
    """Counts failovers."""

    def __init__(self, require: Require) -> None:
        self._require = require
        self._born: set[str] = set()
        self._failovers: dict[tuple[int, int], Failover] = {}
        """By rank and term."""
        self._lost = False

    def on_birth(self, pod: str) -> None:
        """Take in that a pod exists from now on."""
        self._born.add(pod)

    def forget(self) -> None:
        """Take in that something was lost which the status is made from, or the status itself."""
        self._lost = True

    def on_grant(self, rank: int, old: LeaseRecord | None, new: LeaseRecord) -> None:
        """Take in that a rank was given to a pod, in a new term."""
        if self._lost or old is None or old.holder in ("", new.holder):
            return  # opened, resumed, or its term raised
        cold = new.holder not in self._born
        told = new.promotion is not None and new.promotion.term == new.term
        what = f"rank {rank}, term {new.term}: {old.holder} -> {new.holder}"
        if old.current_heartbeat is not None or not cold or old.holder == self._promoted(rank, old):
            self._require(NUMBER, told, f"{what} is not on record")
        elif old.holder not in self._born:
            self._require(NUMBER, not told, f"{what} is on record, and the first never existed")
        if told:
            self._failovers[rank, new.term] = Failover(old.holder, new.holder, cold)

    def _promoted(self, rank: int, record: LeaseRecord) -> str:
        """Name the holder if it was redundant before it was given its term."""
        last = self._failovers.get((rank, record.term))
        return last.target if last is not None and not last.cold else ""

    def at_end(self, status: Json, leases: list[LeaseRecord], last_step: int) -> None:
        """Compare it with the status of a job that has succeeded."""
        if self._lost:
            return
        found = {
            "failoverCount": len(self._failovers),
            "restarts": sum(failover.cold for failover in self._failovers.values()),
            "step": last_step,
            "redundantReady": 0,
            "redundantDesired": 0,
            "redundant": "0/0",
        }
        self._same("the status", status, found)
        holds = {c["type"]: c["status"] == "True" for c in status["conditions"]}
        true = [kind for kind, held in holds.items() if held]
        self._require(NUMBER, true == ["Complete"], f"of a job that has succeeded, conditions {true} are true")
        self._require(NUMBER, len(status["ranks"]) == len(leases), f"{len(status['ranks'])} ranks are told of")
        for rank, (entry, lease) in enumerate(zip(status["ranks"], leases, strict=True)):
            own = [failover for (number, _), failover in self._failovers.items() if number == rank]
            found = {
                "rank": rank,
                "primary": lease.holder,
                "term": lease.term,
                "step": last_step,
                "complete": True,
                "failovers": len(own),
                "restarts": sum(failover.cold for failover in own),
                "redundant": [],
            }
            self._same(f"the status of rank {rank}", entry, found)
        self._look_at_list(status["failovers"])

    def _look_at_list(self, listed: list[Json]) -> None:
        told = {(entry["rank"], entry["term"]): entry for entry in listed}
        self._require(NUMBER, len(told) == len(listed), f"failovers are listed twice: {listed}")
        for (rank, term), entry in told.items():
            failover = self._failovers.get((rank, term))
            what = f"the failover of rank {rank} in term {term}"
            self._require(NUMBER, failover is not None, f"{what} is listed, and never was")
            assert failover is not None
            self._same(what, entry, {"from": failover.source, "to": failover.target, "cold": failover.cold})
        ranks = [rank for rank, _ in self._failovers]
        few = len(ranks) <= FAILOVERS_KEPT and all(ranks.count(rank) <= UNREPORTED_MAX for rank in ranks)
        missing = sorted(self._failovers.keys() - told.keys())
        self._require(NUMBER, not (few and missing), f"failovers (rank, term) {missing} are not listed")

    def _same(self, what: str, told: Json, found: Json) -> None:
        for key, value in found.items():
            self._require(NUMBER, told.get(key) == value, f"{what} says {key} {told.get(key)}, it is {value}")
