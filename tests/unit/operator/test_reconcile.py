"""What the operator asks of an API server that refuses: seldom, and the same thing once.

The server is a store without validation, garbage collection or controllers, told what to refuse; time is virtual, so
that minutes of retries can be counted. What a real one answers is seen in tests/integration.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from understudy_kube.client import ApiError, Conflict, Forbidden, Invalid, NotFound, Unreachable
from understudy_kube.informer import Key
from understudy_kube.workqueue import WorkQueue
from understudy_operator.act import Actor
from understudy_operator.core.model import Now
from understudy_operator.observe import World
from understudy_operator.reconcile import Reconciler

from tests.unit.operator import virtual

MINUTE = 60.0
JOB = "/apis/understudy.dev/v1alpha1/namespaces/default/trainingjobs/digits"
PODS = "/api/v1/namespaces/default/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
EVERY_LEASE = "/apis/coordination.k8s.io/v1/leases"

Refuse = Callable[[str, str], ApiError | None]


def never(verb: str, path: str) -> ApiError | None:
    """Refuse nothing."""
    return None


class Server:
    """Objects by path. Counts what it is asked; claims are bound when they are made."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 10
        self.asked: Counter[str] = Counter()
        self.refuse: Refuse = never

    def _enter(self, verb: str, path: str) -> None:
        self.asked["SIGN" if (verb, path) == ("GET", EVERY_LEASE) else verb] += 1
        if (error := self.refuse(verb, path)) is not None:
            raise error

    def _put(self, path: str, body: dict[str, Any]) -> bytes:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = body
        return json.dumps(body).encode()

    async def get(self, path: str, *, params: Any = None, timeout_s: float | None = None) -> bytes:
        self._enter("GET", path)
        if params is not None:
            return b"{}"
        if path not in self.objects:
            raise NotFound(404, "NotFound", f"{path} is not there")
        return json.dumps(self.objects[path]).encode()

    async def list_pages(self, path: str, *, params: Any) -> AsyncIterator[bytes]:
        self._enter("LIST", path)
        kind = f"/{path.rpartition('/')[2]}/"
        items = [body for key, body in self.objects.items() if kind in key]
        yield json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}).encode()

    async def post(self, path: str, body: bytes, *, params: Any = None) -> bytes:
        kind = path.rpartition("/")[2]
        self._enter("TRY" if params else f"POST {kind}", path)
        if params:
            return body
        new = json.loads(body)
        key = f"{path}/{new['metadata']['name']}"
        if key in self.objects:
            raise Conflict(409, "AlreadyExists", f"{key} exists")
        new["metadata"].setdefault("uid", f"uid-{self.version}")
        if kind == "persistentvolumeclaims":
            new["status"] = {"phase": "Bound", "accessModes": ["ReadWriteMany"]}
        return self._put(key, new)

    async def merge_patch(self, path: str, body: bytes, *, params: Any = None) -> bytes:
        self._enter("STATUS" if path.endswith("/status") else "PATCH", path)
        path = path.removesuffix("/status")
        if path not in self.objects:
            raise NotFound(404, "NotFound", f"{path} is not there")
        return self._put(path, _merged(self.objects[path], json.loads(body)))

    async def delete(self, path: str, *, body: bytes | None = None) -> bytes:
        self._enter("DELETE", path)
        return json.dumps(self.objects.pop(path)).encode()


