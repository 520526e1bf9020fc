"""The operator's whole process before an API server that refuses, in virtual time.

The server is a store without validation, garbage collection or controllers, told what to refuse; time is virtual, so
that minutes of retries can be counted. What a real one answers is seen in tests/integration.
"""

import asyncio
import json
import operator
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from understudy_kube.client import ApiError, Conflict, Forbidden, Invalid, NotFound, ServerError, Unreachable
from understudy_kube.informer import Key
from understudy_kube.workqueue import WorkQueue
from understudy_operator.act import Actor
from understudy_operator.core.model import Now
from understudy_operator.reconcile import Reconciler
from understudy_operator.world import World

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
        self.latency_s = 0.0
        """From a call to its effect."""

    async def _enter(self, verb: str, path: str) -> None:
        self.asked["SIGN" if (verb, path) == ("GET", EVERY_LEASE) else verb] += 1
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if (error := self.refuse(verb, path)) is not None:
            raise error

    def _put(self, path: str, body: dict[str, Any]) -> bytes:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = body
        return json.dumps(body).encode()

    async def get(self, path: str, *, params: Any = None, timeout_s: float | None = None) -> bytes:
        await self._enter("GET", path)
        if params is not None:
            return b"{}"
        if path not in self.objects:
            raise NotFound(404, "NotFound", f"{path} is not there")
        return json.dumps(self.objects[path]).encode()

    async def list_pages(self, path: str, *, params: Any = None) -> AsyncIterator[bytes]:
        await self._enter("LIST", path)
        kind = f"/{path.rpartition('/')[2]}/"
        items = [body for key, body in self.objects.items() if kind in key]
        yield json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}).encode()

    async def post(self, path: str, body: bytes, *, params: Any = None) -> bytes:
        kind = path.rpartition("/")[2]
        await self._enter("TRY" if params else f"POST {kind}", path)
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
        await self._enter("STATUS" if path.endswith("/status") else "PATCH", path)
        path = path.removesuffix("/status")
        if path not in self.objects:
            raise NotFound(404, "NotFound", f"{path} is not there")
        change, stands = json.loads(body), self.objects[path]["metadata"]["resourceVersion"]
        if change.get("metadata", {}).get("resourceVersion") not in (None, "", stands):
            raise Conflict(409, "Conflict", f"{path} has been changed")
        return self._put(path, _merged(self.objects[path], change))

    async def json_patch(self, path: str, body: bytes, *, timeout_s: float | None = None) -> bytes:
        await self._enter("PATCH", path)
        if path not in self.objects:
            raise NotFound(404, "NotFound", f"{path} is not there")
        new = deepcopy(self.objects[path])
        for change in json.loads(body):
            *way, field = [part.replace("~1", "/") for part in change["path"].split("/")[1:]]
            where = reduce(operator.getitem, way, new)
            if change["op"] == "test" and where.get(field) != change["value"]:
                raise Invalid(422, "Invalid", f"{path}: the test of {change['path']} failed")
            where[field] = change["value"]
        return self._put(path, new)

    async def delete(self, path: str, *, body: bytes | None = None) -> bytes:
        await self._enter("DELETE", path)
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
        self.world.take_job(json.dumps(self.server.objects[JOB]).encode())

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

    def releases(self, lease: str, **notes: str) -> None:
        """Let the holder of a Lease say that its trainer has stalled, and more with it; the watch hears of it."""
        body = self.server.objects[f"{LEASES}/{lease}"]
        term = body["spec"]["leaseTransitions"]
        released = json.dumps({"term": term, "reason": "Stalled", "exitCode": 137, "message": "no progress"})
        change = {"metadata": {"annotations": {"understudy.dev/released": released, **notes}}}
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

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods that there are, by name."""
        return {path.rpartition("/")[2]: body for path, body in self.server.objects.items() if path.startswith(PODS)}

    def events(self) -> list[dict[str, Any]]:
        """The Events that were posted."""
        return [body for path, body in self.server.objects.items() if "/events/" in path]

    def budgets(self) -> list[str]:
        """The paths of the PodDisruptionBudgets that there are."""
        return [path for path in self.server.objects if "/poddisruptionbudgets/" in path]

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


def webhook(verb: str, path: str) -> ApiError | None:
    """Answer each creation of a pod as where an admission webhook is down."""
    if verb not in ("POST pods", "TRY"):
        return None
    words = 'Internal error occurred: failed calling webhook "sidecar-injector.mesh.io": connection refused'
    return ServerError(500, "InternalError", f"{verb} {path} was answered 500: {words}")


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
