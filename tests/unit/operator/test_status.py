"""The status: truthful, written no oftener than it is news, rebuilt when it is lost."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from understudy_contract.events import EventReason
from understudy_contract.names import Term
from understudy_contract.reports import FirstStep, Notice, Phase, Release
from understudy_operator.core.actions import OpenRank, WriteStatus

from tests.unit.operator.builders import (
    LEASE_S,
    NOW,
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    a_problem,
    a_promotion,
    ago,
    checkpoint,
    ended,
    of,
)

CRD = Path(__file__).parents[3] / "manifests" / "crd.yaml"


def at_work_again(first_step: int = 101, **record: Any) -> Scene:
    """digits-0-1 took over from digits-0-0 in term 2 and has taken its first step."""
    scene = Scene().beat(RANK, pod=UNDERSTUDY, term=2, first_step=FirstStep(first_step, "2026-01-01T11:59:01.000000Z"))
    return scene.promoted(**record)


class TestFailovers:
    """The last 20, with what they cost."""

    def test_tells_who_when_why_and_what_it_cost(self) -> None:
        (entry,) = at_work_again().written()["failovers"]
        assert entry == {
            "rank": 0,
            "term": 2,
            "from": PRIMARY,
            "to": UNDERSTUDY,
            "cause": "PodDeleted",
            "message": "pod digits-0-0 is gone",
            "failedAt": "2026-01-01T11:59:00.000000Z",
            "detectedAt": "2026-01-01T11:59:00.100000Z",
            "promotedAt": "2026-01-01T11:59:00.200000Z",
            "cold": False,
            "firstStepAt": "2026-01-01T11:59:01.000000Z",
            "lostSteps": 20,
        }

    def test_no_step_is_lost_by_a_hand_over(self) -> None:
        assert at_work_again(first_step=121).written()["failovers"][0]["lostSteps"] == 0

    def test_steps_lost_with_an_agent_are_a_lower_bound(self) -> None:
        assert at_work_again(known_step_exact=False).written()["failovers"][0]["lostStepsIsLowerBound"] is True

    def test_the_first_step_is_unknown_until_the_successor_tells(self) -> None:
        (entry,) = Scene().promoted().written()["failovers"]
        assert "firstStepAt" not in entry
        assert "lostSteps" not in entry

    def test_a_first_step_of_another_term_is_not_this_ones(self) -> None:
        assert "firstStepAt" not in at_work_again(term=1).written()["failovers"][0]

    def test_a_first_step_once_told_is_kept(self) -> None:
        scene = at_work_again().settled()
        scene.lease(RANK, holder="digits-0-2", term=3, promotion=a_promotion(term=3, promoted_at="2026-01-01T12Z"))
        assert [e.get("lostSteps") for e in scene.written()["failovers"]] == [20, None]

    def test_two_between_two_writes_of_the_status_are_both_told(self) -> None:
        later = a_promotion(term=3, promoted_at="2026-01-01T11:59:30.000000Z", unreported=(a_promotion(term=2),))
        scene = Scene().promoted().lease(RANK, term=Term(3), promotion=later)
        assert [e["term"] for e in scene.written()["failovers"]] == [2, 3]
        assert {"promotion 0 2", "promotion 0 3"} <= scene.events().keys()

    def test_a_term_that_was_given_once_more_after_a_restore_is_told_as_it_was_given_last(self) -> None:
        scene = at_work_again().settled()
        scene.lease(RANK, promotion=a_promotion(term=2, promoted_at="2026-01-01T11:59:30.000000Z", cold=True))
        (entry,) = scene.written()["failovers"]
        assert (entry["promotedAt"], entry["cold"]) == ("2026-01-01T11:59:30.000000Z", True)

    def test_only_the_last_20_are_kept(self) -> None:
        scene = Scene()
        for term in range(2, 30):
            scene.lease(RANK, promotion=a_promotion(term=term, promoted_at=f"2026-01-01T11:59:{term:02d}.000000Z"))
            scene.settled()
        assert [e["term"] for e in scene.written()["failovers"]] == list(range(10, 30))

    def test_counts_never_fall(self) -> None:
        scene = at_work_again(failovers=3, restarts=1)
        assert (scene.written()["failoverCount"], scene.written()["restarts"]) == (3, 1)
        scene.settled().lease(RANK, promotion=None)
        assert (scene.written()["failoverCount"], scene.written()["restarts"]) == (3, 1)

    def test_a_status_that_was_deleted_is_rebuilt_from_the_leases(self) -> None:
        scene = at_work_again(failovers=3)
        before = scene.written()
        assert scene.settled().status({}).written() == before


def test_a_renewal_that_arrives_after_the_release_takes_back_no_step() -> None:
    scene = Scene().lease(RANK, release=Release(Term(1), "Completed", 0, "", checkpoint(200)))
    assert (scene.written()["step"], scene.written()["ranks"][0]["step"]) == (200, 200)
    older = Scene().lease(RANK, release=Release(Term(1), "ProcessExited", 1, "", checkpoint(100)))
    assert older.written()["step"] == 120, "steps after the last commit were taken, too"


class TestALeaseThatWasDeleted:
    """Of its rank the status says what was known until it is made anew."""

    def test_is_not_taken_for_a_rank_that_has_not_begun(self) -> None:
        scene = Scene().settled().given(status_written_at=-1e9).gone(RANK)
        assert of(scene.decide().rest, OpenRank)
        assert not of(scene.decide().rest, WriteStatus)

    def test_is_told_of_where_it_cannot_be_made_anew(self) -> None:
        scene = Scene().settled().given(status_written_at=-1e9).gone(RANK)
        for again_at in (NOW.at + 5, NOW.at - 1):
            refused = a_problem(EventReason.NAME_TAKEN, "in the way", again_at=again_at)
            (write,) = of(scene.given(problems={("OpenRank", 0): refused}).decide().rest, WriteStatus)
            assert write.status.phase != "Running"


class TestCounts:
    """What is ready and what is wanted."""

    @pytest.mark.parametrize(
        ("sentence", "scene", "redundant"),
        [
            ("all is well", Scene(ranks=2), "2/2"),
            ("one is starting", Scene(ranks=2).beat(SLOT, phase=Phase.STARTING), "1/2"),
            ("one is terminating, and counts as nothing", Scene(ranks=2).pod(UNDERSTUDY, deleting_since=ago(1)), "1/2"),
            ("one is silent, whoever is cut off", Scene(ranks=2).lease(SLOT, silent_s=LEASE_S), "1/2"),
            ("one has ended", Scene(ranks=2).pod(UNDERSTUDY, container=ended()), "1/2"),
            ("one gave up", Scene(ranks=2).released(SLOT, "ProcessExited", 1), "1/2"),
            ("none is wanted", Scene(redundancy=0), "0/0"),
            ("its slot's pod was promoted", at_work_again(), "0/1"),
        ],
    )
    def test_redundant(self, sentence: str, scene: Scene, redundant: str) -> None:
        assert scene.written()["redundant"] == redundant, sentence

    def test_the_jobs_step_is_the_slowest_ranks(self) -> None:
        assert Scene(ranks=2).beat("digits-1", step=90).written()["step"] == 90

    @pytest.mark.parametrize(
        ("scene", "phase"),
        [
            (Scene(), "Running"),
            (Scene(redundancy=0), "Running"),
            (Scene().beat(RANK, checkpoint=None, phase=Phase.STARTING), "Pending"),
            (Scene().beat(SLOT, phase=Phase.STARTING), "Degraded"),
            (Scene().pod(PRIMARY, deleting_since=ago(1)), "Degraded"),
        ],
    )
    def test_phase(self, scene: Scene, phase: str) -> None:
        assert scene.written()["phase"] == phase


class TestWrites:
    """Progress alone is written every 10 s; anything else at once."""

    def test_nothing_new_is_not_written(self) -> None:
        scene = Scene().settled().given(status_written_at=ago(100))
        assert of(scene.decide().rest, WriteStatus) == []

    def test_steps_alone_wait(self) -> None:
        scene = Scene().settled().given(status_written_at=ago(8)).beat(RANK, step=130, checkpoint=checkpoint(130))
        decision = scene.decide()
        assert of(decision.rest, WriteStatus) == []
        assert decision.wake_at == NOW.at + 2
        (write,) = of(scene.given(status_written_at=ago(10)).decide().rest, WriteStatus)
        assert write.status.step == 130

    @pytest.mark.parametrize(
        "bend",
        [
            lambda s: s.beat(SLOT, phase=Phase.STARTING),
            lambda s: s.lease(RANK, promotion=a_promotion()),
            lambda s: s.pod(PRIMARY, deleting_since=ago(1)),
        ],
    )
    def test_news_does_not(self, bend: Any) -> None:
        scene = bend(Scene().settled().given(status_written_at=ago(1)))
        assert len(of(scene.decide().rest, WriteStatus)) == 1

    def test_a_transition_time_moves_with_its_status_only(self) -> None:
        scene = Scene().settled()
        old = {**scene.condition("Training"), "lastTransitionTime": "2025-12-31T00:00:00Z"}
        scene.status({**scene.wire(), "conditions": [old]})
        assert scene.condition("Training")["lastTransitionTime"] == "2025-12-31T00:00:00Z"
        scene.pod(PRIMARY, deleting_since=ago(1))
        assert scene.condition("Training")["lastTransitionTime"] == "2026-01-01T12:00:00Z"


def test_the_api_keeps_every_field_so_that_a_status_written_is_a_status_read() -> None:
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    full = at_work_again(known_step_exact=False, cold=True, restarts=1)
    full.beat(RANK, model="job-uid/rank-0/term-2-uid/final/model.keras")
    full.lease(SLOT, holder="digits-0-2").beat(SLOT, pod="digits-0-2").pod("digits-0-2")
    status = full.written()
    assert status["ranks"][0]["redundant"][0]["loadedStep"] == 100
    assert pruned(status, schema) == status


def pruned(value: Any, schema: dict[str, Any]) -> Any:
    """Drop what the schema does not name, as the API server does."""
    if isinstance(value, list):
        return [pruned(item, schema["items"]) for item in value]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    return {key: pruned(item, known[key]) for key, item in value.items() if key in known}


def test_events_keep_their_keys_so_that_each_is_posted_once() -> None:
    scene = at_work_again()
    first = scene.events()
    assert set(first) == {"promotion 0 2"}
    scene.beat(RANK, step=300).settled()
    assert scene.events() == first


def test_a_new_operator_does_not_tell_as_news_what_is_history() -> None:
    hours = "2026-01-01T09:59:00.200000Z"
    assert Scene().promoted(promoted_at=hours).events() == {}
    ended_long_ago = Scene().released(RANK, "Completed").lease(RANK, renew_time=hours)
    assert ended_long_ago.written()["phase"] == "Succeeded"
    assert ended_long_ago.events() == {}
    assert Scene().lease(RANK, notice=Notice("CheckpointFailed", "no space left", hours)).events() == {}


@pytest.mark.parametrize(
    ("sentence", "at"),
    [
        ("it is fresh", "2026-01-01T11:59:00.000000Z"),
        ("the worker's clock is ahead", "2026-01-01T13:00:00.000000Z"),
        ("a worker of an earlier release does not say when", None),
        ("what it says is no time", "a moment ago"),
        ("what it says names no zone", "2026-01-01T09:00:00"),
    ],
)
def test_a_notice_of_which_it_is_not_known_that_it_is_old_is_told(sentence: str, at: str | None) -> None:
    notice = Notice("CheckpointFailed", "no space left", at)
    assert list(Scene().lease(RANK, notice=notice).events()) == ["notice digits-0-0 no space left"], sentence


def test_a_promotion_and_a_cold_start_are_told_apart() -> None:
    warm, cold = at_work_again().events()["promotion 0 2"], at_work_again(cold=True).events()["promotion 0 2"]
    assert (warm.reason, cold.reason) == ("Promoted", "ColdStart")
    assert warm.message == "Rank 0: pod digits-0-0 is gone. Promoted digits-0-1 (term 2)."


def test_a_rank_whose_lease_is_gone_keeps_what_was_known_of_it() -> None:
    scene = Scene().settled().gone(RANK).asked(suspend=True)
    (entry,) = scene.written()["ranks"]
    assert (entry["primary"], entry["term"], entry["checkpointStep"], entry["redundant"]) == (PRIMARY, 1, 100, [])


def test_whoever_has_not_seen_the_end_of_a_job_takes_back_nothing_of_it() -> None:
    done = Scene().lease(RANK, release=Release(Term(1), "Completed", 0, "", checkpoint(200)))
    status = done.written()
    assert (status["phase"], status["step"], status["ranks"][0]["complete"]) == ("Succeeded", 200, True)
    behind = Scene().status(status).given(status_written_at=-1e9)
    assert not of(behind.decide().rest, WriteStatus)


def test_a_failover_of_a_rank_that_the_job_has_not_is_left_out() -> None:
    entry = {"rank": 3, "term": 2, "promotedAt": "2026-01-01T00:00:00Z"}
    assert Scene().status({"failovers": [entry]}).written().get("failovers", []) == []