def _merged(old: Any, change: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(change, dict):
        return change
    return {
        key: _merged(old.get(key), change[key]) if key in change else old[key]
        for key in {**old, **change}
        if change.get(key, "") is not None
    }


class Stage:
    """One job, the operator's core at work on it, and the server."""

    def __init__(self) -> None:
        self.server = Server()
        loop = asyncio.get_running_loop()
        queue: WorkQueue[Key] = WorkQueue()
        self.world = World(self.server, queue.add, loop.time)  # type: ignore[arg-type]
        epoch = datetime(2026, 1, 1, tzinfo=UTC)
        self.reconciler = Reconciler(
            self.world,
            Actor(self.server, self.world),  # type: ignore[arg-type]
            queue,
            lambda: Now(loop.time(), epoch + timedelta(seconds=loop.time())),
        )
        self.leading: asyncio.Task[None] | None = None
        body = {
            "metadata": {"namespace": "default", "name": "digits", "uid": "job", "resourceVersion": "1"},
            "spec": {"template": {"spec": {"containers": [{"name": "trainer", "command": ["true"]}]}}},
        }
        self.server.objects[JOB] = body
        self.world.leases.contact.opened()
        for informer in self.world.informers:
            informer.synced.set()

    def lead(self) -> None:
        """Let this operator lead from now on."""
        self.leading = asyncio.create_task(self.reconciler.lead())

    async def lose(self) -> None:
        """Let it lead no more."""
        assert self.leading is not None
        self.leading.cancel()
        await asyncio.wait({self.leading})

    def announce(self) -> None:
        """Let kopf tell of the job as it is."""
        self.world.jobs.changed(json.loads(json.dumps(self.server.objects[JOB])))

    def runs(self, pod: str, node: str) -> None:
        """Let a pod run on a node that is Ready."""
        body = self.server.objects[f"{PODS}/{pod}"]
        state = {"name": "trainer", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
        changed = {**body, "spec": {**body["spec"], "nodeName": node}}
        changed["status"] = {"phase": "Running", "containerStatuses": [state]}
        self.world.pods.upsert(self.server._put(f"{PODS}/{pod}", changed))
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.server.version += 1
        meta = {"name": node, "uid": node, "resourceVersion": str(self.server.version)}
        self.world.nodes.upsert(json.dumps({"metadata": meta, "status": ready}).encode())

    def reports(self, pod: str, lease: str, phase: str) -> None:
        """Let a pod renew its Lease; the watch hears of it."""
        body = self.server.objects[f"{LEASES}/{lease}"]
        beat = {"pod": pod, "term": body["spec"]["leaseTransitions"], "phase": phase}
        beat |= {"checkpoint" if phase == "training" else "loaded": {"term": 1, "step": 0, "digest": "d"}}
        change = {
            "metadata": {"annotations": {"understudy.dev/heartbeat": json.dumps(beat)}},
            "spec": {"renewTime": f"2026-01-01T00:00:00.{self.server.version:06}Z"},
        }
        self.world.leases.contact.heard()
        self.world.leases.upsert(self.server._put(f"{LEASES}/{lease}", _merged(body, change)))

    async def run(self, seconds: float) -> Counter[str]:
        """Let time pass; return what was asked of the server meanwhile."""
        before = Counter(self.server.asked)
        tasks = [asyncio.create_task(self.reconciler.run()), asyncio.create_task(self.world.keep_contact())]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return self.server.asked - before

    @property
    def status(self) -> dict[str, Any]:
        """The job's status."""
        found = self.server.objects[JOB].get("status", {})
        assert isinstance(found, dict)
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """One condition of the job."""
        found: list[dict[str, Any]] = self.status["conditions"]
        return next(c for c in found if c["type"] == kind)


@contextmanager
def refusing(stage: Stage, refuse: Refuse) -> Iterator[None]:
    """Refuse requests for a while."""
    stage.server.refuse = refuse
    try:
        yield
    finally:
        stage.server.refuse = never


def quota(verb: str, path: str) -> ApiError | None:
    """Admit no pod, but every trial."""
    if verb != "POST pods":
        return None
    return Forbidden(403, "Forbidden", f"POST {path} was answered 403: exceeded quota: pods")


def full(verb: str, path: str) -> ApiError | None:
    """Admit nothing but Events, pods and Leases, whether it exists or not, as a full quota does."""
    if not verb.startswith("POST ") or verb.split()[1] in ("events", "pods", "leases"):
        return None
    return Forbidden(403, "Forbidden", f"{verb} {path} was answered 403: exceeded quota")


def template(verb: str, path: str) -> ApiError | None:
    """Refuse the template."""
    return Invalid(422, "Invalid", f'POST {path} was answered 422: unknown field "imagee"') if verb == "TRY" else None


def unreachable(verb: str, path: str) -> ApiError | None:
    """Answer nothing."""
    return Unreachable(f"{verb} {path} had no answer")


def stale(verb: str, path: str) -> ApiError | None:
    """Say to every compare-and-set that it came too late."""
    return Conflict(409, "Conflict", f"{path} has changed") if verb == "PATCH" else None


def stage_test(test: Callable[[Stage], Any]) -> Callable[[], None]:
    """Run a test's coroutine in virtual time, with a job that was just announced."""

    async def main() -> None:
        stage = Stage()
        stage.announce()
        stage.lead()
        await test(stage)

    def run() -> None:
        virtual.run(main())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


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
    stage.world.jobs.memo("job").unborn.clear()  # as after a restart: the primary is lost, and a promotion due
    with refusing(stage, stale):
        asked = await stage.run(5 * MINUTE)
    assert asked.total() < 200
    assert not stage.world.jobs.memo("job").unborn, "the number was never taken: another pod may get it"


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
    memo.unborn.add("digits-0-7")
    await stage.lose()
    stage.lead()
    again = await stage.run(1)
    assert again["LIST"] == 2
    assert (first["TRY"], again["TRY"]) == (1, 0), "pods exist"
    assert stage.world.jobs.memo("job") is not memo
    assert not stage.world.jobs.memo("job").unborn


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
    assert "rolebindings" in kinds, "the last of the children that never change, all made by one action"
    assert not kinds & {"pods", "leases"}
    running.cancel()
