"""When a job has failed: the same program, failing again and again, with no checkpoint between."""

import pytest
from understudy_contract.names import Term
from understudy_contract.reports import Cause, GivenUp, Phase
from understudy_operator.core.actions import AssignSlot, CreatePod, DeletePod

from tests.unit.operator.builders import (
    PRIMARY,
    RANK,
    UNDERSTUDY,
    Scene,
    a_promotion,
    ago,
    checkpoint,
    ended,
    given_up_in,
    init_failed,
    of,
)

SECOND = "digits-1-0"


def failing(failures: int, **promotion: object) -> Scene:
    """A primary that has just failed; its program had failed so often before, with step 100 as newest checkpoint."""
    history = a_promotion(term=1, failures=failures, **{"checkpoint": checkpoint(100), **promotion})
    return Scene().lease(RANK, promotion=history).released(RANK, "ProcessExited", 3, "ValueError: step 107")


def given_up(scene: Scene) -> Scene:
    """The rank's Lease says that it was given up."""
    return scene.lease(
        RANK, given_up=GivenUp(Cause.PROCESS_EXITED, "Rank 0 has failed 5 times", "2026-01-01T11:59:59Z")
    )


def test_the_fifth_failure_without_a_new_checkpoint_ends_the_job() -> None:
    (fourth,) = failing(3).decide().promotions
    assert fourth.promotion is not None and fourth.promotion.failures == 4
    decision = failing(4).decide()
    assert decision.promotions == ()
    (action,) = given_up_in(decision.rest)
    assert action.cause == Cause.PROCESS_EXITED
    assert action.message == (
        "Rank 0 has failed 5 times without a new checkpoint; last: the trainer of pod digits-0-0 ended: "
        "ValueError: step 107"
    )


def test_an_init_container_that_fails_counts_as_the_program_does() -> None:
    history = a_promotion(term=1, failures=4, checkpoint=checkpoint(100), cold=True)
    scene = Scene(redundancy=0).lease(RANK, promotion=history, silent_s=61).beat(RANK, none=True)
    scene.lease(RANK, operator_floor=checkpoint(100)).pod(PRIMARY, **init_failed(81))
    (action,) = given_up_in(scene.decide().rest)
    assert "5 times without a new checkpoint; last: init container fetch of pod" in action.message


def test_a_new_checkpoint_starts_the_count_again() -> None:
    (promote,) = failing(4, checkpoint=checkpoint(80)).decide().promotions
    assert promote.promotion is not None and promote.promotion.failures == 1


@pytest.mark.parametrize(
    "taken",
    [
        lambda s: s.gone(PRIMARY),
        lambda s: s.pod(PRIMARY, phase="Failed", reason="Evicted", container=None),
        lambda s: s.pod(PRIMARY, **init_failed(137), reason="Evicted"),
        lambda s: s.pod(PRIMARY, **init_failed(137, reason="ContainerStatusUnknown")),
        lambda s: s.lease(RANK, silent_s=60),
        lambda s: s.pod(PRIMARY, deleting_since=ago(1)).released(RANK, "ProcessExited", 143),
    ],
    ids=["deleted", "evicted", "evicted early", "forgotten by its node", "silent", "killed while it was deleted"],
)
def test_a_pod_that_was_taken_away_never_counts(taken: object) -> None:
    history = a_promotion(term=1, failures=4, checkpoint=checkpoint(100))
    (promote,) = taken(Scene().lease(RANK, promotion=history)).decide().promotions  # type: ignore[operator]
    assert promote.promotion is not None and promote.promotion.failures == 4


def test_pods_that_vanish_before_they_report_back_off_and_never_end_the_job() -> None:
    scene = Scene(redundancy=0).beat(RANK, none=True).gone(PRIMARY)
    scene.lease(RANK, failures=50, silent_s=61, promotion=a_promotion(term=1, failures=4, cold=True))
    (promote,) = scene.decide().promotions
    assert promote.failures == 51


def test_a_failed_job_ends_all_its_pods_but_what_has_ended_and_makes_none() -> None:
    scene = given_up(Scene(ranks=2)).pod(PRIMARY, container=ended(3), phase="Failed").gone("digits-1-1")
    rest = scene.decide().rest
    assert {d.pod.name for d in of(rest, DeletePod)} == {UNDERSTUDY, SECOND}
    assert (of(rest, AssignSlot), of(rest, CreatePod)) == ([], [])


