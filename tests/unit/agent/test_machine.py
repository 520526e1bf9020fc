"""The agent's decisions, read as rules: which role it has, and what it renews."""

import signal

import pytest
from understudy import protocol
from understudy.agent import model
from understudy_contract.exits import ExitCode
from understudy_contract.reports import Phase

from tests.unit.agent.driver import OTHER, POD, RANK, SLOT, drive, lease, rank_with_floor, ref

# Which role


def test_it_first_asks_for_the_ranks_lease() -> None:
    assert drive().out == (model.GetLease(RANK),)


def test_the_holder_is_primary_and_says_so_at_once() -> None:
    it = drive().feed(protocol.Hello("1")).see(lease(holder=POD, term=1))
    assert it.sent == [protocol.Promote(1, None, None)]
    beat = it.only(model.Renew).beat
    assert (it.only(model.Renew).lease, beat.pod, beat.term, beat.phase) == (RANK, POD, 1, Phase.STARTING)
    assert not it.machine.wants_watch


def test_a_trainer_that_says_hello_late_is_told_its_role_then() -> None:
    it = drive().see(lease(holder=POD, term=1))
    assert it.sent == []
    assert it.feed(protocol.Hello("1")).sent == [protocol.Promote(1, None, None)]


def test_a_pod_that_is_made_as_primary_hears_of_its_predecessors_volume_and_repeats_that_until_it_has_begun() -> None:
    """Else its trainer would begin on any volume, and a successor of one that never began would know of none."""
    it = drive(slot_lease=None).feed(protocol.Hello("1")).see(rank_with_floor(ref(100), version=9, holder=POD, term=2))
    assert it.sent == [protocol.Promote(2, ref(100), "v1")]
    assert (it.renewals[-1].beat.phase, it.renewals[-1].beat.volume) == (Phase.STARTING, "v1")


def test_another_holder_makes_it_redundant_it_watches_reads_its_slot_and_follows_the_floor() -> None:
    it = drive().feed(protocol.Hello("1")).see(rank_with_floor(ref(100), version=5))
    assert it.sent == [protocol.Standby("v1"), protocol.Follow(ref(100), "v1")]
    assert it.only(model.GetLease) == model.GetLease(SLOT)
    assert it.machine.wants_watch
    it.see(lease(SLOT, POD, term=4))
    assert it.only(model.Renew).lease == SLOT
    assert (it.renewals[-1].beat.term, it.renewals[-1].beat.phase) == (4, Phase.STARTING)


def test_the_floor_is_passed_on_whenever_it_grows_and_only_then() -> None:
    it = drive().redundant()
    assert it.see(rank_with_floor(ref(200), version=6), watched=True).sent == [protocol.Follow(ref(200), "v1")]
    assert it.see(rank_with_floor(ref(200), version=7), watched=True).sent == []
    assert it.see(rank_with_floor(ref(300), version=6), watched=True).sent == []  # older than what is known


def test_ready_is_reported_at_once_with_what_is_loaded() -> None:
    it = drive().redundant().wait(0.1).feed(protocol.Ready(ref(200)))
    beat = it.only(model.Renew).beat
    assert (beat.phase, beat.loaded) == (Phase.READY, ref(200))
    assert it.machine.is_ready


def test_a_primarys_pod_that_is_no_holder_any_more_ends_as_superseded() -> None:
    it = drive(slot_lease=None).see(lease(holder=OTHER, term=2))
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.feed(model.TrainerExited(137)).only(model.Exit).code == ExitCode.SUPERSEDED


def test_a_lease_that_cannot_be_read_is_asked_for_again() -> None:
    it = drive().feed(model.LeaseUnread(RANK, "no"))
    assert it.none(model.GetLease)
    assert it.wait(model.RETRY_S).only(model.GetLease) == model.GetLease(RANK)


# Promotion


def test_promotion_tells_the_trainer_first_and_acknowledges_next() -> None:
    it = drive().redundant().wait(0.5)
    it.see(rank_with_floor(ref(100), version=9, holder=POD, term=2), watched=True)
    order = [type(action) for action in it.out if isinstance(action, model.Send | model.Renew)]
    assert order == [model.Send, model.Renew]
    assert it.sent == [protocol.Promote(2, ref(100), "v1")]
    assert (it.renewals[-1].lease, it.renewals[-1].beat.term) == (RANK, 2)
    assert it.accept().wait(1.0).none(model.GetLease)
    assert it.only(model.Renew).lease == RANK


def test_promotion_does_not_wait_for_a_renewal_of_the_slot_in_flight() -> None:
    it = drive().redundant().wait(1.0)
    assert it.only(model.Renew).lease == SLOT  # unanswered
    it.see(lease(holder=POD, term=2, version=9), watched=True)
    assert it.only(model.Renew).lease == RANK


