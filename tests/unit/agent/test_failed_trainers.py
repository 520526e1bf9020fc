"""A trainer that has failed: it ends, it is ended, or a launcher in its container starts it again. Read as rules."""

import signal

import pytest
from understudy import protocol
from understudy.agent import model
from understudy.agent.verdict import FAILED_ENDS_WITHIN_S, LAUNCHER_ENDS_WITHIN_S, RESTARTS_WITHIN_S
from understudy_contract.events import EventReason
from understudy_contract.exits import ExitCode
from understudy_contract.reports import LAST_FAILURE_MAX_BYTES, Phase, Promotion, Release

from tests.unit.agent.driver import OTHER, POD, RANK, SLOT, Driver, drive, lease, rank_with_floor, ref

WHY = "ValueError: record 180 of shard 7 cannot be decoded"
FAILED = protocol.Failed(WHY)


def release(it: Driver) -> Release:
    """Give the release that was sent."""
    return next(renewal.release for renewal in it.renewals if renewal.release is not None)


def later(it: Driver, seconds: float) -> Driver:
    """Let time pass while the API server accepts every renewal; `out` holds what happened in it."""
    end, seen = it.now + seconds, len(it.all)
    while it.now < end:
        it.wait(min(0.25, end - it.now))
        if it.renewals:
            it.accept()
    it.out = tuple(it.all[seen:])
    return it


def restarted(it: Driver, why: str = WHY, term: int = 1) -> Driver:
    """Let the trainer fail, end, and be started again by a launcher, up to its first step."""
    it.feed(protocol.Failed(why)).feed(model.TrainerLost())
    return later(it, 2).feed(protocol.Hello("1")).accept().begin(term)


# It does not end


def test_a_process_that_lives_on_after_an_exception_is_killed_and_the_exception_is_the_reason() -> None:
    it = drive().primary().feed(FAILED)
    it.step = 180
    later(it, FAILED_ENDS_WITHIN_S - 0.1)
    assert it.none(model.SignalTrainer)
    later(it, 0.1)
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    assert (release(it).reason, release(it).exit_code) == ("ProcessExited", 1)
    assert release(it).message.startswith(f"{WHY}; its process did not end within 5 s")
    assert next(renewal.beat.step for renewal in it.renewals if renewal.release) == 180
    assert it.feed(model.TrainerExited(137)).only(model.Exit).code == 1


def test_the_same_before_the_first_step_does_not_wait_for_the_deadline_of_a_start() -> None:
    it = drive(slot_lease=None).feed(protocol.Hello("1")).see(lease(holder=POD, version=5)).accept().feed(FAILED)
    assert later(it, FAILED_ENDS_WITHIN_S).only(model.SignalTrainer).signal == signal.SIGKILL
    assert release(it).message.startswith(WHY)


def test_a_redundant_trainer_that_failed_and_lives_on_is_ended_as_well() -> None:
    it = later(drive().redundant().feed(FAILED), FAILED_ENDS_WITHIN_S)
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    assert release(it).message.startswith(WHY)
    assert it.renewals[-1].lease == SLOT


def test_trouble_with_the_volume_stays_what_it_is() -> None:
    it = later(drive().primary().feed(protocol.Failed("the volume is full", volume=True)), FAILED_ENDS_WITHIN_S)
    assert release(it).reason == "VolumeTrouble"


@pytest.mark.parametrize(("code", "exit_code"), [(0, 1), (3, 3)], ids=["a pipe", "a shell"])
def test_whatever_code_a_shell_makes_of_it_the_exception_is_the_reason(code: int, exit_code: int) -> None:
    it = drive().primary().feed(FAILED).feed(model.TrainerLost()).feed(model.TrainerExited(code))
    assert (release(it).reason, release(it).message, release(it).exit_code) == ("ProcessExited", WHY, exit_code)
    assert (release(it).term, it.renewals[-1].beat.failures) == (1, 0), "the release tells of it, and it counts once"


