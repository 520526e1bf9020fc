"""The agent's decisions, read as rules: what is seen, and what must follow."""

import signal

import pytest
from understudy import protocol
from understudy.agent import model
from understudy_contract.exits import ExitCode
from understudy_contract.reports import Phase

from tests.unit.agent.driver import OTHER, POD, RANK, SLOT, Driver, drive, lease, rank_with_floor, ref

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


def test_notices_go_out_one_by_one_each_until_it_is_accepted() -> None:
    it = drive().primary().feed(protocol.Notice("A", "first")).feed(protocol.Notice("B", "second"))
    it.wait(1.0).fail().wait(1.0).accept().wait(1.0).accept().wait(1.0)
    sent = [renewal.notice.reason if renewal.notice else None for renewal in it.renewals[-4:]]
    assert sent == ["A", "A", "B", None]


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
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL


def test_a_finished_script_may_end_by_itself_after_sigterm() -> None:
    it = drive().primary().feed(protocol.Completed(200)).accept().feed(model.Terminated())
    assert it.sent == [] and it.none(model.SignalTrainer)
    it.feed(model.TrainerExited(0))
    assert it.only(model.Renew).release.reason == "Completed"


def test_a_redundant_pod_ends_its_trainer_and_exits_0() -> None:
    it = drive().redundant().feed(model.Terminated())
    assert it.only(model.SignalTrainer).signal == signal.SIGTERM
    assert it.wait(2.0).only(model.SignalTrainer).signal == signal.SIGKILL
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


def hung(driver: Driver) -> Driver:
    """Let the trainer live on and do nothing from now on."""
    driver.frozen = True
    return driver


def test_a_primary_that_does_nothing_for_its_deadline_is_killed_and_told() -> None:
    it = hung(drive(progress_s=30).primary())
    it.step = 41
    it.wait(29)
    assert it.none(model.SignalTrainer)
    it.wait(1.5)
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    release = next(r.release for r in it.renewals if r.release is not None)
    assert (release.reason, release.exit_code) == ("Stalled", 137)
    assert "no progress for 30 s (progressDeadlineSeconds) after step 41" in release.message
    assert it.feed(model.TrainerExited(137)).accept().only(model.Exit).code == 137


def test_any_activity_puts_the_deadline_off() -> None:
    it = hung(drive(progress_s=30).primary())
    for _ in range(20):
        it.activity += 1
        it.wait(25)
        assert it.none(model.SignalTrainer)


def test_a_long_first_step_of_a_cold_start_has_the_deadline_of_a_start() -> None:
    it = drive(progress_s=30, startup_s=300).feed(protocol.Hello("1")).see(lease(holder=POD, version=5)).accept()
    it.feed(protocol.Started(1, ref(0), "v1"))
    assert hung(it).wait(299).none(model.SignalTrainer)
    it.wait(2)
    release = it.renewals[-1].release
    assert release is not None
    assert "no progress for 300 s (startupDeadlineSeconds) before its first step" in release.message


def test_a_warm_pod_that_was_promoted_has_no_reason_to_take_longer_than_a_step() -> None:
    it = hung(drive(progress_s=30, startup_s=300).redundant())
    it.see(lease(holder=POD, term=2, version=9), watched=True).accept()
    assert it.wait(29).none(model.SignalTrainer)
    assert it.wait(2).only(model.SignalTrainer).signal == signal.SIGKILL
    release = next(r.release for r in it.renewals if r.release is not None)
    assert "no progress for 30 s (progressDeadlineSeconds) before its first step" in release.message


def test_a_redundant_trainer_that_hangs_is_no_understudy() -> None:
    it = hung(drive(startup_s=300).redundant())
    assert it.wait(299).none(model.SignalTrainer)
    assert it.wait(2).only(model.SignalTrainer).signal == signal.SIGKILL
    assert next(r.lease for r in it.renewals if r.release is not None) == SLOT


def test_what_says_that_it_takes_long_has_the_deadline_of_a_start() -> None:
    it = hung(drive(progress_s=30, startup_s=300).primary())
    it.busy = 1
    assert it.wait(299).none(model.SignalTrainer)
    assert it.wait(2).only(model.SignalTrainer).signal == signal.SIGKILL
    release = next(r.release for r in it.renewals if r.release is not None)
    assert "no progress for 300 s (startupDeadlineSeconds) after step 1" in release.message


def test_a_trainer_that_waits_for_its_role_has_nothing_to_do() -> None:
    it = hung(drive(startup_s=60).feed(protocol.Hello("1")))
    assert it.wait(3600).none(model.SignalTrainer)


def test_time_in_which_the_agent_itself_stood_still_is_not_held_against_the_trainer() -> None:
    it = hung(drive(progress_s=30).primary())
    it.wait(20)
    it.now += 3600
    assert it.feed(model.Tick()).none(model.SignalTrainer)
    assert it.wait(8).none(model.SignalTrainer)
    assert it.wait(4).only(model.SignalTrainer).signal == signal.SIGKILL


def test_the_code_after_the_training_has_no_deadline_and_a_hand_over_its_own() -> None:
    finishing = hung(drive(progress_s=30).primary().feed(protocol.Completed(200, "m")).accept())
    assert finishing.wait(3600).none(model.SignalTrainer)
    leaving = hung(drive(progress_s=10, hand_over_s=20).primary().feed(model.Terminated()))
    assert leaving.wait(19).none(model.SignalTrainer)


def test_a_script_that_never_calls_understudy_ends_with_that_sentence() -> None:
    it = hung(drive(startup_s=120).see(lease(holder=POD, version=5)).accept())
    it.wait(121)
    assert it.only(model.SignalTrainer).signal == signal.SIGKILL
    release = it.renewals[-1].release
    assert release is not None and release.reason == "NotIntegrated"
    assert "did not call understudy within 120 s" in release.message


def test_a_release_into_a_lease_that_is_gone_is_over_unless_it_says_complete() -> None:
    it = drive().primary().feed(model.TrainerExited(1)).fail(gone=True)
    assert it.only(model.Exit).code == 1
    it = drive().primary().feed(protocol.Completed(9)).feed(model.TrainerExited(0)).fail(gone=True)
    assert it.none(model.Exit)


def test_an_older_version_that_the_watch_tells_late_changes_nothing() -> None:
    it = drive().primary(term=3).see(lease(holder=OTHER, term=9, version=1), watched=True)
    assert it.sent == []


def test_a_lease_of_a_restored_etcd_is_believed_when_it_answers_a_question_and_supersedes_nobody() -> None:
    it = drive().primary(term=3)
    it.wait(1.0).fail(refused=True).see(lease(holder=OTHER, term=1, version=2))
    assert it.sent == []
    it.wait(1.0).fail(refused=True).see(lease(holder=OTHER, term=4, version=3))
    assert it.sent == [protocol.Supersede(4)]
