"""The informer against a real API server, with the connection cut by a proxy between them."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import urlsplit

import pytest
from understudy_contract.lease import LeaseObject, LeaseRecord
from understudy_kube.client import Api, Credentials
from understudy_kube.informer import Informer

pytestmark = pytest.mark.cluster


class Proxy:
    """Passes bytes on until it is cut; a cut lasts until `heal`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._up = True
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        await self._server.wait_closed()

    def cut(self) -> None:
        self._up = False
        for writer in self._writers:
            writer.transport.abort()

    def heal(self) -> None:
        self._up = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


class Seen:
    """What the informer reported, and a way to wait for it."""

    def __init__(self) -> None:
        self.changes: list[tuple[LeaseRecord | None, LeaseRecord | None]] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, old: LeaseRecord | None, new: LeaseRecord | None) -> None:
        self.changes.append((old, new))
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(condition)


@asynccontextmanager
async def informing(api: Api, namespace: str, seen: Seen) -> AsyncIterator[Informer[LeaseRecord]]:
    informer = Informer(
        api,
        path(namespace),
        kind=LeaseObject,
        to_record=LeaseObject.record,
        on_change=seen,
        params={"labelSelector": "t=i"},
    )
    task = asyncio.ensure_future(informer.run())
    try:
        async with asyncio.timeout(30):
            await informer.synced.wait()
        yield informer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def path(namespace: str, name: str = "") -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases" + (f"/{name}" if name else "")


async def create(api: Api, namespace: str, name: str) -> bytes:
    return await api.post(
        path(namespace),
        json.dumps(
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "labels": {"t": "i"}}}
        ).encode(),
    )


async def hold(api: Api, namespace: str, name: str, holder: str) -> bytes:
    return await api.merge_patch(path(namespace, name), json.dumps({"spec": {"holderIdentity": holder}}).encode())


async def test_adds_changes_and_deletes_are_reported(api: Api, namespace: str) -> None:
    await create(api, namespace, "before")
    seen = Seen()
    async with informing(api, namespace, seen) as informer:
        assert set(informer.records) == {(namespace, "before")}
        await create(api, namespace, "after")
        await seen.until(lambda: (namespace, "after") in informer.records)
        await hold(api, namespace, "after", "pod-1")
        await seen.until(lambda: informer.records[namespace, "after"].holder == "pod-1")
        assert informer.contact.since(60) < math.inf
        await api.delete(path(namespace, "before"))
        await seen.until(lambda: (namespace, "before") not in informer.records)
    old, new = seen.changes[-1]
    assert old is not None and old.name == "before" and new is None


async def test_what_happened_behind_a_cut_connection_is_reported_afterwards(
    api: Api, credentials: Credentials, namespace: str
) -> None:
    server = urlsplit(credentials.server)
    assert server.hostname
    async with Proxy(server.hostname, server.port or 443) as proxy:
        through = Credentials(
            f"https://127.0.0.1:{proxy.port}",
            credentials.ssl_context,
            token=credentials.token(),
            server_name=server.hostname,
        )
        for name in ("stays", "goes", "remade"):
            await create(api, namespace, name)
        seen = Seen()
        async with Api(through) as cut_api, informing(cut_api, namespace, seen) as informer:
            remade = informer.records[namespace, "remade"].uid
            proxy.cut()
            await api.delete(path(namespace, "goes"))
            await api.delete(path(namespace, "remade"))
            await create(api, namespace, "remade")
            await create(api, namespace, "comes")
            proxy.heal()
            await seen.until(lambda: (namespace, "comes") in informer.records)
            assert {name for _, name in informer.records} == {"stays", "remade", "comes"}
            assert informer.records[namespace, "remade"].uid != remade
        gone = [old.name for old, new in seen.changes if old is not None and new is None]
        assert sorted(gone) == ["goes", "remade"]


async def test_an_own_write_is_known_at_once_and_its_late_echo_changes_nothing(api: Api, namespace: str) -> None:
    await create(api, namespace, "own")
    seen = Seen()
    async with informing(api, namespace, seen) as informer:
        first = await hold(api, namespace, "own", "pod-1")
        second = await hold(api, namespace, "own", "pod-2")
        informer.upsert(second)
        assert informer.records[namespace, "own"].holder == "pod-2"
        informer.upsert(first)
        assert informer.records[namespace, "own"].holder == "pod-2"
        await create(api, namespace, "marker")
        await seen.until(lambda: (namespace, "marker") in informer.records)
        assert informer.records[namespace, "own"].holder == "pod-2"
        await api.delete(path(namespace, "own"))
        await seen.until(lambda: (namespace, "own") not in informer.records)
        informer.upsert(second)
        assert (namespace, "own") not in informer.records