@pytest.mark.parametrize(
    ("below", "words"), [(True, "without a word before its training was complete"), (False, "exited 0 before")]
)
def test_a_death_in_a_pipe_is_told_from_a_script_that_ended_too_early(below: bool, words: str) -> None:
    it = drive().primary().feed(model.TrainerLost(below)).feed(model.TrainerExited(0))
    assert words in release(it).message and release(it).exit_code == 1


def test_an_exception_behind_a_complete_training_is_not_lost_in_a_pipe() -> None:
    it = drive().primary().feed(protocol.Completed(9)).accept().feed(FAILED).feed(model.TrainerExited(0))
    assert release(it).message == f"{WHY}; training was complete, the code after it failed"


def test_an_exception_that_the_script_caught_before_the_training_was_complete_does_not_matter() -> None:
    it = drive().primary().feed(protocol.Failed(WHY, final=False)).feed(protocol.Completed(9)).accept()
    assert it.feed(model.TrainerExited(0)).only(model.Renew).release.reason == "Completed"


def test_an_exception_that_the_script_caught_is_the_reason_when_nothing_follows() -> None:
    it = drive(progress_s=30).primary().feed(protocol.Failed(WHY, final=False))
    it.frozen = True
    assert later(it, 29).none(model.SignalTrainer)
    assert later(it, 2).only(model.SignalTrainer).signal == signal.SIGKILL
    assert release(it).reason == "ProcessExited"
    assert release(it).message.startswith(f"{WHY}; the script caught it, and did nothing for 30 s")


def test_a_superseded_process_that_lives_on_is_ended_and_counts_as_superseded() -> None:
    it = later(drive().primary().feed(protocol.Superseded(9)), FAILED_ENDS_WITHIN_S)
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    assert release(it).exit_code == ExitCode.SUPERSEDED


@pytest.mark.parametrize("lost", [False, True])
def test_a_pod_that_is_deleted_while_its_trainer_has_failed_says_so_at_once(lost: bool) -> None:
    it = drive().primary().feed(FAILED)
    if lost:
        it.feed(model.TrainerLost())
    assert it.feed(model.Terminated()).only(model.SignalTrainer).signal == signal.SIGKILL
    assert it.sent == [] and release(it).message == WHY


def test_a_pod_that_is_deleted_before_its_new_trainer_has_begun_does_not_say_that_it_handed_over() -> None:
    it = drive().primary().feed(FAILED).feed(model.TrainerLost()).feed(protocol.Hello("1")).accept()
    it.feed(model.Terminated())
    assert release(it).reason == "ProcessExited"
    assert release(it).message == f"{WHY}; the trainer that was started again had not begun yet"


def test_nobody_is_waited_for_who_was_to_hand_over_and_is_gone() -> None:
    it = drive().primary().feed(model.Terminated()).feed(model.TrainerLost())
    it.feed(protocol.Hello("1"))
    assert it.sent == [], "a trainer that is started again while its pod ends gets no role"
    assert later(it, LAUNCHER_ENDS_WITHIN_S).only(model.SignalTrainer).signal == signal.SIGKILL
    assert release(it).reason == "ProcessExited"


def test_a_launcher_that_starts_a_trainer_again_after_the_hand_over_ends_at_once() -> None:
    it = drive().primary().feed(model.Terminated()).feed(protocol.HandedOver(ref(9))).feed(model.TrainerLost())
    assert it.none(model.SignalTrainer)
    it.feed(protocol.Hello("1"))
    assert it.sent == [] and it.only(model.SignalTrainer).signal == signal.SIGKILL
    assert release(it).reason == "HandedOver"


# It is started again


