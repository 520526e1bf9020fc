"""Failures that a pod survives, since a launcher in its container starts the trainer again: counted, told, ended."""

import pytest
from understudy_contract.reports import Cause, Phase
from understudy_operator.core import budget

from tests.unit.operator.builders import PRIMARY, RANK, SLOT, Scene, a_promotion, ago, checkpoint, given_up_in

WHY = "step_fn(170) raised RuntimeError: device lost"


def surviving(failures: int, before: int = 0, **beat: object) -> Scene:
    """A primary whose trainer was started again so often; the rank had failed `before` times when it was promoted."""
    history = a_promotion(term=1, failures=before, checkpoint=checkpoint(100))
    values = {"failures": failures, "restarts": failures, "last_failure": WHY, **beat}
    return Scene().lease(RANK, promotion=history).beat(RANK, **values)


@pytest.mark.parametrize(("survived", "before"), [(5, 0), (2, 3)], ids=["in one pod", "and in those before"])
def test_as_many_as_the_job_may_have_without_progress_end_it(survived: int, before: int) -> None:
    assert given_up_in(surviving(survived - 1, before).decide().rest) == []
    decision = surviving(survived, before).decide()
    (action,) = given_up_in(decision.rest)
    assert (action.cause, action.failures) == (Cause.PROCESS_EXITED, 5)
    assert action.message == (
        "Rank 0 has failed 5 times without a new checkpoint; last: the trainer of pod digits-0-0 ended, and was "
        f"started again: {WHY}"
    )
    assert decision.promotions == ()


def test_those_before_the_newest_checkpoint_do_not_count_and_those_after_it_do() -> None:
    scene = surviving(3, 4, checkpoint=checkpoint(150))
    assert given_up_in(scene.decide().rest) == []
    assert scene.written()["ranks"][0]["failuresWithoutProgress"] == 3


def test_the_failure_that_ends_the_pod_is_added_to_those_that_it_survived() -> None:
    (promote,) = surviving(2, 1).released(RANK, "ProcessExited", 1, WHY).decide().promotions
    assert promote.promotion is not None and promote.promotion.failures == 4
    (action,) = given_up_in(surviving(3, 1).released(RANK, "ProcessExited", 1, WHY).decide().rest)
    assert action.failures == 5


def test_a_pod_that_is_taken_away_leaves_the_count_to_the_next_one() -> None:
    (promote,) = surviving(4).gone(PRIMARY).decide().promotions
    assert promote.promotion is not None and promote.promotion.failures == 4
    (promote,) = surviving(5).pod(PRIMARY, deleting_since=ago(1)).released(RANK, "ProcessExited").decide().promotions
    assert promote.promotion is not None and promote.promotion.failures == 5


def test_the_status_tells_of_them_while_the_rank_trains_on() -> None:
    scene = surviving(1)
    entry = scene.written()["ranks"][0]
    assert (entry["failuresWithoutProgress"], entry["trainerRestarts"], entry["lastFailure"]) == (1, 1, WHY)
    condition = scene.condition("Training")
    assert condition["status"] == "True"
    assert condition["message"] == (
        "Every rank trains; the trainer of rank 0 has failed once without a new checkpoint, and was started again in "
        f"its pod; last: {WHY}"
    )
    scene = surviving(0, restarts=1)
    assert scene.written()["ranks"][0]["lastFailure"] == WHY, "also after a new checkpoint"
    assert scene.condition("Training")["message"] == "Every rank trains"


def test_a_trainer_that_has_not_come_back_to_its_first_step_does_not_train() -> None:
    condition = surviving(3, phase=Phase.STARTING).condition("Training")
    assert (condition["status"], condition["reason"]) == ("False", "Failing")
    assert condition["message"] == (
        f"Rank 0 has failed 3 times without a new checkpoint; last: {WHY}. Its trainer was started again in pod "
        "digits-0-0: correct the script."
    )


def test_a_trainer_that_is_awaited_again_is_named_with_what_it_failed_of() -> None:
    condition = surviving(0, phase=Phase.STARTING, restarts=0).condition("Training")
    assert (condition["status"], condition["reason"]) == ("False", "Starting")
    assert condition["message"] == f"Pod digits-0-0 of rank 0 is starting its trainer again, which failed: {WHY}"


def test_a_redundant_trainer_that_is_started_again_says_why_and_ends_no_job() -> None:
    scene = Scene().beat(SLOT, phase=Phase.STARTING, failures=7, restarts=7, last_failure=WHY)
    assert scene.condition("Redundant")["message"] == (
        "The trainer of redundant pod digits-0-1 has failed 7 times in a row, and was started again in its pod: "
        f"see its log; last: {WHY}"
    )
    decision = scene.decide()
    assert (decision.promotions, given_up_in(decision.rest)) == ((), [])


@pytest.mark.parametrize(
    ("said", "counted"), [(-9, 0), (2**63, 1000)], ids=["less than none", "more than a status may hold"]
)
def test_what_a_worker_makes_up_is_cut(said: int, counted: int) -> None:
    scene = surviving(said, last_failure="a\n\x1b[31mb" + 999 * "c", restarts=said)
    record = scene.leases[RANK]
    assert (budget.survived(record), budget.restarts(record)) == (counted, counted)
    words = budget.last_survived(record)
    assert words.startswith("a bccc") and len(words.encode()) == 300


def test_what_another_pod_or_term_said_does_not_count() -> None:
    assert surviving(5).lease(RANK, term=2).written()["ranks"][0]["failuresWithoutProgress"] == 0
