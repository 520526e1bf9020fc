"""Silence of a watch, as far as it tells of anything."""

import math

from understudy_kube.contact import Contact


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def heard(*times: float) -> tuple[Contact, Clock]:
    """Open a watch at 100 s and hear it at these times."""
    clock = Clock()
    contact = Contact(clock)
    contact.opened()
    for clock.at in times:
        contact.heard()
    return contact, clock


def test_contact_begins_when_the_watch_opens() -> None:
    clock = Clock()
    contact = Contact(clock)
    contact.heard()  # the server answered something else: that is no watch
    assert contact.since(10) == math.inf
    contact.opened()
    assert contact.since(10) == 100


def test_it_is_lost_with_the_connection_and_begins_again_with_the_next() -> None:
    contact, clock = heard(101, 102)
    contact.lost()
    clock.at = 102.1
    assert contact.since(10) == math.inf
    contact.opened()
    assert contact.since(10) == 102.1


def test_a_silence_that_lasts_is_no_contact_for_who_cannot_wait_so_long() -> None:
    contact, clock = heard(101)
    clock.at = 103
    assert contact.since(1.5) == math.inf
    assert contact.since(2.5) == 100


def test_a_silence_that_is_over_restarts_it_for_who_could_not_wait_so_long() -> None:
    contact, clock = heard(101, 103, 104)
    clock.at = 104.5
    assert contact.since(1.5) == 103
    assert contact.since(2.5) == 100


def test_each_limit_finds_its_own_last_gap() -> None:
    contact, clock = heard(108, 109, 112, 113, 113.5)
    assert [contact.since(limit) for limit in (0.6, 2, 5, 9)] == [113, 112, 108, 100]
    clock.at = 121.5
    contact.heard()
    assert [contact.since(limit) for limit in (0.6, 2, 5, 9)] == [121.5, 121.5, 121.5, 100]


def test_what_is_kept_does_not_grow() -> None:
    contact, _ = heard(*(100 + 0.3 * number for number in range(1, 10_000)))
    assert len(contact._gaps) < 10