def test_a_trainer_that_is_started_again_goes_on_in_its_term_from_the_newest_checkpoint() -> None:
    it = drive().primary().feed(protocol.Committed(ref(150))).feed(FAILED).feed(model.TrainerLost())
    it.step = 180
    assert it.none(model.SignalTrainer) and not it.machine.is_ready
    later(it, 2).accept()
    beat = it.renewals[-1].beat
    assert (beat.phase, beat.step, beat.checkpoint) == (Phase.STARTING, 180, ref(150)), "the floor stays"
    assert (beat.failures, beat.last_failure) == (0, WHY), "it counts once it is survived, and is told before"
    it.feed(protocol.Hello("1"))
    assert it.sent == [protocol.Promote(1, ref(150), "v1")]
    beat = it.only(model.Renew).beat
    assert (beat.failures, beat.restarts, beat.last_failure) == (1, 1, WHY)
    notice = it.only(model.Renew).notice
    assert notice.reason == EventReason.TRAINER_RESTARTED and notice.message.endswith(WHY)
    later(it.accept().begin(1), FAILED_ENDS_WITHIN_S + RESTARTS_WITHIN_S)
    assert it.none(model.SignalTrainer) and it.machine.is_ready
    assert it.renewals[-1].beat.phase is Phase.TRAINING


def test_failures_are_counted_until_there_is_a_new_checkpoint() -> None:
    it = drive().primary().feed(protocol.Committed(ref(150)))
    for failures in (1, 2, 3):
        beat = restarted(it, f"failure {failures}").renewals[-1].beat
        assert (beat.failures, beat.last_failure) == (failures, f"failure {failures}")
        it.feed(protocol.Committed(ref(150)))  # no newer one
    later(it.feed(protocol.Committed(ref(200))), 1)
    assert (it.renewals[-1].beat.failures, it.renewals[-1].beat.restarts) == (0, 3)
    assert restarted(it.accept()).renewals[-1].beat.failures == 1


def test_a_death_without_a_word_counts_too() -> None:
    it = later(drive().primary().feed(model.TrainerLost()), 2).feed(protocol.Hello("1")).accept()
    assert "without a word" in str(it.renewals[-1].beat.last_failure)


def test_trouble_with_the_volume_is_told_and_does_not_count() -> None:
    it = drive().primary().feed(protocol.Failed("full", volume=True))
    it.feed(model.TrainerLost()).feed(protocol.Hello("1"))
    assert (it.renewals[-1].beat.failures, it.renewals[-1].beat.restarts) == (0, 1)


def test_a_loop_that_never_ends_becomes_no_flood_of_events() -> None:
    it = drive().redundant()
    for _ in range(40):
        later(it.feed(model.TrainerLost()).feed(protocol.Hello("1")), 1)
    told = [r.notice.message.split("restart ")[1].split(",")[0].split(")")[0] for r in it.renewals if r.notice]
    assert list(dict.fromkeys(told)) == ["1", "2", "3", "4", "5", "8", "16", "32"]
    assert it.renewals[-1].beat.restarts == 40


@pytest.mark.parametrize("before", [0, 2])
def test_the_failure_that_ends_the_job_ends_its_pod_so_that_its_log_is_kept(before: int) -> None:
    it = drive(slot_lease=None, max_failures=5).feed(protocol.Hello("1"))
    history = Promotion(
        term=3, source=OTHER, target=POD, cause="ProcessExited", message="", failed_at="", detected_at="",
        promoted_at="", known_step=0, known_step_exact=True, failures=before,
    )  # fmt: skip
    it.see(lease(holder=POD, term=3, version=5, promotion=history)).accept().begin(3)
    for failures in range(1, 5 - before):
        assert restarted(it, term=3).renewals[-1].beat.failures == failures
    it.feed(FAILED).feed(model.TrainerLost()).feed(protocol.Hello("1"))
    assert it.sent == [] and it.only(model.SignalTrainer).signal == signal.SIGKILL
    renewal = next(renewal for renewal in it.renewals if renewal.release is not None)
    assert renewal.beat.failures == 4 - before, "the release is the last one"
    assert release(it).message == (
        f"{WHY}; its launcher started it again, after 5 failures without progress: killed by the agent"
    )


def test_progress_and_trouble_with_the_volume_keep_a_pod_from_its_last_failure() -> None:
    it = drive(max_failures=2).primary()
    restarted(it).feed(protocol.Committed(ref(50)))
    restarted(it).feed(protocol.Committed(ref(100)))
    for _ in range(3):
        it.feed(protocol.Failed("full", volume=True)).feed(model.TrainerLost()).feed(protocol.Hello("1")).accept()
    assert all(not isinstance(action, model.SignalTrainer) for action in it.all)


