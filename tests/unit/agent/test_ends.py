"""How an agent and its trainer end, asked to or not: read as rules."""

import signal

import pytest
from understudy import protocol
from understudy.agent import model
from understudy_contract.exits import ExitCode

from tests.unit.agent.driver import OTHER, POD, RANK, SLOT, drive, lease, ref

# SIGTERM


def test_a_primary_hands_over_within_its_deadline_and_releases_before_anything_else() -> None:
    it = drive().primary().feed(model.Terminated())
    assert it.sent == [protocol.HandOver()]
    it.step = 142
    it.feed(protocol.HandedOver(ref(142)))
    renewal = it.only(model.Renew)
    assert renewal.release is not None
    assert (renewal.release.reason, renewal.release.exit_code) == ("HandedOver", ExitCode.HANDED_OVER)
    assert (renewal.beat.step, renewal.beat.checkpoint) == (142, ref(142))
    it.feed(model.TrainerExited(82))
    assert it.none(model.Exit)
    assert it.accept().only(model.Exit).code == ExitCode.HANDED_OVER


def test_a_release_overtakes_a_renewal_that_hangs() -> None:
    it = drive().primary().wait(1.0)
    assert it.only(model.Renew).release is None  # unanswered from here on
    it.feed(model.Terminated()).feed(protocol.HandedOver(ref(1)))
    assert it.none(model.Renew)
    it.wait(model.RELEASE_WAIT_S)
    assert it.only(model.Renew).release is not None


def test_a_hand_over_that_misses_its_deadline_is_killed_and_told_as_what_it_is() -> None:
    it = drive().primary().feed(model.Terminated())
    for _ in range(19):
        it.wait(1.0).accept()
        assert it.none(model.SignalTrainer)
    it.step = 77
    it.wait(1.0)
    release = it.renewals[-1].release
    assert release is not None and (release.reason, release.exit_code) == ("ProcessExited", 137)
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.renewals[-1].beat.step == 77


def test_a_primary_that_has_not_started_releases_at_once() -> None:
    it = drive().feed(protocol.Hello("1")).see(lease(holder=POD, term=1)).accept().feed(model.Terminated())
    assert it.only(model.Renew).release.reason == "HandedOver"
    assert it.only(model.SignalTrainer).signal == signal.SIGTERM
    assert it.sent == [protocol.HandOver(signalled=True)], "for one that has a handler, and returns from it"


def test_after_the_hand_over_the_script_has_the_rest_of_the_grace_period() -> None:
    it = drive(grace_s=30).primary().feed(model.Terminated()).wait(5).feed(protocol.HandedOver(ref(142))).accept()
    assert it.wait(23.9).none(model.SignalTrainer)
    assert it.wait(0.1).only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.feed(model.TrainerExited(137)).only(model.Exit).code == ExitCode.HANDED_OVER


def test_a_script_that_ends_by_itself_after_the_hand_over_ends_its_pod() -> None:
    it = drive(grace_s=300).primary().feed(model.Terminated()).feed(protocol.HandedOver(ref(142))).accept()
    assert it.wait(100).feed(model.TrainerExited(143)).only(model.Exit).code == ExitCode.HANDED_OVER


def test_a_superseded_trainer_has_no_grace_period_since_another_pod_trains() -> None:
    it = drive(grace_s=300).primary().see(lease(holder=OTHER, term=2, version=9))
    assert it.wait(model.END_WITHIN_S).only(model.SignalTrainer).signal == signal.SIGKILL


# After the training


def test_a_script_that_runs_on_after_its_training_is_ended_at_its_deadline_and_complete() -> None:
    it = drive(end_s=600).primary().feed(protocol.Completed(200)).accept()
    for _ in range(599):
        it.wait(1).accept()
        assert it.none(model.SignalTrainer)
    it.wait(1)
    assert it.only(model.SignalTrainer).signal == signal.SIGTERM
    renewal = it.only(model.Renew)
    assert renewal.release.reason == "Completed" and "endDeadlineSeconds" in renewal.release.message
    assert renewal.notice.reason == "ScriptEnded"
    it.accept()
    assert it.wait(model.HANDLERS_WITHIN_S).only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.feed(model.TrainerExited(137)).only(model.Exit).code == 0


def test_its_deadline_names_what_its_process_waits_for() -> None:
    it = drive(end_s=5).primary().feed(protocol.Completed(200)).feed(protocol.Returned("thread upload")).accept()
    assert "(waiting for thread upload)" in it.wait(5 + model.RELEASE_WAIT_S).renewals[-1].release.message


def test_a_deleted_pod_whose_script_has_run_all_its_code_is_complete_at_once() -> None:
    it = drive().primary().feed(protocol.Completed(200)).accept().feed(protocol.Returned("thread upload"))
    it.feed(model.Terminated())
    assert it.only(model.SignalTrainer).signal == signal.SIGTERM and it.sent == []
    assert it.only(model.Renew).release.reason == "Completed"
    assert it.accept().wait(29).only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.feed(model.TrainerExited(137)).only(model.Exit).code == 0


def test_a_deleted_pod_whose_script_comes_to_its_end_in_time_is_complete_then() -> None:
    it = drive().primary().feed(protocol.Completed(200)).accept().feed(model.Terminated())
    it.wait(10).feed(protocol.Returned(""))
    assert it.wait(model.RELEASE_WAIT_S).renewals[-1].release.reason == "Completed"


def test_a_deleted_pod_amid_the_code_after_its_training_leaves_that_code_to_another_pod() -> None:
    it = drive().primary().feed(protocol.Completed(200)).accept().feed(model.Terminated())
    assert it.sent == [protocol.HandOver()], "for a SIGTERM handler of the script's own"
    it.wait(20)
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.wait(model.RELEASE_WAIT_S).renewals[-1].release.reason == "HandedOver"


