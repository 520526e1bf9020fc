"""A worker that writes into its Lease whatever the API server takes: its status goes on, and few Events are posted."""

import json
from typing import Any

import pytest
from understudy_contract.bounds import NUMBER_MAX
from understudy_contract.names import Annotation
from understudy_kube.client import Api

from tests.integration.operator.process import Operator
from tests.integration.operator.rank import Rank, failover, promoted
from tests.integration.operator.stage import Stage, now_micro

pytestmark = pytest.mark.cluster

HUGE = 2**63
NASTY = "\x1b[2Jgone\n2026-01-01 00:00:00,000 INFO understudy: all is well "


async def write(stage: Stage, lease: str, **notes: dict[str, Any]) -> None:
    """Write annotations of a Lease past all that workers write them with."""
    texts = {str(Annotation[name.upper()]): json.dumps(value) for name, value in notes.items()}
    await stage.patch("leases", lease, {"metadata": {"annotations": texts}, "spec": {"renewTime": now_micro()}})


async def test_the_largest_numbers_and_the_longest_words_keep_no_status_from_being_written(
    rank: Rank, stage: Stage
) -> None:
    ref = {"term": 1, "step": HUGE, "digest": "d" * 100_000}
    beat = {"pod": rank.primary.pod, "term": 1, "phase": "training", "step": HUGE, "checkpoint": ref, "model": NASTY}
    await write(stage, rank.primary.lease, heartbeat={**beat, "firstStep": {"step": HUGE, "at": "soon"}})
    found = await stage.until(
        "trainingjobs", "job", lambda job: job["status"]["ranks"][0]["step"] == NUMBER_MAX, "the step in the status"
    )
    (entry,) = found["status"]["ranks"]
    assert entry["checkpointStep"] == NUMBER_MAX
    assert entry["model"] == "gone 2026-01-01 00:00:00,000 INFO understudy: all is well"


async def test_last_words_of_200_kb_are_cut_and_reach_the_log_as_one_line(
    rank: Rank, stage: Stage, operator: Operator
) -> None:
    before = len(operator.text())
    said = {"term": 1, "reason": "ProcessExited", "exitCode": 1, "message": NASTY * 3000}
    await write(stage, rank.primary.lease, released=said)
    await promoted(rank)
    await rank.successor.train(1, 0)
    entry = await failover(rank)
    assert len(entry["message"].encode()) <= 1024
    assert "\n" not in entry["message"] and "\x1b" not in entry["message"]
    logged = operator.text()[before:]
    assert "gone 2026-01-01" in logged
    assert "\x1b" not in logged
    assert not [line for line in logged.splitlines() if line.startswith("2026-01-01")]


async def test_of_100_notices_few_become_events_and_none_with_a_reason_of_the_operators(
    rank: Rank, stage: Stage, api: Api
) -> None:
    for number in range(100):
        await write(stage, rank.primary.lease, notice={"reason": "Failed", "message": f"number {number}"})
    await rank.primary.hand_over(15)
    await promoted(rank)
    await stage.until("events", None, lambda event: event["reason"] == "Promoted", "the Event of the promotion")
    posted = [event["reason"] for event in await stage.list("events")]
    assert 0 < posted.count("WorkerNotice") <= 12
    assert "Failed" not in posted
