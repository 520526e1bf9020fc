"""A Lease whose duration is changed while it is held."""

from tests.unit.agent.driver import Driver, drive


def primary() -> Driver:
    """A primary that renews a Lease of 3 s every second."""
    it = drive(slot_lease=None).primary()
    it.wait(1).accept()
    return it


def intervals(it: Driver) -> float:
    """Seconds until the next renewal."""
    before, at = len(it.renewals), it.now
    while len(it.renewals) == before:
        it.wait(it.machine.wake_at() - it.now)
    return it.now - at


def test_the_answer_to_a_renewal_tells_of_it_and_the_next_one_says_so_at_once() -> None:
    it = primary()
    assert it.renewals[-1].beat.duration_s == 3
    it.wait(1).accept(duration_s=30)
    assert it.renewals[-1].beat.duration_s == 30
    it.accept(duration_s=30)
    assert intervals(it) == 10


def test_a_shorter_one_is_kept_at_once() -> None:
    it = primary()
    it.wait(1).accept(duration_s=30).accept(duration_s=30)
    it.wait(10).accept(duration_s=3)
    assert it.renewals[-1].beat.duration_s == 3
    it.accept(duration_s=3)
    assert intervals(it) == 1


def test_an_answer_without_a_duration_changes_nothing() -> None:
    it = primary()
    it.wait(1).accept(duration_s=0)
    assert it.renewals[-1].beat.duration_s == 3
