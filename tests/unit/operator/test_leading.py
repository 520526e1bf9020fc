"""What a replica does that leads, that does not lead, and that leads again."""

import asyncio
import json
from typing import Any

from tests.unit.operator.stage import (
    JOB,
    LEASES,
    MINUTE,
    PODS,
    Stage,
    _merged,
    refusing,
    stage_test,
    unreachable,
)

SLOT = "digits-0-s0"


@stage_test
async def test_who_does_not_lead_asks_for_nothing_but_a_sign_of_life_and_writes_nothing(stage: Stage) -> None:
    await stage.lose()
    asked = await stage.run(5 * MINUTE)
    assert asked.total() == 0
    assert stage.server.objects.keys() == {JOB}


@stage_test
async def test_who_leads_acts_on_every_job_it_knows_although_nothing_happens_to_it_any_more(stage: Stage) -> None:
    await stage.lose()
    await stage.run(MINUTE)
    stage.lead()
    await stage.run(1)
    assert sum(path.startswith(PODS) for path in stage.server.objects) == 2


@stage_test
async def test_who_leads_again_does_what_a_process_that_was_just_started_does(stage: Stage) -> None:
    first = await stage.run(1)
    memo = stage.world.jobs.memo("job")
    memo.pending_pods["digits-0-7"] += 1
    await stage.lose()
    stage.lead()
    again = await stage.run(1)
    assert again["LIST"] == 3, "jobs, pods and Leases"
    assert (first["TRY"], again["TRY"]) == (1, 0), "pods exist"
    assert stage.world.jobs.memo("job") is not memo
    assert not stage.world.jobs.memo("job").pending_pods


@stage_test
async def test_what_another_did_before_is_known_before_anything_is_done_however_late_the_watches_are(
    stage: Stage,
) -> None:
    """The other gave the rank to a new pod, and made it; the watch has told of the Lease alone, or of neither."""
    await stage.run(1)
    for told in (True, False):
        await stage.lose()
        lease = stage.server.objects[f"{LEASES}/digits-0"]
        number = int(lease["metadata"]["annotations"]["understudy.dev/incarnation"])
        name, term = f"digits-0-{number}", lease["spec"]["leaseTransitions"] + 1
        change = {
            "metadata": {"annotations": {"understudy.dev/incarnation": str(number + 1)}},
            "spec": {"holderIdentity": name, "leaseTransitions": term},
        }
        passed_on = stage.server._put(f"{LEASES}/digits-0", _merged(lease, change))
        pod = json.loads(json.dumps(stage.server.objects[f"{PODS}/{lease['spec']['holderIdentity']}"]))
        pod["metadata"] |= {"name": name, "uid": name, "annotations": {"understudy.dev/term": str(term)}}
        stage.server._put(f"{PODS}/{name}", pod)
        if told:
            stage.world.leases.upsert(passed_on)
        stage.lead()
        await stage.run(5)
        stands = stage.server.objects[f"{LEASES}/digits-0"]["spec"]
        assert (stands["holderIdentity"], stands["leaseTransitions"]) == (name, term)
        assert f"{PODS}/{name}" in stage.server.objects


def losses(stage: Stage) -> list[str]:
    """What was said of redundant pods that are lost."""
    events = [body for path, body in stage.server.objects.items() if "/events/" in path]
    return [event["message"] for event in events if event["reason"] == "RedundantLost"]


async def two_pods_at_work(stage: Stage) -> None:
    """A primary that trains and a redundant pod that is ready."""
    await stage.run(1)
    for pod, lease, phase, node in (("digits-0-0", "digits-0", "training", "a"), ("digits-0-1", SLOT, "ready", "b")):
        stage.runs(pod, node)
        stage.reports(pod, lease, phase)


def vanishes(stage: Stage, pod: str) -> None:
    """Let a pod be gone, and the watch tell of it."""
    gone = stage.server.objects.pop(f"{PODS}/{pod}")
    stage.world.pods.remove(("default", pod), gone["metadata"]["uid"])


@stage_test
async def test_who_leads_next_mourns_no_pod_that_the_one_before_had_only_meant_to_make(stage: Stage) -> None:
    await two_pods_at_work(stage)
    vanishes(stage, "digits-0-1")
    with refusing(stage, lambda verb, path: unreachable(verb, path) if verb == "POST pods" else None):
        await stage.run(1)
    await stage.lose()
    stage.lead()
    await stage.run(3)
    assert f"{PODS}/digits-0-3" in stage.server.objects
    assert losses(stage) == ["Rank 0, redundant: pod digits-0-1 is gone. digits-0-2 takes its place."]


@stage_test
async def test_a_redundant_pod_that_vanishes_before_it_reports_is_told_of(stage: Stage) -> None:
    await stage.run(1)
    vanishes(stage, "digits-0-1")
    await stage.run(3)
    assert losses(stage) == ["Rank 0, redundant: pod digits-0-1 is gone. digits-0-2 takes its place."]


@stage_test
async def test_fewer_redundant_pods_and_then_as_many_as_before_are_no_loss(stage: Stage) -> None:
    await two_pods_at_work(stage)
    for redundancy in (0, 1):
        stage.server.objects[JOB]["spec"]["redundancy"] = redundancy
        stage.server._put(JOB, stage.server.objects[JOB])
        stage.announce()
        await stage.run(3)
        pods = sorted(path.rpartition("/")[2] for path in stage.server.objects if path.startswith(PODS))
        assert pods == ["digits-0-0", "digits-0-2"][: redundancy + 1]
    assert losses(stage) == []


@stage_test
async def test_a_list_that_fails_keeps_who_leads_from_acting_until_it_succeeds(stage: Stage) -> None:
    await stage.lose()
    with refusing(stage, lambda verb, path: unreachable(verb, path) if verb == "LIST" else None):
        stage.lead()
        asked = await stage.run(MINUTE)
        assert not [verb for verb in asked if verb.startswith(("POST", "PATCH"))]
    await stage.run(MINUTE)
    assert sum(path.startswith(PODS) for path in stage.server.objects) == 2


@stage_test
async def test_leading_ends_with_the_action_that_is_under_way_and_begins_no_other(stage: Stage) -> None:
    under_way, may_end = asyncio.Event(), asyncio.Event()
    post = stage.server.post

    async def slow(path: str, body: bytes, *, params: Any = None) -> bytes:
        under_way.set()
        await may_end.wait()
        return await post(path, body, params=params)

    stage.server.post = slow  # type: ignore[method-assign]
    running = asyncio.create_task(stage.reconciler.run())
    await under_way.wait()
    assert stage.leading is not None
    stage.leading.cancel()
    _, pending = await asyncio.wait({stage.leading}, timeout=MINUTE)
    assert pending, "an action is under way"
    may_end.set()
    await asyncio.wait({stage.leading})
    await asyncio.sleep(MINUTE)
    kinds = {path.split("/")[-2] for path in stage.server.objects}
    assert "serviceaccounts" in kinds, "the last of the children that never change, all made by one action"
    assert f"{LEASES}/digits-0" in stage.server.objects, "another action that was under way"
    assert f"{LEASES}/digits-0-s0" not in stage.server.objects, "the one after it"
    assert "pods" not in kinds
    running.cancel()
