"""How long a job may be active, and how long it stays after its end."""

from datetime import timedelta

import pytest
from understudy_contract.lease import micro_time
from understudy_contract.names import Annotation
from understudy_contract.reports import GivenUp
from understudy_operator.core.actions import AssignSlot, DeleteJob
from understudy_operator.core.decide import Decision

from tests.unit.operator.builders import NOW, PRIMARY, RANK, SLOT, UNDERSTUDY, Scene, ended, given_up_in, of, patches


def since(seconds: float) -> str:
    """A wall-clock time of the past."""
    return micro_time(NOW.wall - timedelta(seconds=seconds))


def active(seconds: float, **changes: object) -> Scene:
    """A job that has been active for so long."""
    scene = Scene(**changes)  # type: ignore[arg-type]
    return scene.lease(RANK, active_since=since(seconds)).settled()


def over(kind: str, seconds: float) -> Scene:
    """A job that ended so long ago."""
    scene = Scene().pod(PRIMARY, container=ended(0), phase="Succeeded")
    if kind == "Complete":
        scene.released(RANK, "Completed")
    else:
        scene.lease(RANK, given_up=GivenUp("Stalled", "Rank 0 has failed", since(seconds)))
    scene.settled()
    conditions = [{**c, "lastTransitionTime": since(seconds)[:19] + "Z"} for c in scene.wire()["conditions"]]
    return scene.status({**scene.wire(), "conditions": conditions})


def test_a_job_that_is_active_for_too_long_fails_and_says_what_to_do() -> None:
    rest = active(3600).asked(active_deadline_s=3600).decide().rest
    (why,) = given_up_in(rest)
    assert ([a.rank for a in patches(rest, Annotation.GIVEN_UP)], why.cause) == ([0], "DeadlineExceeded")
    scene = active(3600).lease(RANK, given_up=why)
    assert scene.written()["phase"] == "Failed"
    failed = scene.condition("Failed")
    assert failed["reason"] == "DeadlineExceeded"
    assert failed["message"] == (
        "The job was active for 3600 s, as long as spec.activeDeadlineSeconds lets it. Give it more time, delete it "
        "and apply it anew, with checkpoint.resume: Latest if it is to go on from its checkpoints."
    )


def test_it_fails_before_anything_of_it_is_done_that_may_be_refused() -> None:
    scene = active(3600).asked(active_deadline_s=3600).gone(UNDERSTUDY).lease(SLOT, holder="", heartbeat=None)
    rest = scene.decide().rest
    assert len(of(rest, AssignSlot)) == 1
    assert rest[0] in patches(rest, Annotation.GIVEN_UP)


def test_it_is_looked_at_when_its_time_comes() -> None:
    decision = active(3595).asked(active_deadline_s=3600).decide()
    assert (given_up_in(decision.rest), decision.wake_at) == ([], NOW.at + 5)


def test_a_rank_that_has_completed_is_not_the_one_that_fails() -> None:
    scene = active(7200, ranks=2).released(RANK, "Completed").lease("digits-1", active_since=since(7200))
    scene.asked(active_deadline_s=3600)
    assert [action.rank for action in patches(scene.decide().rest, Annotation.GIVEN_UP)] == [1]


def test_a_rank_that_completed_before_a_suspension_does_not_count_the_time_of_it() -> None:
    scene = active(7200, ranks=2).released(RANK, "Completed").lease("digits-1", active_since=since(10))
    assert given_up_in(scene.asked(active_deadline_s=3600).decide().rest) == []


def test_a_suspended_job_is_not_active() -> None:
    assert given_up_in(active(7200).asked(active_deadline_s=3600, suspend=True).decide().rest) == []


def test_the_start_is_told_and_outlives_the_lease() -> None:
    scene = active(100)
    assert scene.written()["startTime"] == since(100)
    assert scene.gone(RANK).written()["startTime"] == since(100)


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_a_job_is_removed_when_it_has_ended_long_enough_ago(kind: str) -> None:
    def decided(seconds: float) -> Decision:
        return over(kind, seconds).asked(ttl_s=60).decide()

    assert (of(decided(59).rest, DeleteJob), decided(59).wake_at) == ([], NOW.at + 1)
    (action,) = of(decided(60).rest, DeleteJob)
    assert action.why == "it ended 60 s ago (spec.ttlSecondsAfterFinished)"


def test_without_a_limit_it_stays() -> None:
    assert of(over("Complete", 10_000_000).decide().rest, DeleteJob) == []


def test_a_job_that_runs_is_never_removed() -> None:
    assert of(active(10_000_000).asked(ttl_s=0).decide().rest, DeleteJob) == []
