"""An operator is ready once it could lead, not once it runs; seen on a real socket, before a server that refuses."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from understudy_kube.client import ApiError, Forbidden
from understudy_kube.informer import Key
from understudy_kube.leadership import Leadership
from understudy_kube.workqueue import WorkQueue
from understudy_operator import world as world_module
from understudy_operator.act import Actor
from understudy_operator.app import LEASE, _stand
from understudy_operator.readiness import PATH, serve_readiness
from understudy_operator.reconcile import Reconciler
from understudy_operator.world import World

from tests.unit.operator.stage import Server

SYSTEM = "/apis/coordination.k8s.io/v1/namespaces/understudy-system/leases"
LISTS = (
    "/api/v1/pods",
    "/apis/coordination.k8s.io/v1/leases",
    "/api/v1/persistentvolumeclaims",
    "/api/v1/nodes",
    "/apis/understudy.dev/v1alpha1/trainingjobs",
    SYSTEM,
)


class Refusing(Server):
    """Refuses one list until it is told not to; another operator leads, and its watches tell nothing."""

    def __init__(self, refused: str) -> None:
        super().__init__()
        self.refused, self.twice = refused, asyncio.Event()
        self.refuse = self._refuse
        spec = {"holderIdentity": "another", "leaseTransitions": 0, "leaseDurationSeconds": 5}
        meta = {"name": LEASE, "namespace": "understudy-system", "uid": "lease"}
        self._put(f"{SYSTEM}/{LEASE}", {"metadata": meta, "spec": spec})

    def _refuse(self, verb: str, path: str) -> ApiError | None:
        if (verb, path) != ("LIST", self.refused):
            return None
        if self.asked[path]:
            self.twice.set()
        self.asked[path] += 1
        return Forbidden(403, "Forbidden", f"LIST {path} was answered 403")

    async def watch(self, path: str, *, on_open: Any = None, **_: Any) -> AsyncIterator[bytes]:
        if on_open is not None:
            on_open()
        await asyncio.Event().wait()
        yield b""


async def status(port: int) -> str:
    """Ask as the kubelet does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.split(b" ")[1].decode()


@pytest.mark.parametrize("refused", LISTS)
async def test_one_list_that_is_refused_keeps_an_operator_from_being_ready(
    refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world_module, "FIRST_LIST_PAUSE_S", 0.01)
    server: Any = Refusing(refused)
    queue: WorkQueue[Key] = WorkQueue()
    world = World(server, queue.add)
    reconciler = Reconciler(world, Actor(server, world), queue)
    # By a clock that stands still the other's Lease never expires.
    leadership = Leadership(server, "understudy-system", LEASE, "this", clock=lambda: 0.0)
    async with asyncio.timeout(30), serve_readiness("127.0.0.1", 0, leadership.standing.is_set) as port:
        tasks = [asyncio.create_task(informer.run()) for informer in world.informers]
        tasks.append(asyncio.create_task(_stand(leadership, world, reconciler)))
        try:
            await server.twice.wait()
            assert await status(port) == "503"
            server.refused = ""
            await leadership.standing.wait()
            assert await status(port) == "200", "a follower is ready, too"
            assert server.objects[f"{SYSTEM}/{LEASE}"]["spec"]["holderIdentity"] == "another"
        finally:
            gc.unfreeze()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