def test_a_trainer_that_nobody_starts_again_ends_its_pod_with_the_reason() -> None:
    it = drive().primary().feed(FAILED).feed(model.TrainerLost())
    assert later(it, RESTARTS_WITHIN_S - 0.1).none(model.SignalTrainer)
    assert later(it, 0.1).only(model.SignalTrainer).signal == signal.SIGKILL
    assert release(it).message == (
        f"{WHY}; python train.py ran on, and started no other trainer within 30 s: killed by the agent"
    )


def test_a_script_that_completed_and_whose_launcher_lives_on_has_not_failed() -> None:
    it = later(drive().primary().feed(protocol.Completed(9)).feed(model.TrainerLost()), RESTARTS_WITHIN_S)
    assert it.none(model.SignalTrainer)
    assert it.feed(model.TrainerExited(0)).only(model.Renew).release.reason == "Completed"


def test_a_redundant_trainer_that_ended_cannot_take_over_before_it_is_warm_again() -> None:
    it = later(drive().redundant(), 0.1).feed(model.TrainerLost())
    assert it.only(model.Renew).beat.phase is Phase.STARTING
    it.accept().feed(protocol.Hello("1"))
    assert it.sent == [protocol.Standby("v1"), protocol.Follow(ref(100), "v1")]
    assert (it.only(model.Renew).lease, it.renewals[-1].beat.failures) == (SLOT, 1)
    it.accept().feed(protocol.Ready(ref(100)))
    assert (it.only(model.Renew).beat.phase, it.renewals[-1].beat.failures) == (Phase.READY, 0)


def test_a_promoted_pod_and_one_with_a_new_term_begin_to_count_anew() -> None:
    it = drive().redundant().feed(model.TrainerLost()).feed(protocol.Hello("1")).accept()
    it.see(rank_with_floor(ref(100), version=9, holder=POD, term=2), watched=True)
    assert (it.only(model.Renew).lease, it.renewals[-1].beat.failures, it.renewals[-1].beat.restarts) == (RANK, 0, 0)
    it.accept().begin(2)
    assert restarted(it, term=2).renewals[-1].beat.failures == 1
    it.accept().see(lease(holder=POD, term=4, version=12))
    assert (it.renewals[-1].beat.term, it.renewals[-1].beat.failures) == (4, 0), "the operator has taken it over"


def test_a_piece_of_work_that_was_under_way_at_the_crash_puts_no_deadline_off() -> None:
    it = drive(progress_s=30).primary()
    it.busy = 1
    restarted(it)
    it.frozen = True
    assert later(it, 32).only(model.SignalTrainer).signal == signal.SIGKILL
    it = drive(progress_s=30).primary()
    it.busy = 1
    restarted(it)
    it.frozen, it.busy = True, 2
    assert later(it, 32).none(model.SignalTrainer)


def test_a_second_process_counts_once_for_each_trainer_and_disturbs_nobody() -> None:
    it = drive().primary()
    for _ in range(3):
        later(it.feed(model.SecondTrainer()), 1)
    assert (it.renewals[-1].beat.failures, it.renewals[-1].beat.restarts) == (1, 0)
    assert [r.notice.reason for r in it.renewals if r.notice] == [EventReason.SECOND_TRAINER]
    assert all(not isinstance(action, model.SignalTrainer) for action in it.all)


def test_a_long_reason_is_cut_in_the_heartbeat() -> None:
    it = restarted(drive().primary(), "x" * 1024)
    assert len(str(it.renewals[-1].beat.last_failure).encode()) == LAST_FAILURE_MAX_BYTES


def test_the_end_deadline_of_a_trainer_is_not_its_successors() -> None:
    it = drive(end_s=40).primary().feed(protocol.Completed(100)).accept()
    later(it, 5).feed(protocol.Failed("ValueError: after the training")).feed(model.TrainerLost())
    later(it, 2).feed(protocol.Hello("1")).accept().begin(1)
    later(it, 60)
    assert [renewal.release for renewal in it.renewals if renewal.release] == []


