"""What the agent sees of its rank, and when it takes itself for superseded: read as rules."""

import signal

import pytest
from understudy import protocol
from understudy.agent import model
from understudy_contract.exits import ExitCode
from understudy_contract.reports import Phase

from tests.unit.agent.driver import OTHER, POD, RANK, SLOT, drive, lease

# Superseded, or not


def test_a_refused_renewal_makes_it_look_and_nothing_else() -> None:
    it = drive().primary().wait(1.0).fail(refused=True)
    assert it.only(model.GetLease) == model.GetLease(RANK)
    assert it.sent == []


@pytest.mark.parametrize(
    ("record", "superseded"),
    [
        (lease(holder=OTHER, term=4, version=9), True),
        (lease(holder=OTHER, term=3, version=9), True),
        (lease(holder="", term=4, version=9), True),
        (lease(holder=OTHER, term=2, version=9), False),
        (lease(holder="", term=3, version=9), False),
        (lease(holder=POD, term=3, version=9), False),
        (lease(holder=POD, term=2, version=9), False),
        (lease(holder=POD, term=5, version=9), False),
    ],
    ids=[
        "higher term",
        "other holder",
        "higher, nobody",
        "lower",
        "nobody",
        "same",
        "mine, lower",
        "mine, higher",
    ],
)
def test_only_a_newer_holder_supersedes(record, superseded: bool) -> None:  # noqa: ANN001
    it = drive().primary(term=3).wait(1.0).fail(refused=True).see(record)
    assert (it.sent == [protocol.Supersede(record.term)]) is superseded
    if superseded:
        assert it.wait(1.9).none(model.SignalTrainer)
        assert it.wait(0.2).only(model.SignalTrainer).signal == signal.SIGKILL
        assert it.feed(model.TrainerExited(137)).only(model.Exit).code == ExitCode.SUPERSEDED


def test_a_lease_made_anew_with_a_higher_term_for_this_pod_is_gone_on_with() -> None:
    it = drive().primary(term=3).wait(1.0).fail(refused=True).see(lease(holder=POD, term=7, version=9))
    beat = it.only(model.Renew).beat
    assert (beat.term, beat.phase, beat.first_step) == (7, Phase.TRAINING, None)


def test_a_lost_slot_is_judged_by_the_ranks_lease_read_afterwards() -> None:
    it = drive().redundant().wait(1.0).fail(refused=True)
    assert it.only(model.GetLease).lease == SLOT
    it.see(lease(SLOT, "job-0-2", term=2))
    assert it.only(model.GetLease).lease == RANK
    promoted = it.see(lease(holder=POD, term=2, version=9))
    assert promoted.sent == [protocol.Promote(2, None, "v1")]


def test_a_lost_slot_of_a_pod_that_is_no_primary_either_ends_it() -> None:
    it = drive().redundant().wait(1.0).fail(refused=True).see(lease(SLOT, "job-0-2", term=2))
    assert it.see(lease(version=9), watched=True).sent == []
    assert it.see(lease(version=9)).sent == [protocol.Supersede(1)]


def test_a_lost_slot_is_never_taken_up_again() -> None:
    it = drive().redundant().wait(1.0).fail(refused=True).see(lease(SLOT, "job-0-2", term=2))
    assert it.see(lease(SLOT, POD, term=1)).none(model.Renew)  # an answer that came late


# The watch


def test_a_silent_watch_is_suspected_after_two_renewals_and_restarted_if_it_missed_something() -> None:
    it = drive().redundant()
    it.see(lease(version=6), watched=True)
    for _ in range(2):
        it.wait(0.9).accept()
        assert it.none(model.GetLease)
    assert it.wait(0.3).only(model.GetLease) == model.GetLease(RANK)
    assert it.see(lease(version=6)).none(model.RestartWatch)
    it.wait(2.1)
    assert not it.see(lease(version=7)).none(model.RestartWatch)


def test_a_promotion_that_the_watch_missed_is_found_by_looking() -> None:
    it = drive().redundant().see(lease(version=6), watched=True).wait(2.1)
    assert it.see(lease(holder=POD, term=2, version=7)).sent == [protocol.Promote(2, None, "v1")]


def test_an_older_version_that_the_watch_tells_late_changes_nothing() -> None:
    it = drive().primary(term=3).see(lease(holder=OTHER, term=9, version=1), watched=True)
    assert it.sent == []


def test_a_lease_of_a_restored_etcd_is_believed_when_it_answers_a_question_and_supersedes_nobody() -> None:
    it = drive().primary(term=3)
    it.wait(1.0).fail(refused=True).see(lease(holder=OTHER, term=1, version=2))
    assert it.sent == []
    it.wait(1.0).fail(refused=True).see(lease(holder=OTHER, term=4, version=3))
    assert it.sent == [protocol.Supersede(4)]