def test_its_status_says_so_for_good() -> None:
    scene = given_up(Scene(ranks=2)).settled()
    status = scene.written()
    assert (status["phase"], status["redundantDesired"]) == ("Failed", 0)
    failed = scene.condition("Failed")
    assert (failed["status"], failed["reason"]) == ("True", "ProcessExited")
    assert failed["message"].startswith("Rank 0 has failed 5 times. Correct the script or its image")
    assert scene.condition("Training")["status"] == scene.condition("Complete")["status"] == "False"
    assert scene.events()["rank 0 given up"].reason == "Failed"
    scene.gone(*list(scene.leases), *list(scene.pods))
    assert (scene.written()["phase"], scene.condition("Failed")) == ("Failed", failed)
    assert scene.decide().promotions == ()


def test_nothing_is_promoted_in_a_failed_job() -> None:
    scene = given_up(Scene(ranks=2)).gone(SECOND)
    assert scene.decide().promotions == ()


def test_a_rank_that_goes_on_after_a_failure_is_not_blamed_for_it() -> None:
    scene = Scene().promoted(failures=3).beat(RANK, pod=UNDERSTUDY, term=2, phase=Phase.TRAINING)
    scene.lease(RANK, term=Term(2))
    assert scene.condition("Failed")["status"] == "False"


@pytest.mark.parametrize(
    "innocent",
    [
        lambda s: s.released(RANK, "ProcessExited", 81, "term 7 is on the volume"),
        lambda s: s.pod(PRIMARY, container=ended(81), phase="Failed"),
        lambda s: s.pod(PRIMARY, container=ended(82), phase="Failed"),
        lambda s: s.pod(PRIMARY, container=ended(137, reason="ContainerStatusUnknown"), phase="Failed"),
        lambda s: s.pod(PRIMARY, container=ended(255, reason="Unknown"), phase="Failed"),
    ],
    ids=[
        "released as superseded",
        "ended as superseded",
        "handed over before a restore",
        "lost by the kubelet",
        "lost by containerd",
    ],
)
def test_an_end_that_is_not_the_programs_fault_does_not_count(innocent: object) -> None:
    history = a_promotion(term=1, failures=4, checkpoint=checkpoint(100))
    (promote,) = innocent(Scene().lease(RANK, promotion=history)).decide().promotions  # type: ignore[operator]
    assert promote.promotion is not None and promote.promotion.failures == 4


def test_the_status_counts_what_ends_the_job_and_not_what_only_delays_it() -> None:
    vanishing = Scene().lease(RANK, failures=50, promotion=a_promotion(term=1, failures=2, checkpoint=checkpoint(100)))
    assert vanishing.written()["ranks"][0]["failuresWithoutProgress"] == 2
    words = GivenUp(Cause.STALLED, "Rank 0 has failed 5 times", "2026-01-01T11:59:59Z", 5)
    assert Scene().lease(RANK, given_up=words).written()["ranks"][0]["failuresWithoutProgress"] == 5


def test_trouble_with_the_volume_delays_the_next_try_and_never_ends_the_job() -> None:
    history = a_promotion(term=1, failures=4, cause="VolumeTrouble", checkpoint=checkpoint(100), cold=True)
    scene = Scene(redundancy=0).lease(RANK, promotion=history, failures=9, silent_s=5)
    scene.released(RANK, "VolumeTrouble", 1, "step 100 of term 1 was committed, but is not below /understudy")
    decision = scene.decide()
    assert (decision.promotions, given_up_in(decision.rest)) == ((), [])
    (promote,) = scene.lease(RANK, silent_s=61).decide().promotions
    assert promote.promotion is not None
    assert (promote.promotion.cause, promote.promotion.failures, promote.failures) == ("VolumeTrouble", 4, 10)


def test_the_condition_says_that_the_volume_is_to_be_mended() -> None:
    scene = Scene(redundancy=0).lease(RANK, failures=2, holder="digits-0-3", term=Term(2))
    scene.lease(RANK, promotion=a_promotion(cause="VolumeTrouble", message="the trainer of pod digits-0-0 ended: gone"))
    found = (
        scene.beat(RANK, none=True).gone(PRIMARY).given(pending_pods=frozenset({"digits-0-3"})).condition("Training")
    )
    assert (found["reason"], "Mend the volume" in found["message"]) == ("VolumeTrouble", True)