def test_the_first_step_and_completion_are_reported_at_once_a_commit_with_the_next_renewal() -> None:
    it = drive().primary().wait(0.1)
    assert it.renewals[-1].beat.first_step is not None and it.machine.is_ready
    it.feed(protocol.Committed(ref(100)))
    assert it.none(model.Renew)
    it.wait(1.0)
    assert it.only(model.Renew).beat.checkpoint == ref(100)
    it.accept().feed(protocol.Completed(200, "final/model.keras"))
    assert (it.only(model.Renew).beat.phase, it.renewals[-1].beat.model) == (Phase.FINISHING, "final/model.keras")


def test_what_comes_while_a_renewal_is_in_flight_goes_out_with_the_next_at_once() -> None:
    it = drive().feed(protocol.Hello("1")).see(lease(holder=POD, term=1))
    it.feed(protocol.Started(1, ref(0), "v1")).feed(protocol.FirstStep(1, 1, "now"))
    assert it.none(model.Renew)
    assert it.accept().only(model.Renew).beat.first_step is not None


# Renewals


def test_a_primary_renews_three_times_a_lease_duration() -> None:
    it = drive().primary()
    before = len(it.renewals)
    for _ in range(9):
        it.wait(1.0).accept()
    assert len(it.renewals) - before == 9
    assert all(renewal.timeout_s < 1.0 for renewal in it.renewals)


def test_an_unanswered_renewal_is_not_repeated_and_a_failed_one_is() -> None:
    it = drive().primary().wait(1.0)
    before = len(it.renewals)
    it.wait(5.0)
    assert len(it.renewals) == before
    it.fail().wait(1.0)
    assert len(it.renewals) == before + 1


@pytest.mark.parametrize("refused", [False, True])
def test_an_outage_of_any_length_stops_no_training(refused: bool) -> None:
    it = drive().primary()
    for _ in range(200):
        it.wait(1.0).fail(refused=refused).feed(model.LeaseUnread(RANK, "404"))
    assert all(not isinstance(action, model.Exit | model.SignalTrainer) for action in it.all)
    assert all(not isinstance(message, protocol.Supersede) for message in it.sent)


def test_a_renewal_that_timed_out_is_repeated_before_the_lease_runs_out() -> None:
    it = drive().primary().wait(1.0).wait(0.9).fail()
    assert it.wait(model.QUICK_RETRY_S).only(model.Renew).lease == RANK


def test_each_renewal_that_timed_out_lets_the_next_wait_longer_until_answers_are_quick_again() -> None:
    it = drive().primary().wait(1.0)
    waits = [it.renewals[-1].timeout_s]
    for _ in range(3):
        it.wait(waits[-1]).fail().wait(model.QUICK_RETRY_S)
        waits.append(it.renewals[-1].timeout_s)
    assert waits == pytest.approx([0.9, 1.8, 2.7, 2.7]), "less than a lease of 3 s"
    it.wait(2.0).accept()
    assert it.renewals[-1].timeout_s == pytest.approx(2.7), "an answer after two seconds is heard out again"
    it.wait(0.1).accept().wait(1.0)
    assert it.renewals[-1].timeout_s == pytest.approx(0.9)


def test_a_renewal_that_is_refused_at_once_lets_the_next_wait_no_longer() -> None:
    it = drive().primary().wait(1.0).wait(0.1).fail().wait(1.0)
    assert it.renewals[-1].timeout_s == pytest.approx(0.9)


@pytest.mark.parametrize("slot_lost_first", [False, True])
def test_a_pod_that_is_promoted_knows_how_slow_the_api_server_is(slot_lost_first: bool) -> None:
    it = drive().redundant().wait(1.0).wait(0.9).fail().wait(model.QUICK_RETRY_S)
    it.wait(1.5).accept()
    assert (it.renewals[-1].lease, it.renewals[-1].timeout_s) == (SLOT, pytest.approx(1.8))
    if slot_lost_first:
        it.see(lease(SLOT, OTHER, term=2))
    it.see(lease(holder=POD, term=2, version=9))
    assert (it.renewals[-1].lease, it.renewals[-1].timeout_s) == (RANK, pytest.approx(1.8)), "no less than it takes"


def test_notices_go_out_one_by_one_each_until_it_is_accepted() -> None:
    it = drive().primary().feed(protocol.Notice("A", "first")).feed(protocol.Notice("B", "second"))
    it.wait(1.0).fail().wait(1.0).accept().wait(1.0).accept().wait(1.0)
    sent = [renewal.notice.reason if renewal.notice else None for renewal in it.renewals[-4:]]
    assert sent == ["A", "A", "B", None]
