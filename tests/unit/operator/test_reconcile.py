"""What the operator asks of an API server that refuses: seldom, and the same thing once."""

import asyncio
import json
from typing import Any, cast

import pytest
from understudy_contract.events import EventReason
from understudy_contract.lease import encode
from understudy_contract.names import Annotation, Label, Rank, Term
from understudy_contract.reports import Heartbeat, Notice, Phase, Release
from understudy_kube.client import Api, ApiError, Conflict, Forbidden, ServerError, Unreachable
from understudy_kube.informer import Identity
from understudy_operator.core.patches import raise_term
from understudy_operator.observe import observe
from understudy_operator.ranks import Ranks
from understudy_operator.reconcile import LANES

from tests.unit.operator import virtual
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


async def both_at_work(stage: Stage) -> None:
    """Let the primary train, and the redundant pod be ready, on nodes of their own."""
    await stage.run(1)
    for pod, node in ("digits-0-0", "a"), ("digits-0-1", "b"):
        stage.runs(pod, node)
    stage.reports("digits-0-0", "digits-0", "training")
    stage.reports("digits-0-1", "digits-0-s0", "ready")
    await stage.run(1)


def wants(stage: Stage, *, generation: int = 1, **spec: Any) -> None:
    """Let the user want something else of the job; nobody hears of it yet."""
    job = stage.server.objects[JOB]
    meta = {**job["metadata"], "generation": generation}
    stage.server._put(JOB, {**job, "metadata": meta, "spec": {**job["spec"], **spec}})


def vanishes(stage: Stage, pod: str) -> None:
    """Let a pod be gone, and the watch tell of it."""
    gone = stage.server.objects.pop(f"{PODS}/{pod}")
    stage.world.pods.remove(("default", pod), gone["metadata"]["uid"])


@stage_test
async def test_a_job_is_brought_up_and_then_left_alone(stage: Stage) -> None:
    first = await stage.run(1)
    assert (first["TRY"], first["POST pods"], first["POST leases"]) == (1, 2, 2)
    later = await stage.run(MINUTE)
    assert later.total() <= 3, f"pods that are not scheduled yet, and nothing else: {later}"


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


@stage_test
async def test_a_status_that_is_refused_without_end_does_not_spin(stage: Stage) -> None:
    conflict = Conflict(409, "Conflict", "the status has been changed")
    with refusing(stage, lambda verb, path: conflict if verb == "STATUS" else None):
        asked = await stage.run(5 * MINUTE)
    assert asked["STATUS"] < 60


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


@stage_test
async def test_no_right_is_given_to_a_lease_that_is_not_the_jobs(stage: Stage) -> None:
    foreign = {"metadata": {"name": "digits-0", "uid": "other", "namespace": "default"}, "spec": {}}
    stage.server._put(f"{LEASES}/digits-0", foreign)
    wants(stage, ranks=2)
    stage.announce()
    await stage.run(MINUTE)
    assert _granted(stage) == [["digits-1", "digits-1-s0"]]
    assert stage.condition("Training")["reason"] == "NameTaken"
    del stage.server.objects[f"{LEASES}/digits-0"]
    await stage.run(MINUTE)
    assert min(_granted(stage)) == ["digits-0", "digits-0-s0", "digits-1", "digits-1-s0"]


def _granted(stage: Stage) -> list[list[str]]:
    """The Leases that each Role lets workers renew; each has its binding."""
    roles = {path: body for path, body in stage.server.objects.items() if "/roles/" in path}
    assert all(path.replace("/roles/", "/rolebindings/") in stage.server.objects for path in roles)
    return [role["rules"][0]["resourceNames"] for role in roles.values()]


@stage_test
async def test_budgets_that_are_not_wanted_are_removed_and_then_asked_about_no_more(stage: Stage) -> None:
    await stage.run(1)
    assert len(stage.budgets()) == 1
    wants(stage, generation=2, redundancy=0)
    stage.announce()
    await stage.run(1)
    assert stage.budgets() == []
    reads: list[str] = []

    def note(verb: str, path: str) -> None:
        reads.extend([path] if verb == "GET" else [])

    with refusing(stage, note):
        await stage.run(11 * MINUTE)
    assert any("/roles/" in path for path in reads), "the other children are made sure of"
    assert not any("/poddisruptionbudgets/" in path for path in reads)


@stage_test
async def test_budgets_that_were_made_before_one_was_refused_are_removed_when_none_is_wanted(stage: Stage) -> None:
    for generation, redundancy in enumerate((0, 1, 0), 1):
        wants(stage, generation=generation, ranks=3, redundancy=redundancy)
        stage.announce()
        with refusing(stage, lambda verb, _: full(verb, "") if len(stage.budgets()) == 2 else None):
            await stage.run(3)
        assert len(stage.budgets()) == 2 * redundancy


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
async def test_a_child_that_was_deleted_is_made_again_within_minutes(stage: Stage) -> None:
    await stage.run(1)
    role = next(path for path in stage.server.objects if "/roles/" in path)
    del stage.server.objects[role]
    asked = await stage.run(11 * MINUTE)
    assert role in stage.server.objects
    assert asked["TRY"] == 0, "pods exist: a trial would ask for room that they fill"


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


@stage_test
async def test_a_pod_whose_name_is_taken_by_a_stranger_gets_the_next_number(stage: Stage) -> None:
    stage.server._put(f"{PODS}/digits-0-0", {"metadata": {"name": "digits-0-0", "namespace": "default", "uid": "old"}})
    await stage.run(MINUTE)
    made = {path for path in stage.server.objects if path.startswith(PODS)}
    assert {f"{PODS}/digits-0-0", f"{PODS}/digits-0-1"} < made and len(made) == 3


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
