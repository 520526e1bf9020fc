"""The number of a pod is given once, and not lost when a write fails."""

import json
from typing import Any

import pytest
from understudy_contract.lease import encode
from understudy_contract.names import Annotation
from understudy_contract.reports import Heartbeat, Phase
from understudy_kube.client import Conflict

from tests.unit.operator.stage import (
    LEASES,
    MINUTE,
    PODS,
    Stage,
    refusing,
    stage_test,
    stale,
)


@stage_test
async def test_a_promotion_that_fails_leaves_its_number_to_the_slot_that_was_given_it(stage: Stage) -> None:
    await stage.run(1)
    lost = stage.world.pods.records["default", "digits-0-0"].metadata.uid
    stage.world.pods.remove(("default", "digits-0-0"), lost)
    pending_pods = stage.world.jobs.memo("job").pending_pods
    pending_pods.clear()
    pending_pods["digits-0-2"] += 1  # a slot is being assigned meanwhile
    with refusing(stage, stale):
        await stage.run(1)
    assert set(stage.world.jobs.memo("job").pending_pods) == {"digits-0-2"}


@stage_test
async def test_a_pod_that_reports_before_the_watch_tells_of_it_is_not_lost_and_a_gone_one_is(stage: Stage) -> None:
    await stage.run(1)
    for transitions, gone in (1, False), (2, True):
        lost = stage.world.pods.records["default", "digits-0-0"].metadata.uid
        beat = Heartbeat(pod="digits-0-0", term=1, phase=Phase.TRAINING, step=3)
        report = {"metadata": {"annotations": {Annotation.HEARTBEAT: encode(beat)}}}
        await stage.server.merge_patch(f"{LEASES}/digits-0", json.dumps(report).encode())
        stage.world.leases.upsert(await stage.server.get(f"{LEASES}/digits-0"))
        stage.server.objects[f"{PODS}/digits-0-0"]["metadata"]["uid"] = "never-seen"
        if gone:
            del stage.server.objects[f"{PODS}/digits-0-0"]
        stage.world.jobs.memo("job").pending_pods["digits-0-0"] += 1  # its creation was not answered
        stage.world.pods.remove(("default", "digits-0-0"), lost)
        await stage.run(1)
        assert stage.server.objects[f"{LEASES}/digits-0"]["spec"]["leaseTransitions"] == transitions
        assert (("default", "digits-0-0") in stage.world.pods.records) is not gone


@stage_test
async def test_a_promotion_that_took_effect_and_was_answered_with_a_conflict_is_no_loss(stage: Stage) -> None:
    await stage.run(1)
    lost = stage.world.pods.records["default", "digits-0-0"].metadata.uid
    stage.world.pods.remove(("default", "digits-0-0"), lost)
    stage.world.jobs.memo("job").pending_pods.clear()
    answered = stage.server.merge_patch

    async def sent_twice(path: str, body: bytes, *, params: Any = None) -> bytes:
        answer = await answered(path, body, params=params)
        if path.startswith(LEASES):
            raise Conflict(409, "Conflict", f"{path} has changed")  # as the second attempt finds
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.server, "merge_patch", sent_twice)
        await stage.run(MINUTE)
    lease = stage.server.objects[f"{LEASES}/digits-0"]["spec"]
    assert lease["leaseTransitions"] == 2
    assert f"{PODS}/{lease['holderIdentity']}" in stage.server.objects


@stage_test
async def test_a_pod_whose_name_is_taken_by_a_stranger_gets_the_next_number(stage: Stage) -> None:
    stage.server._put(f"{PODS}/digits-0-0", {"metadata": {"name": "digits-0-0", "namespace": "default", "uid": "old"}})
    await stage.run(MINUTE)
    made = {path for path in stage.server.objects if path.startswith(PODS)}
    assert {f"{PODS}/digits-0-0", f"{PODS}/digits-0-1"} < made and len(made) == 3
