"""What a primary says with its release is told, and delays no promotion."""

import asyncio
from typing import Any

from understudy_contract.events import EventReason
from understudy_contract.lease import encode
from understudy_contract.names import Annotation
from understudy_contract.reports import Notice

from tests.unit.operator.moves import both_at_work, wants
from tests.unit.operator.stage import (
    LEASES,
    MINUTE,
    Stage,
    refusing,
    stage_test,
    unreachable,
)


@stage_test
async def test_what_a_primary_said_with_its_last_words_is_told(stage: Stage) -> None:
    await both_at_work(stage)
    said = Notice(EventReason.CHECKPOINT_FAILED, "the volume is full")
    stage.releases("digits-0", **{Annotation.NOTICE: encode(said)})
    await stage.run(1)
    assert stage.server.objects[f"{LEASES}/digits-0"]["spec"]["holderIdentity"] == "digits-0-1"
    told = [event["reason"] for event in stage.events() if event["message"] == "digits-0-0: the volume is full"]
    assert told == ["CheckpointFailed"]


@stage_test
async def test_no_promotion_waits_for_the_last_words_of_an_earlier_one(stage: Stage) -> None:
    wants(stage, ranks=2)
    stage.announce()
    await both_at_work(stage)
    for pod, lease, phase in ("digits-1-0", "digits-1", "training"), ("digits-1-1", "digits-1-s0", "ready"):
        stage.runs(pod, "c")
        stage.reports(pod, lease, phase)
    await stage.run(1)
    post = stage.server.post

    async def slow(path: str, body: bytes, *, params: Any = None) -> bytes:
        if path.endswith("/events"):
            await asyncio.sleep(2)
        return await post(path, body, params=params)

    stage.server.post = slow  # type: ignore[method-assign]
    running = asyncio.create_task(stage.reconciler.run())
    said = Notice(EventReason.CHECKPOINT_FAILED, "the volume is full")
    stage.releases("digits-0", **{Annotation.NOTICE: encode(said)})
    await asyncio.sleep(0.1)
    stage.releases("digits-1")
    await asyncio.sleep(0.1)
    holders = [stage.server.objects[f"{LEASES}/digits-{rank}"]["spec"]["holderIdentity"] for rank in range(2)]
    assert holders == ["digits-0-1", "digits-1-1"]
    await asyncio.sleep(20)
    assert [event["reason"] for event in stage.events() if event["message"] == "digits-0-0: the volume is full"] == [
        "CheckpointFailed"
    ]
    running.cancel()


@stage_test
async def test_last_words_that_cannot_be_told_at_first_are_told_later(stage: Stage) -> None:
    await both_at_work(stage)
    said = Notice(EventReason.CHECKPOINT_FAILED, "the volume is full")
    with refusing(stage, lambda verb, path: unreachable(verb, path) if verb == "POST events" else None):
        stage.releases("digits-0", **{Annotation.NOTICE: encode(said)})
        await stage.run(1)
    assert stage.events() == []
    await stage.run(MINUTE)
    assert sum(event["message"] == "digits-0-0: the volume is full" for event in stage.events()) == 1
    assert not stage.world.jobs.memo("job").last_words
