"""What the API server refuses is told once, and asked for seldom."""

import pytest
from understudy_contract.names import Label
from understudy_kube.client import Conflict, ServerError, Unreachable

from tests.unit.operator import virtual
from tests.unit.operator.moves import both_at_work
from tests.unit.operator.stage import (
    JOB,
    LEASES,
    MINUTE,
    PODS,
    Refuse,
    Stage,
    full,
    quota,
    refusing,
    stage_test,
    stale,
    template,
    unreachable,
    webhook,
)


@stage_test
async def test_a_quota_that_admits_no_pod_is_told_once_and_tried_every_five_seconds(stage: Stage) -> None:
    with refusing(stage, quota):
        await stage.run(10)
        since = stage.condition("Training")
        assert (since["reason"], "exceeded quota" in since["message"]) == ("Refused", True)
        asked = await stage.run(5 * MINUTE)
        assert stage.condition("Training") == since
    assert 50 <= asked["POST pods"] <= 70
    assert (asked["STATUS"], asked["POST events"], asked["TRY"]) == (0, 0, 0)
    await stage.run(6)
    assert stage.condition("Training")["reason"] == "Starting"
    assert sum(path.startswith(PODS) for path in stage.server.objects) == 2


@stage_test
async def test_a_webhook_that_is_down_is_told_and_holds_up_no_label(stage: Stage) -> None:
    await both_at_work(stage)
    with refusing(stage, webhook):
        stage.releases("digits-0")
        await stage.run(1)
        stage.reports("digits-0-1", "digits-0", "training")
        asked = await stage.run(MINUTE)
        redundant = stage.condition("Redundant")
        assert (redundant["reason"], "failed calling webhook" in redundant["message"]) == ("Refused", True)
        assert asked["POST pods"] <= 15
        roles = {name: body["metadata"]["labels"].get(Label.ROLE) for name, body in stage.pods().items()}
        assert roles == {"digits-0-1": "primary"}, "the former primary, which still ran, was deleted"
    await stage.run(6)
    assert len(stage.pods()) == 2


@stage_test
async def test_a_label_that_is_refused_keeps_no_superseded_pod_alive(stage: Stage) -> None:
    await both_at_work(stage)
    down = ServerError(500, "InternalError", "failed calling webhook")
    with refusing(stage, lambda verb, path: down if verb == "PATCH" and path.startswith(PODS) else None):
        stage.releases("digits-0")
        await stage.run(1)
        stage.reports("digits-0-1", "digits-0", "training")
        await stage.run(6)
        stage.reports("digits-0-1", "digits-0", "training")
        await stage.run(12)
        roles = {name: body["metadata"]["labels"].get(Label.ROLE) for name, body in stage.pods().items()}
    assert "digits-0-0" not in roles
    assert roles["digits-0-1"] == "redundant", "no later label goes ahead of one that is refused"


@stage_test
async def test_a_status_that_is_refused_without_end_does_not_spin(stage: Stage) -> None:
    conflict = Conflict(409, "Conflict", "the status has been changed")
    with refusing(stage, lambda verb, path: conflict if verb == "STATUS" else None):
        asked = await stage.run(5 * MINUTE)
    assert asked["STATUS"] < 60


@stage_test
async def test_a_template_that_is_refused_is_told_once_and_tried_every_five_seconds(stage: Stage) -> None:
    with refusing(stage, template):
        await stage.run(10)
        since = stage.condition("Training")
        assert since["reason"] == "InvalidTemplate"
        asked = await stage.run(5 * MINUTE)
        assert stage.condition("Training") == since
    assert 50 <= asked["TRY"] <= 70
    assert (asked["STATUS"], asked["POST events"], asked["POST pods"]) == (0, 0, 0)


@stage_test
async def test_a_server_that_does_not_answer_is_asked_ever_less(stage: Stage) -> None:
    await stage.run(1)
    stage.server.objects.pop(f"{PODS}/digits-0-0")
    stage.world.pods.remove(("default", "digits-0-0"), stage.world.pods.records["default", "digits-0-0"].metadata.uid)
    with refusing(stage, unreachable):
        asked = await stage.run(5 * MINUTE)
    assert asked.total() < 120, "a look every lease duration, and a retry every 30 s"
    recovered = await stage.run(MINUTE)
    assert recovered["PATCH"] >= 1, "and goes on when it does"


