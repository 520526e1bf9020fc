"""Failovers are counted from what the Leases of the ranks show, whatever the status says."""

from typing import Any

from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Term
from understudy_contract.reports import Promotion

from chaos.account import Account
from chaos.target import Target
from testbed.world import LeaseChange

SOLO = Target("solo", 0)


def lease(term: int, holder: str, *, uid: str = "first", promoted: bool = False, **fields: Any) -> LeaseRecord:
    promotion = Promotion(
        term=term,
        source="solo-0-0",
        target=holder,
        cause="ProcessExited",
        message="it ended",
        failed_at="2026-01-01T00:00:00Z",
        detected_at="2026-01-01T00:00:01Z",
        promoted_at="2026-01-01T00:00:02Z",
        known_step=10,
        known_step_exact=True,
    )
    return LeaseRecord(
        name=fields.pop("name", "solo-0"),
        namespace="chaos",
        uid=uid,
        resource_version="1",
        holder=holder,
        term=Term(term),
        duration_s=6,
        renew_time=None,
        promotion=promotion if promoted else None,
    )


def read(*records: LeaseRecord) -> Account:
    """Read a history, one change a second, in two pieces that overlap."""
    changes = [LeaseChange(float(at), record) for at, record in enumerate(records, start=1)]
    account = Account()
    account.read(reversed(changes[:2]), (SOLO,))
    account.read(reversed(changes), (SOLO,))
    return account


def test_a_lease_that_passes_to_another_pod_is_one_failover() -> None:
    account = read(lease(1, "solo-0-0"), lease(1, "solo-0-0"), lease(2, "solo-0-1", promoted=True))
    (seen,) = account.failovers
    assert (seen.old, seen.new, seen.old_term, seen.term, seen.cause) == ("solo-0-0", "solo-0-1", 1, 2, "ProcessExited")
    assert account.of(SOLO, seen.promoted_at) == [seen]
    assert account.of(SOLO, seen.promoted_at + 1) == []


def test_a_rank_that_was_suspended_and_resumed_has_lost_no_primary() -> None:
    account = read(lease(1, "solo-0-0"), lease(1, ""), lease(2, "solo-0-2"))
    assert account.failovers == []
    assert account.unseen == {}


def test_a_lease_that_was_deleted_and_made_anew_is_no_failover() -> None:
    account = read(lease(3, "solo-0-0"), lease(4, "solo-0-0", uid="second"), lease(4, "solo-0-0", uid="second"))
    assert account.failovers == []
    assert account.unseen == {}


def test_a_higher_term_for_the_same_holder_is_no_failover() -> None:
    account = read(lease(1, "solo-0-0"), lease(9, "solo-0-0"))
    assert account.failovers == []


def test_terms_that_came_and_went_unseen_are_counted_as_such() -> None:
    account = read(lease(1, "solo-0-0"), lease(4, "solo-0-3", promoted=True))
    assert len(account.failovers) == 1
    assert account.unseen == {"solo": 2}


def test_leases_of_slots_are_no_business_of_it() -> None:
    account = read(lease(1, "solo-0-1", name="solo-0-s0"), lease(2, "solo-0-2", name="solo-0-s0", promoted=True))
    assert account.failovers == []
