"""An error of the operator in one part of its work costs no other part: least of all a promotion."""

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from understudy_contract.status import ConditionType
from understudy_kube.client import ApiError
from understudy_kube.errors import ServerError
from understudy_operator import act
from understudy_operator.core import states
from understudy_operator.core.actions import Emit, KeepBudgets, Prepare, WriteStatus
from understudy_operator.core.decide import decide

from tests.unit.operator.builders import NOW, PRIMARY, Scene, of
from tests.unit.operator.moves import both_at_work
from tests.unit.operator.stage import JOB, PODS, Stage, refusing, stage_test

PARTS = ("overdue", "_prepare", "_keep_budgets", "provide_rank", "outrun", "switch_over", "refuse")
decide_module = importlib.import_module("understudy_operator.core.decide")


def breaks(*_: Any, **__: Any) -> Any:
    raise KeyError("promotedAt")


def lost() -> Scene:
    """Two ranks, of which the first has lost its primary."""
    return Scene(ranks=2).settled().gone(PRIMARY)


@pytest.mark.parametrize("part", PARTS)
def test_whatever_else_cannot_be_decided_the_promotion_is(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decide(lost().observe(), NOW, whole=True).promotions
    assert len(expected) == 1
    monkeypatch.setattr(decide_module, part, breaks)
    decision = decide(lost().given(prepared_at=-1e9).observe(), NOW, whole=True)
    assert decision.promotions == expected
    assert decision.faults, "it is said"
    (status,) = of(decision.rest, WriteStatus)
    error = status.status.condition(ConditionType.OPERATOR_ERROR)
    assert error is not None and error.holds and "KeyError: 'promotedAt'" in error.message
    assert [e.reason for e in of(decision.rest, Emit) if e.reason == "OperatorError"] == ["OperatorError"]


def test_a_rank_that_cannot_be_judged_keeps_no_other_from_its_promotion(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(ranks=2).settled().gone(PRIMARY).gone("digits-1-0")
    whole = decide(scene.observe(), NOW, whole=True).promotions
    judge: Callable[..., Any] = states.judge_primary

    def first_breaks(lease: Any, *args: Any, **kwargs: Any) -> Any:
        return breaks() if lease.record.name == "digits-0" else judge(lease, *args, **kwargs)

    monkeypatch.setattr(states, "judge_primary", first_breaks)
    assert decide(scene.observe(), NOW, whole=True).promotions == whole[1:]


@pytest.mark.parametrize("failed", ["_status", "news", "_notable", "list_failovers"])
def test_a_report_that_fails_is_told_in_the_status_that_stands(failed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = lost().given(status_written_at=-1e9)
    expected = decide(scene.observe(), NOW, whole=True)
    monkeypatch.setattr(importlib.import_module("understudy_operator.core.status"), failed, breaks)
    decision = decide(scene.observe(), NOW, whole=True)
    assert decision.promotions == expected.promotions
    told = [a for a in decision.rest if isinstance(a, WriteStatus | Emit)]
    assert [a for a in decision.rest if a not in told] == [
        a for a in expected.rest if not isinstance(a, WriteStatus | Emit)
    ]
    (status,) = of(decision.rest, WriteStatus)
    kept = tuple(c for c in status.status.conditions if c.type != ConditionType.OPERATOR_ERROR)
    assert msgspec.structs.replace(status.status, conditions=kept) == scene.job.status
    scene.job = replace(scene.job, status=status.status)
    assert of(decide(scene.observe(), NOW, whole=True).rest, WriteStatus) == [], "once"


def test_a_status_that_no_operator_wrote_holds_no_promotion_back() -> None:
    scene = lost()
    odd = {"rank": 0, "term": 1, "promotedAt": "no time", "from": "\x00", "cause": 7 * "x", "message": ""}
    scene.status({**scene.wire(), "failovers": [{"rank": 0, "term": 1}, odd, {**odd, "rank": 2**31 - 1}]})
    assert len(scene.job.status.failovers) == 2, "the first has no time, so no operator can have written it"
    decision = decide(scene.observe(), NOW, whole=True)
    assert len(decision.promotions) == 1
    assert decision.faults == ()


def test_an_error_that_is_over_is_told_as_over(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = lost()
    with monkeypatch.context() as patch:
        patch.setattr(decide_module, "refuse", breaks)
        scene.settled()
    assert scene.settled().condition(ConditionType.OPERATOR_ERROR)["status"] == "False"


@pytest.mark.parametrize("work", ["prepare", "keep_budgets", "build_pod"])
def test_work_that_raises_is_a_problem_and_all_else_goes_on(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    aimed = {"prepare": Prepare, "keep_budgets": KeepBudgets}

    @stage_test
    async def in_virtual_time(stage: Stage) -> None:
        await both_at_work(stage)
        with monkeypatch.context() as patch:
            patch.setattr(act, work, breaks)
            job = stage.world.jobs.known(("default", "digits"))
            assert job is not None
            memo = stage.world.jobs.memo(job.uid)
            memo.prepared_at, memo.budgets = -1e9, None
            stage.releases("digits-0")
            await stage.run(1)
            stage.reports("digits-0-1", "digits-0", "training")
            await stage.run(20)
            assert stage.status["ranks"][0]["primary"] == "digits-0-1"
            error = stage.condition(ConditionType.OPERATOR_ERROR)
            assert error["status"] == "True" and "KeyError" in error["message"]
            named = aimed[work].__name__ if work in aimed else "CreatePod"
            assert named in error["message"]
            assert sum(event["reason"] == "OperatorError" for event in stage.events()) == 1
        await stage.run(60)
        assert stage.condition(ConditionType.OPERATOR_ERROR)["status"] == "False"

    in_virtual_time()


async def at_work(stage: Stage) -> None:
    """Let a primary train, with a warm redundant pod beside it."""
    await stage.run(1)
    stage.runs("digits-0-0", "a")
    stage.reports("digits-0-0", "digits-0", "training")
    await stage.run(1)
    stage.runs("digits-0-1", "b")
    await renew(stage, 2)


async def renew(stage: Stage, times: int) -> None:
    """Let both workers renew, some seconds apart."""
    for _ in range(times):
        stage.reports("digits-0-0", "digits-0", "training")
        stage.reports("digits-0-1", "digits-0-s0", "ready")
        await stage.run(2)


@stage_test
async def test_a_job_that_cannot_be_read_for_a_while_keeps_its_warm_pod(stage: Stage) -> None:
    await at_work(stage)
    good = json.loads(json.dumps(stage.server.objects[JOB]["spec"]))
    bad = json.loads(json.dumps(stage.server.objects[JOB]))
    bad["spec"]["template"]["metadata"] = {"annotations": {"large": "y" * 300_000}}
    stage.server._put(JOB, bad)
    stage.announce()
    await renew(stage, 3)
    stage.server._put(JOB, json.loads(json.dumps(stage.server.objects[JOB])) | {"spec": good})
    stage.announce()
    await renew(stage, 3)
    assert sorted(stage.pods()) == ["digits-0-0", "digits-0-1"]
    assert "RedundantLost" not in [event["reason"] for event in stage.events()]


@stage_test
async def test_a_redundant_pod_is_replaced_although_its_events_cannot_be_listed(stage: Stage) -> None:
    await at_work(stage)
    state = {"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": "2026-01-01T00:00:09Z"}}
    body = stage.server.objects[f"{PODS}/digits-0-1"]
    ended = {"phase": "Failed", "containerStatuses": [{"name": "trainer", "state": state}]}
    stage.world.pods.upsert(stage.server._put(f"{PODS}/digits-0-1", {**body, "status": ended}))

    def down(verb: str, path: str) -> ApiError | None:
        return ServerError(500, "InternalError", "down") if path.endswith("/events") else None

    with refusing(stage, down):
        for _ in range(10):
            stage.reports("digits-0-0", "digits-0", "training")
            await stage.run(2)
    assert "digits-0-2" in stage.pods()