@stage_test
async def test_conflicts_without_end_do_not_spin(stage: Stage) -> None:
    await stage.run(1)
    lost = stage.world.pods.records["default", "digits-0-0"].metadata.uid
    stage.world.pods.remove(("default", "digits-0-0"), lost)
    stage.world.jobs.memo("job").pending_pods.clear()  # as after a restart: the primary is lost, and a promotion due
    with refusing(stage, stale):
        asked = await stage.run(5 * MINUTE)
    assert asked.total() < 200
    assert not stage.world.jobs.memo("job").pending_pods, "the number was never taken: another pod may get it"


@stage_test
async def test_a_job_that_succeeded_with_a_problem_is_at_rest(stage: Stage) -> None:
    with refusing(stage, quota):
        await stage.run(10)
        body = stage.server.objects[JOB]
        stage.server._put(JOB, {**body, "status": {**body["status"], "phase": "Succeeded"}})
        stage.announce()
        await stage.run(1)
        asked = await stage.run(5 * MINUTE)
    assert asked.total() == 0


@stage_test
async def test_a_quota_that_the_job_itself_fills_hinders_nothing(stage: Stage) -> None:
    await stage.run(1)
    with refusing(stage, full):
        await stage.run(11 * MINUTE)
        lost = stage.world.pods.records["default", "digits-0-1"]
        stage.server.objects.pop(f"{PODS}/digits-0-1")
        stage.world.pods.remove(("default", "digits-0-1"), lost.metadata.uid)
        asked = await stage.run(MINUTE)
    assert asked["POST pods"] == 1
    assert f"{PODS}/digits-0-2" in stage.server.objects


@pytest.mark.parametrize(("lease", "kind"), [("digits-0", "Training"), ("digits-0-s0", "Redundant")])
def test_a_lease_that_lost_the_label_by_which_it_is_watched_is_told_until_it_is_back(lease: str, kind: str) -> None:
    async def main() -> None:
        stage = Stage()
        stage.announce()
        stage.lead()
        await stage.run(1)
        stage.runs("digits-0-0", "node-a")
        stage.reports("digits-0-0", "digits-0", "training")
        meta = stage.server.objects[f"{LEASES}/{lease}"]["metadata"]
        del meta["labels"][Label.JOB_UID]
        stage.world.leases.remove(("default", lease), meta["uid"])
        loops = Unreachable("asked without a pause")
        with refusing(stage, lambda verb, path: loops if stage.server.asked.total() > 1000 else None):
            await stage.run(10)
            asked = await stage.run(5 * MINUTE)
        told = stage.condition(kind)
        assert (told["status"], told["reason"]) == ("False", "NameTaken")
        assert f"`kubectl label lease {lease} -n default understudy.dev/job-uid=job`" in told["message"]
        assert 50 <= asked["POST leases"] <= 70
        assert asked["POST events"] == 0
        meta["labels"][Label.JOB_UID] = "job"
        await stage.world.leases.refresh()
        stage.reports("digits-0-0", "digits-0", "training")
        await stage.run(6)
        assert stage.condition(kind)["reason"] != "NameTaken"
        assert stage.server.objects[f"{LEASES}/digits-0"]["spec"]["holderIdentity"] == "digits-0-0"

    virtual.run(main())


@pytest.mark.parametrize("refuse", [quota, template, unreachable, stale], ids=lambda refuse: refuse.__name__)
def test_whatever_is_refused_at_first_the_job_comes_up_afterwards(refuse: Refuse) -> None:
    async def main() -> None:
        stage = Stage()
        stage.announce()
        stage.lead()
        with refusing(stage, refuse):
            await stage.run(5 * MINUTE)
        await stage.run(MINUTE)
        assert sum(path.startswith(PODS) for path in stage.server.objects) == 2

    virtual.run(main())