def test_a_script_that_failed_after_its_training_is_not_complete_because_its_pod_ends() -> None:
    it = drive().primary().feed(protocol.Completed(200)).accept()
    it.feed(protocol.Failed("ValueError")).feed(protocol.Returned("thread upload")).feed(model.Terminated())
    assert it.only(model.Renew).release.reason == "ProcessExited"


def test_a_finished_script_may_end_by_itself_after_sigterm() -> None:
    it = drive().primary().feed(protocol.Completed(200)).accept().feed(model.Terminated())
    assert it.none(model.SignalTrainer)
    it.feed(model.TrainerExited(0))
    assert it.only(model.Renew).release.reason == "Completed"


def test_a_redundant_pod_ends_its_trainer_and_exits_0() -> None:
    it = drive().redundant().feed(model.Terminated())
    assert it.only(model.SignalTrainer).signal == signal.SIGTERM
    assert it.sent == [protocol.HandOver(signalled=True)]
    assert it.wait(28.9).none(model.SignalTrainer)
    assert it.wait(0.1).only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.feed(model.TrainerExited(137)).only(model.Exit).code == 0


def test_a_pod_promoted_while_it_ends_releases_the_rank_at_once() -> None:
    it = drive().redundant().feed(model.Terminated()).see(lease(holder=POD, term=2, version=9), watched=True)
    assert it.sent == []
    assert (it.only(model.Renew).lease, it.only(model.Renew).release.term) == (RANK, 2)


# The trainer's end


@pytest.mark.parametrize(
    ("said", "code", "reason", "exit_code"),
    [
        ([], 1, "ProcessExited", 1),
        ([], 137, "ProcessExited", 137),
        ([], 0, "ProcessExited", 1),
        ([protocol.Failed("batch(step=7) raised")], 1, "ProcessExited", 1),
        ([protocol.Completed(200, "m")], 0, "Completed", 0),
        ([protocol.Completed(200, "m")], 3, "ProcessExited", 3),
        ([protocol.Superseded(9)], 81, "ProcessExited", 81),
    ],
    ids=["error", "signal", "too early", "last words", "complete", "failed after", "superseded on the volume"],
)
def test_a_trainers_end_is_told_at_once_with_its_last_step(
    said: list[protocol.FromTrainer], code: int, reason: str, exit_code: int
) -> None:
    it = drive().primary()
    for message in said:
        it.feed(message)
        if isinstance(message, protocol.Completed):
            it.accept()
    it.step = 57
    it.feed(model.TrainerExited(code))
    renewal = it.only(model.Renew)
    assert (renewal.release.reason, renewal.beat.step, renewal.lease) == (reason, 57, RANK)
    assert it.none(model.Exit)
    assert it.accept().only(model.Exit).code == exit_code


def test_last_words_are_the_trainers_own_when_it_had_some() -> None:
    it = drive().primary().feed(protocol.Failed("batch(step=7) raised ValueError")).feed(model.TrainerExited(1))
    assert it.only(model.Renew).release.message == "batch(step=7) raised ValueError"


@pytest.mark.parametrize(("code", "exit_code"), [(0, ExitCode.NOT_INTEGRATED), (1, 1)])
def test_a_script_that_never_called_understudy_is_told_so(code: int, exit_code: int) -> None:
    it = drive().see(lease(holder=POD, term=1)).accept().feed(model.TrainerExited(code))
    release = it.only(model.Renew).release
    assert release.reason == "NotIntegrated" and "before it called understudy" in release.message
    assert it.accept().only(model.Exit).code == exit_code


def test_a_dead_redundant_trainer_is_told_on_the_slots_lease() -> None:
    it = drive().redundant().feed(model.TrainerExited(139))
    assert (it.only(model.Renew).lease, it.only(model.Renew).release.exit_code) == (SLOT, 139)
    assert it.accept().only(model.Exit).code == 139


def test_a_trainer_that_died_before_the_role_was_known_is_told_once_it_is() -> None:
    it = drive().feed(model.TrainerExited(1))
    assert it.none(model.Exit)
    assert it.see(lease(holder=POD, term=1)).only(model.Renew).release.reason == "NotIntegrated"


def test_that_a_training_is_complete_is_told_however_long_that_takes() -> None:
    it = drive().primary().feed(protocol.Completed(9)).feed(model.TrainerExited(0))
    for _ in range(60):
        assert it.fail().wait(60).none(model.Exit)
    assert it.accept().only(model.Exit).code == 0


def test_a_release_that_cannot_be_written_is_tried_for_one_lease_duration() -> None:
    it = drive().primary().feed(model.TrainerExited(1))
    tries = 0
    while it.none(model.Exit):
        tries += 1
        it.fail().wait(model.QUICK_RETRY_S)
    assert tries == pytest.approx(3 / model.QUICK_RETRY_S, abs=1)
    assert it.only(model.Exit).code == 1


def test_a_script_silent_for_a_minute_is_noted_once() -> None:
    it = drive().see(lease(holder=POD, term=1)).accept()
    for _ in range(130):
        it.wait(1.0).accept()
    notices = [renewal.notice for renewal in it.renewals if renewal.notice]
    assert len(notices) == 1 and "python train.py has not called understudy yet" in notices[0].message


def test_a_release_into_a_lease_that_is_gone_is_over_unless_it_says_complete() -> None:
    it = drive().primary().feed(model.TrainerExited(1)).fail(gone=True)
    assert it.only(model.Exit).code == 1
    it = drive().primary().feed(protocol.Completed(9)).feed(model.TrainerExited(0)).fail(gone=True)
    assert it.none(model.Exit)
