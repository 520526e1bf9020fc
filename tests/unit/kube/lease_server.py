"""An API server that keeps one Lease, in virtual time; told whom it does not answer, and what to refuse.

What a real one answers is seen in tests/integration/operator.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from understudy_kube.client import Conflict, NotFound, Unreachable

NAME = "operator"
ANSWERS_WITHIN_S = 0.01
WATCH_LAG_S = 0.02


class Server:
    """The Lease, its watchers, and what was asked by whom."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 10
        self.changed = asyncio.Condition()
        self.history: list[tuple[int, str, dict[str, Any]]] = []
        self.asked: Counter[tuple[str, str]] = Counter()
        self.entered = asyncio.Event()
        """Set by each request, before it is answered."""
        self.cut_off: set[str] = set()
        """Clients that get no answer."""
        self.deaf: set[str] = set()
        """Clients whose watch tells nothing."""
        self.answers_are_lost = False

    @property
    def holder(self) -> str:
        return str(self.lease["spec"].get("holderIdentity", "")) if self.lease else ""

    async def put(self, kind: str, lease: dict[str, Any]) -> bytes:
        self.version += 1
        lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}
        self.lease = None if kind == "DELETED" else lease
        self.history.append((self.version, kind, lease))
        async with self.changed:
            self.changed.notify_all()
        return json.dumps(lease).encode()

    async def delete(self) -> None:
        """Let somebody delete the Lease."""
        assert self.lease is not None
        await self.put("DELETED", self.lease)

    async def touch(self, **spec: Any) -> None:
        """Let somebody write into the Lease."""
        assert self.lease is not None
        await self.put("MODIFIED", {**self.lease, "spec": {**self.lease["spec"], **spec}})


class Client:
    """One process's connection to the server: what Leadership needs of an Api."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name

    async def _enter(self, verb: str) -> None:
        self._server.asked[self._name, verb] += 1
        self._server.entered.set()
        await asyncio.sleep(ANSWERS_WITHIN_S)
        if self._name in self._server.cut_off:
            await asyncio.sleep(10)
            raise Unreachable(f"{verb} had no answer within 10 s")

    async def get(self, path: str) -> bytes:
        await self._enter("GET")
        if self._server.lease is None:
            raise NotFound(404, "NotFound", f"{path} is not there")
        return json.dumps(self._server.lease).encode()

    async def request(self, method: str, path: str, *, body: bytes, content_type: str = "") -> bytes:
        await self._enter(method)
        sent, lease = json.loads(body), self._server.lease
        if method == "POST":
            if lease is not None:
                raise Conflict(409, "AlreadyExists", f"{path} exists")
            sent["metadata"]["uid"] = f"uid-{self._server.version}"
            answer = await self._server.put("ADDED", sent)
        else:
            if lease is None:
                raise NotFound(404, "NotFound", f"{path} is not there")
            if lease["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"]:
                raise Conflict(409, "Conflict", f"{path} has changed")
            answer = await self._server.put("MODIFIED", {**lease, "spec": {**lease["spec"], **sent["spec"]}})
        if self._server.answers_are_lost:
            raise Unreachable(f"{method} {path} was carried out, and its answer lost")
        return answer

    async def list_pages(self, path: str, *, params: Any = None) -> AsyncIterator[bytes]:
        await self._enter("LIST")
        items = [] if self._server.lease is None else [self._server.lease]
        yield json.dumps({"metadata": {"resourceVersion": str(self._server.version)}, "items": items}).encode()

    async def watch(
        self, path: str, *, params: Any, timeout_s: float, silence_s: float, on_open: Callable[[], None]
    ) -> AsyncIterator[bytes]:
        await self._enter("WATCH")
        on_open()
        position = int(params["resourceVersion"])

        def something_to_tell() -> bool:
            return self._server.version > position and self._name not in self._server.deaf

        while True:
            async with self._server.changed:
                await self._server.changed.wait_for(something_to_tell)
            await asyncio.sleep(WATCH_LAG_S)
            for version, kind, lease in [event for event in self._server.history if event[0] > position]:
                yield json.dumps({"type": kind, "object": lease}).encode()
                position = version


class Wall:
    """A wall clock that can be set, and can stand still."""

    def __init__(self) -> None:
        self.offset = timedelta()
        self.stands_still = False

    def __call__(self) -> datetime:
        seconds = 0.0 if self.stands_still else asyncio.get_running_loop().time()
        return datetime(2026, 1, 1, tzinfo=UTC) + self.offset + timedelta(seconds=seconds)