def test_a_script_that_is_started_again_has_not_returned() -> None:
    it = drive().primary().feed(protocol.Completed(100)).accept().feed(protocol.Returned("thread upload"))
    it.feed(protocol.Failed("SystemExit: 3")).feed(model.TrainerLost())
    later(it, 2).feed(protocol.Hello("1")).accept().begin(1)
    it.feed(protocol.Completed(100)).accept().feed(model.Terminated())
    assert [renewal.release for renewal in it.renewals if renewal.release] == [], "it may still upload"


@pytest.mark.parametrize("final", [False, True])
def test_a_hand_over_that_comes_too_late_keeps_the_exception_before_it(final: bool) -> None:
    it = drive().primary().feed(model.Terminated())
    later(it, 18).feed(protocol.Failed("ValueError: while saving", final=final))
    later(it, 3)
    assert release(it).message.startswith("ValueError: while saving")


@pytest.mark.parametrize("code", [0, 1])
def test_a_trainer_that_ran_out_of_memory_below_a_shell_is_told_so(code: int) -> None:
    it = drive().primary().feed(model.TrainerLost()).feed(model.TrainerExited(code, "out of memory: raise the limit"))
    assert release(it).reason == "OOMKilled" and "raise the limit" in release(it).message
    assert release(it).exit_code != 0, "a container that exits 0 looks complete"


def test_an_exception_stays_the_reason_where_a_child_ran_out_of_memory() -> None:
    it = drive().primary().feed(protocol.Failed("RuntimeError: a worker died")).feed(model.TrainerLost())
    it.feed(model.TrainerExited(0, "out of memory: raise the limit"))
    assert release(it).reason == "ProcessExited" and "raise the limit" in release(it).message


KILLED = model.TrainerLost(shortage="out of memory: raise the limit")
MEMORY = "the process that trains ended without a word: out of memory: raise the limit"


def test_a_trainer_that_ran_out_of_memory_below_a_launcher_that_starts_no_other_is_told_so() -> None:
    it = later(drive().primary().feed(KILLED), RESTARTS_WITHIN_S)
    assert (release(it).reason, release(it).exit_code) == ("OOMKilled", 1)
    assert release(it).message.startswith(MEMORY) and "ran on, and started no other trainer" in release(it).message


def test_so_is_a_redundant_one_and_one_whose_pod_is_deleted_then() -> None:
    assert release(later(drive().redundant().feed(KILLED), RESTARTS_WITHIN_S)).reason == "OOMKilled"
    deleted = release(drive().primary().feed(KILLED).feed(model.Terminated()))
    assert (deleted.reason, deleted.message) == ("OOMKilled", MEMORY)


@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_shell_that_ends_after_it_does_not_hide_it(code: int) -> None:
    it = drive().primary().feed(KILLED).feed(model.TrainerExited(code))
    assert release(it).reason == "OOMKilled" and release(it).message.count("raise the limit") == 1


def test_one_that_was_started_again_after_it_says_so_and_its_own_failure_is_another() -> None:
    it = later(drive().primary().feed(KILLED), 2).feed(protocol.Hello("1")).accept().begin(1)
    assert it.renewals[-1].beat.last_failure == MEMORY
    it.feed(model.TrainerLost())
    assert release(later(it, RESTARTS_WITHIN_S)).reason == "ProcessExited"


def test_one_that_runs_out_of_memory_once_too_often_is_told_so() -> None:
    it = drive(max_failures=2).primary()
    for _ in range(2):
        later(it.feed(KILLED).feed(protocol.Hello("1")), 1)
    assert release(it).reason == "OOMKilled" and "after 2 failures without progress" in release(it).message


def test_an_exception_that_follows_from_a_child_without_memory_stays_the_reason_when_its_process_lives_on() -> None:
    it = drive().primary().feed(protocol.Failed("RuntimeError: a worker died")).feed(KILLED)
    assert release(later(it, RESTARTS_WITHIN_S)).reason == "ProcessExited"
    assert "RuntimeError: a worker died; before that the kernel killed" in release(it).message
