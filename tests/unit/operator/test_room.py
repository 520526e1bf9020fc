"""Ended pods that are kept for their logs make room for a pod that a quota has refused."""

import json
from typing import Any

from understudy_contract.names import Rank, Role
from understudy_kube.client import ApiError, Forbidden
from understudy_operator.core.room import expendable

from tests.unit.operator.builders import PRIMARY, UNDERSTUDY, Scene, ended
from tests.unit.operator.stage import JOB, LEASES, MINUTE, PODS, Stage, refusing, stage_test

OVER = {"phase": "Failed", "container": ended(1), "role": None}


def names(scene: Scene, rank: int | None = 0) -> list[str]:
    """Name the pods that may go."""
    return [pod.name for pod in expendable(scene.observe(), None if rank is None else Rank(rank))]


class TestWhichGo:
    """The order in which ended pods go."""

    def test_the_oldest_of_the_same_rank_first_then_those_of_others(self) -> None:
        scene = Scene(ranks=2)
        for name in ("digits-1-5", "digits-0-9", "digits-0-10"):
            scene.pod(name, **OVER)
        assert names(scene) == ["digits-0-9", "digits-0-10", "digits-1-5"]
        assert names(scene, 1) == ["digits-1-5", "digits-0-9", "digits-0-10"]

    def test_none_that_may_still_run(self) -> None:
        scene = Scene().pod("digits-0-5", **{**OVER, "phase": "Running"}).pod("digits-0-6", **OVER, deleting_since=1.0)
        assert names(scene) == []

    def test_none_whose_end_has_still_to_be_judged(self) -> None:
        assert names(Scene().pod(PRIMARY, **OVER).pod(UNDERSTUDY, **OVER)) == []

    def test_no_copy_that_somebody_made(self) -> None:
        assert names(Scene().pod("copy-0-5", **OVER)) == []

    def test_one_that_completed_its_rank_goes_last_and_not_at_all_for_another_job(self) -> None:
        scene = Scene(ranks=2).released("digits-1", "Completed")
        scene.pod("digits-1-0", phase="Succeeded", container=ended(0), role=Role.PRIMARY).pod("digits-0-9", **OVER)
        assert names(scene, 1) == ["digits-0-9", "digits-1-0"]
        assert [pod.name for pod in expendable(scene.observe(), None, results=False)] == ["digits-0-9"]

    def test_none_that_a_lost_lease_is_made_anew_from(self) -> None:
        assert names(Scene().gone("digits-0").pod("digits-0-5", **OVER)) == []


def count_quota(stage: Stage, hard: int, *, lag_s: float = 0.0) -> Any:
    """Admit pods as a quota of count/pods does, whose controller counts a removal `lag_s` later."""
    seen: list[tuple[float, int]] = []

    def refuse(verb: str, path: str) -> ApiError | None:
        at = stage.world._clock()
        seen.append((at, len(stage.pods())))
        used = max(count for when, count in seen if when >= at - lag_s)
        if verb not in ("POST pods", "TRY") or used < hard:
            return None
        amounts = f"requested: count/pods=1, used: count/pods={used}, limited: count/pods={hard}"
        return Forbidden(403, "Forbidden", f"{verb} {path} was answered 403: exceeded quota: objects, {amounts}")

    return refuse


