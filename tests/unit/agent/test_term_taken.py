"""A primary whose term the volume has seen already: it asks for a higher one, or learns that it is superseded."""

from understudy import protocol
from understudy.agent import model

from tests.unit.agent.driver import OTHER, POD, Driver, drive, lease


def waiting() -> Driver:
    """A primary of term 3 that found term 5 on the volume."""
    it = drive(slot_lease=None).feed(protocol.Hello("1")).see(lease(holder=POD, term=3, version=5)).accept()
    return it.feed(protocol.TermTaken(5))


def test_it_reports_the_term_at_once() -> None:
    it = waiting()
    assert it.only(model.Renew).beat.term_floor == 5


def test_granted_a_higher_term_it_is_promoted_anew() -> None:
    it = waiting().fail(refused=True).see(lease(holder=POD, term=6, version=6))
    assert it.sent == [protocol.Promote(6)]
    assert it.renewals[-1].beat.term == 6
    assert it.renewals[-1].beat.term_floor == 0


def test_superseded_it_ends() -> None:
    it = waiting().fail(refused=True).see(lease(holder=OTHER, term=4, version=6))
    assert it.sent == [protocol.Supersede(4)]


def test_once_it_trains_a_term_that_was_raised_is_no_order_to_begin_again() -> None:
    it = drive(slot_lease=None).primary(term=3)
    it.wait(1).fail(refused=True).see(lease(holder=POD, term=6, version=6))
    assert it.sent == []


def test_named_as_the_holder_of_a_lower_term_by_a_backup_it_trains_on_and_asks_for_a_higher_one() -> None:
    it = drive(slot_lease=None).primary(term=3)
    it.wait(1).fail(refused=True).see(lease(holder=POD, term=1, version=2))
    beat = it.renewals[-1].beat
    assert (beat.term, beat.term_floor, it.sent) == (1, 3, [])
    it.accept().wait(1).fail(refused=True).see(lease(holder=POD, term=4, version=9))
    beat = it.renewals[-1].beat
    assert (beat.term, beat.term_floor) == (4, 0)
