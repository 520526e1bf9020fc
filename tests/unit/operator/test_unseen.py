"""What has changed without being seen: nothing is done or written on an old view."""

from typing import cast

import pytest
from understudy_contract.lease import encode
from understudy_contract.names import Annotation, Rank, Term
from understudy_contract.reports import Release
from understudy_kube.client import Api, ApiError, Conflict
from understudy_kube.informer import Identity
from understudy_operator.core.patches import raise_term
from understudy_operator.observe import observe
from understudy_operator.ranks import Ranks
from understudy_operator.reconcile import LANES

from tests.unit.operator import virtual
from tests.unit.operator.moves import both_at_work, vanishes, wants
from tests.unit.operator.stage import (
    JOB,
    LEASES,
    MINUTE,
    Stage,
    refusing,
    stage_test,
    unreachable,
)


@stage_test
async def test_a_status_is_not_written_over_one_that_was_not_seen(stage: Stage) -> None:
    await both_at_work(stage)
    body = stage.server.objects[JOB]
    stage.server._put(JOB, {**body, "status": {**body["status"], "phase": "Succeeded"}})  # by another operator
    stage.reports("digits-0-1", "digits-0-s0", "standby")  # which this one would call Degraded
    asked = await stage.run(1)
    assert asked["STATUS"] >= 1
    assert stage.status["phase"] == "Succeeded"


@stage_test
async def test_no_pod_goes_for_a_suspension_that_was_taken_back_while_the_watch_was_broken(stage: Stage) -> None:
    await both_at_work(stage)
    for generation, suspend in (2, True), (3, False):
        wants(stage, generation=generation, suspend=suspend)
        if suspend:
            stage.announce()
    with refusing(stage, lambda verb, path: unreachable(verb, path) if path == JOB else None):
        asked = await stage.run(3)
    asked += await stage.run(3)
    assert asked["DELETE"] == 0
    assert set(stage.pods()) == {"digits-0-0", "digits-0-1"}


@stage_test
async def test_a_job_that_is_suspended_gets_no_more_of_the_pods_that_were_decided_on_before(stage: Stage) -> None:
    wants(stage, ranks=64)
    stage.announce()
    stage.server.latency_s = 2.0

    def suspend(verb: str, path: str) -> None:
        if verb == "POST pods" and "suspend" not in stage.server.objects[JOB]["spec"]:
            wants(stage, generation=2, suspend=True)
            stage.announce()

    with refusing(stage, suspend):
        asked = await stage.run(2 * MINUTE)
    assert 0 < asked["POST pods"] <= LANES, "those that were under way"


@pytest.mark.parametrize("lost", ["digits-0-0", "digits-0-1"])
def test_a_lease_that_turns_out_to_be_deleted_is_made_anew_before_the_watch_tells_of_it(lost: str) -> None:
    async def main() -> None:
        stage = Stage()
        stage.announce()
        stage.lead()
        await both_at_work(stage)
        del stage.server.objects[f"{LEASES}/digits-0"]
        vanishes(stage, lost)
        await stage.run(1)
        assert f"{LEASES}/digits-0" in stage.server.objects
        stands = stage.server.objects[f"{LEASES}/digits-0"]["spec"]
        assert stands["leaseTransitions"] == 2, "above what status and pods remember"

    virtual.run(main())


@stage_test
async def test_a_term_is_not_raised_over_a_release_that_was_not_seen(stage: Stage) -> None:
    await both_at_work(stage)
    seen = stage.world.leases.records["default", "digits-0"]
    observed = observe(stage.world, ("default", "digits"), 0.0)
    assert observed is not None
    body = stage.server.objects[f"{LEASES}/digits-0"]
    notes = {**body["metadata"]["annotations"], Annotation.RELEASED: encode(Release(seen.term, "Completed", 0))}
    stage.server._put(f"{LEASES}/digits-0", {**body, "metadata": {**body["metadata"], "annotations": notes}})
    raised, memo = raise_term(Rank(0), seen, Term(7)), stage.world.jobs.memo(observed.job.uid)
    with pytest.raises(Conflict):
        await Ranks(cast(Api, stage.server), stage.world).patch(observed.job, raised, memo)
    known = stage.world.leases.records["default", "digits-0"]
    assert (known.term, known.current_release) == (seen.term, Release(seen.term, "Completed", 0))


@stage_test
async def test_nothing_is_made_for_a_job_whose_deletion_nobody_told_of(stage: Stage) -> None:
    await stage.run(1)
    for path in list(stage.server.objects):
        del stage.server.objects[path]
    for informer in (stage.world.pods, stage.world.leases):
        for (namespace, name), record in list(informer.records.items()):  # type: ignore[attr-defined]
            uid = record.uid if informer is stage.world.leases else record.metadata.uid
            informer.remove((namespace, name), uid)
    asked = await stage.run(MINUTE)
    assert {path for path in stage.server.objects if "/events/" not in path} == set()
    assert asked.total() < 20
    assert (await stage.run(MINUTE)).total() == 0


@stage_test
async def test_what_is_under_way_for_a_job_that_goes_is_left_and_nothing_is_remembered_of_it(stage: Stage) -> None:
    def goes(verb: str, path: str) -> ApiError | None:
        if verb == "POST leases":
            stage.world.jobs.forget(Identity("digits", "default", "job"))
        return None

    with refusing(stage, goes):
        asked = await stage.run(MINUTE)
    assert (asked["POST leases"], asked["POST pods"], asked["POST events"], asked["STATUS"]) == (1, 0, 0, 0)
    assert stage.world.jobs.find_memo("job") is None


@stage_test
async def test_a_job_does_not_wait_for_the_failures_of_an_earlier_one_of_its_name(stage: Stage) -> None:
    with refusing(stage, lambda verb, path: unreachable(verb, path) if verb != "LIST" else None):
        await stage.run(5 * MINUTE)
        stage.world.jobs.forget(Identity("digits", "default", "job"))
        await stage.run(MINUTE)
        stage.server.objects[JOB]["metadata"]["uid"] = "another"
        stage.announce()
        asked = await stage.run(1)
    assert asked["GET"] >= 5, "5, 10, 20 ms and so on between the tries"


@stage_test
async def test_a_quiet_watch_is_asked_about_and_a_worker_that_is_silent_all_the_same_is_lost(stage: Stage) -> None:
    pods, leases = stage.world.pods, stage.world.leases
    await stage.run(1)
    for name, lease, phase in (("digits-0-0", "digits-0", "training"), ("digits-0-1", "digits-0-s0", "ready")):
        stage.runs(name, "node-a")
        stage.reports(name, lease, phase)
    for _ in range(5):  # the redundant pod is heard, the primary is not
        await stage.run(3)
        stage.reports("digits-0-1", "digits-0-s0", "ready")
    assert leases.records["default", "digits-0"].holder == "digits-0-1"
    with refusing(stage, unreachable):
        asked = await stage.run(MINUTE)
    assert asked["SIGN"] >= 20, "a quarter of a lease of 10 s"
    assert leases.records["default", "digits-0"].term == 2, "nobody is called silent by who hears nothing"
    assert ("default", "digits-0-1") in pods.records