def ends(stage: Stage, pod: str, lease: str) -> None:
    """Let a pod fail, and the watch hear of it."""
    body = stage.server.objects[f"{PODS}/{pod}"]
    state = {"name": "trainer", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    changed = {**body, "status": {"phase": "Failed", "containerStatuses": [state]}}
    stage.releases(lease)
    stage.world.pods.upsert(stage.server._put(f"{PODS}/{pod}", changed))


async def fail_over(stage: Stage, old: str, new: str, spare: str) -> None:
    """Let the primary fail, and the redundant pod train on; the next one becomes warm if it was made."""
    ends(stage, old, "digits-0")
    await stage.run(1)
    stage.reports(new, "digits-0", "training")
    await stage.run(10)
    stage.reports(new, "digits-0", "training")
    if spare in stage.pods():
        stage.runs(spare, "a")
        stage.reports(spare, "digits-0-s0", "ready")
        await stage.run(1)


async def both_at_work(stage: Stage) -> None:
    await stage.run(1)
    for pod, node in ("digits-0-0", "a"), ("digits-0-1", "b"):
        stage.runs(pod, node)
    stage.reports("digits-0-0", "digits-0", "training")
    stage.reports("digits-0-1", "digits-0-s0", "ready")
    await stage.run(1)


@stage_test
async def test_ended_pods_that_fill_a_quota_make_room_and_nothing_is_said(stage: Stage) -> None:
    await both_at_work(stage)
    with refusing(stage, count_quota(stage, 3, lag_s=0.3)):
        await fail_over(stage, "digits-0-0", "digits-0-1", "digits-0-2")
        assert sorted(stage.pods()) == ["digits-0-0", "digits-0-1", "digits-0-2"]
        await fail_over(stage, "digits-0-1", "digits-0-2", "digits-0-3")
        assert sorted(stage.pods()) == ["digits-0-1", "digits-0-2", "digits-0-3"]
    assert stage.condition("Redundant")["status"] == "True"
    assert not [event for event in stage.events() if event["reason"] == "Refused"]


@stage_test
async def test_a_quota_that_counts_a_removal_seconds_later_costs_one_log_and_no_more(stage: Stage) -> None:
    await both_at_work(stage)
    with refusing(stage, count_quota(stage, 3, lag_s=3.0)):
        await fail_over(stage, "digits-0-0", "digits-0-1", "digits-0-2")
        await fail_over(stage, "digits-0-1", "digits-0-2", "digits-0-3")
    assert sorted(stage.pods()) == ["digits-0-1", "digits-0-2", "digits-0-3"]


@stage_test
async def test_where_the_job_has_none_the_ended_pods_of_another_make_room(stage: Stage) -> None:
    await both_at_work(stage)
    meta = {"namespace": "default", "name": "other", "uid": "o", "resourceVersion": "1"}
    other = {"metadata": meta, "spec": stage.server.objects[JOB]["spec"], "status": {"phase": "Failed"}}
    stage.server.objects[JOB.replace("digits", "other")] = other
    stage.world.take_job(json.dumps(other).encode())
    labels = {"understudy.dev/job": "other", "understudy.dev/job-uid": "o", "understudy.dev/rank": "0"}
    owned = {"namespace": "default", "labels": labels, "ownerReferences": [{"uid": "o"}]}
    lease = {"metadata": {**owned, "name": "other-0", "uid": "other-0"}, "spec": {"holderIdentity": "other-0-1"}}
    stage.world.leases.upsert(stage.server._put(f"{LEASES}/other-0", lease))
    for name in ("other-0-0", "other-0-1"):
        pod = {"metadata": {**owned, "name": name, "uid": name}, "spec": {}, "status": {"phase": "Failed"}}
        stage.world.pods.upsert(stage.server._put(f"{PODS}/{name}", pod))
    lost = stage.server.objects.pop(f"{PODS}/digits-0-1")
    with refusing(stage, count_quota(stage, 3)):
        stage.world.pods.remove(("default", "digits-0-1"), lost["metadata"]["uid"])
        await stage.run(10)
    assert sorted(stage.pods()) == ["digits-0-0", "digits-0-2", "other-0-1"]


@stage_test
async def test_where_no_ended_pod_is_left_the_quota_is_named_with_what_to_raise(stage: Stage) -> None:
    await both_at_work(stage)
    lost = stage.server.objects.pop(f"{PODS}/digits-0-1")
    with refusing(stage, count_quota(stage, 1)):
        stage.world.pods.remove(("default", "digits-0-1"), lost["metadata"]["uid"])
        await stage.run(MINUTE)
        stage.reports("digits-0-0", "digits-0", "training")
        await stage.run(1)
        condition = stage.condition("Redundant")
    assert condition["reason"] == "Refused" and "limited: count/pods=1" in condition["message"]
    assert list(stage.pods()) == ["digits-0-0"] and f"{LEASES}/digits-0" in stage.server.objects


@stage_test
async def test_a_quota_that_counts_no_ended_pod_costs_no_log(stage: Stage) -> None:
    words = "exceeded quota: running, requested: pods=1, used: pods=3, limited: pods=3"
    full = Forbidden(403, "Forbidden", f"POST pods was answered 403: {words}")
    await both_at_work(stage)
    with refusing(stage, lambda verb, path: full if verb == "POST pods" else None):
        await fail_over(stage, "digits-0-0", "digits-0-1", "digits-0-2")
        assert sorted(stage.pods()) == ["digits-0-0", "digits-0-1"]
        assert words in stage.condition("Redundant")["message"]


@stage_test
async def test_a_trial_of_the_template_finds_room_too(stage: Stage) -> None:
    await both_at_work(stage)
    ends(stage, "digits-0-1", "digits-0-s0")
    ends(stage, "digits-0-0", "digits-0")
    await stage.lose()
    with refusing(stage, count_quota(stage, 2)):
        stage.lead()
        await stage.run(MINUTE)
    assert [name for name in stage.pods() if name not in ("digits-0-0", "digits-0-1")]
