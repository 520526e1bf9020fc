"""A promotion waits for nothing else of its job, and no rank waits for another."""

import asyncio

from understudy_kube.client import ApiError, Forbidden, ServerError

from tests.unit.operator.moves import both_at_work, vanishes, wants
from tests.unit.operator.stage import (
    LEASES,
    PODS,
    Stage,
    refusing,
    stage_test,
)


@stage_test
async def test_a_promotion_waits_for_no_other_failure_of_its_job(stage: Stage) -> None:
    await both_at_work(stage)
    promotions = 0

    def refuse(verb: str, path: str) -> ApiError | None:
        nonlocal promotions
        promotions += verb == "PATCH" and path == f"{LEASES}/digits-0"
        if verb == "STATUS" or promotions == 1:
            return ServerError(500, "InternalError", f"{verb} {path} was answered 500")
        return None

    with refusing(stage, refuse):
        stage.reports("digits-0-1", "digits-0-s0", "standby")  # which the status is to say, and cannot
        for _ in range(30):
            await stage.run(2)
            stage.reports("digits-0-0", "digits-0", "training")
            stage.reports("digits-0-1", "digits-0-s0", "ready")
        stage.releases("digits-0")
        await stage.run(0.1)
    assert promotions >= 2, "refused once, and then again at once"
    assert stage.server.objects[f"{LEASES}/digits-0"]["spec"]["holderIdentity"] == "digits-0-1"


@stage_test
async def test_a_promotion_that_is_refused_without_end_silences_no_other_rank(stage: Stage) -> None:
    wants(stage, ranks=2)
    stage.announce()
    await both_at_work(stage)
    promotions = 0

    def refuse(verb: str, path: str) -> ApiError | None:
        nonlocal promotions
        if (verb, path) != ("PATCH", f"{LEASES}/digits-0"):
            return None
        promotions += 1
        return Forbidden(403, "Forbidden", "a policy forbids it")

    with refusing(stage, refuse):
        stage.releases("digits-0")
        await stage.run(1)
        vanishes(stage, "digits-1-1")
        for _ in range(60):
            stage.reports("digits-0-1", "digits-0-s0", "ready")
            asked = await stage.run(1)
    assert f"{PODS}/digits-1-2" in stage.server.objects
    assert stage.condition("Training")["status"] == "False"
    assert promotions <= 40, "ever less, and at least every five seconds"
    assert asked.total() <= 5


@stage_test
async def test_of_64_ranks_none_waits_for_the_slow_requests_of_another(stage: Stage) -> None:
    ranks, lost, every_s = 64, 16, 3.0
    wants(stage, ranks=ranks)
    stage.announce()
    await stage.run(5)
    for rank in range(ranks):
        stage.runs(f"digits-{rank}-0", "a")
        stage.runs(f"digits-{rank}-1", "b")
    renewing = asyncio.create_task(_renew(stage, ranks, lost, every_s))
    await stage.run(10)
    assert stage.status["redundant"] == f"{ranks}/{ranks}"
    for rank in range(lost):
        body = stage.server.objects.pop(f"{PODS}/digits-{rank}-1")
        stage.world.pods.remove(("default", f"digits-{rank}-1"), body["metadata"]["uid"])
    stage.server.latency_s = 2.0
    await stage.run(10)
    assert stage.status["redundant"] == f"{ranks - lost}/{ranks}"
    await stage.run(50)
    assert len(stage.pods()) == 2 * ranks
    renewing.cancel()


async def _renew(stage: Stage, ranks: int, lost: int, every_s: float) -> None:
    """Let every worker of a rank renew, one rank after the other; the pods that are lost no more."""
    while True:
        for rank in range(ranks):
            stage.reports(f"digits-{rank}-0", f"digits-{rank}", "training")
            if rank >= lost or stage.server.latency_s == 0:
                stage.reports(f"digits-{rank}-1", f"digits-{rank}-s0", "ready")
            await asyncio.sleep(every_s / ranks)


@stage_test
async def test_of_64_ranks_one_that_is_lost_does_not_wait_for_the_budgets_of_all(stage: Stage) -> None:
    wants(stage, ranks=64)
    stage.announce()
    await stage.run(5)
    lost = stage.server.objects.pop(f"{PODS}/digits-63-1")["metadata"]["uid"]
    stage.server.latency_s = 2.0
    stage.world.jobs.memo("job").budgets = None  # to be looked at again
    await stage.run(3)
    stage.world.pods.remove(("default", "digits-63-1"), lost)
    await stage.run(27)
    assert f"{PODS}/digits-63-2" in stage.server.objects
