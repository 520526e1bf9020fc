"""How long a trainer may do nothing: read as rules."""

import signal

from understudy import protocol
from understudy.agent import model

from tests.unit.agent.driver import POD, SLOT, Driver, drive, lease, ref


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


def test_neither_the_code_after_the_training_nor_a_hand_over_has_a_deadline_of_progress() -> None:
    finishing = hung(drive(progress_s=30, end_s=3601).primary().feed(protocol.Completed(200, "m")).accept())
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
