"""What one process sees of the API server, in place of understudy_kube.client.Api: its methods, and its errors.

A request that is lost may have taken effect; one whose connection had died is sent twice, as the real client does; a
watch is late, breaks, or falls silent.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial

from understudy_kube.client import JSON_PATCH, MERGE_PATCH
from understudy_kube.errors import Gone

from tests.simulation.network import Link, Network
from tests.simulation.request import Request
from tests.simulation.server import Wanted, parse, refusal
from tests.simulation.stream import Stream
from tests.simulation.timeline import Process


class Api:
    """The API server, as one process sees it."""

    def __init__(self, network: Network, process: Process, link: Link) -> None:
        self.network = network
        self.server = network.server
        self.process = process
        self.link = link
        self._countdown = 0
        self._interruption: Callable[[], None] | None = None

    def after_requests(self, count: int, what: Callable[[], None] | None) -> None:
        """Do this as soon as so many more requests have been sent."""
        self._countdown, self._interruption = count, what

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, timeout_s: float | None = None) -> bytes:
        """See understudy_kube.client."""
        return await self.request("GET", path, params=params, timeout_s=timeout_s)

    async def post(self, path: str, body: bytes, *, params: Mapping[str, str] | None = None) -> bytes:
        """See understudy_kube.client."""
        return await self.request("POST", path, body=body, params=params)

    async def delete(self, path: str, *, body: bytes | None = None) -> bytes:
        """See understudy_kube.client."""
        return await self.request("DELETE", path, body=body)

    async def merge_patch(self, path: str, body: bytes) -> bytes:
        """See understudy_kube.client."""
        return await self.request("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def json_patch(self, path: str, body: bytes, *, timeout_s: float | None = None) -> bytes:
        """See understudy_kube.client."""
        return await self.request("PATCH", path, body=body, content_type=JSON_PATCH, timeout_s=timeout_s)

    async def list_pages(self, path: str, *, params: Mapping[str, str] | None = None) -> AsyncGenerator[bytes, None]:
        """See understudy_kube.client; one page."""
        yield await self.get(path, params=params)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "",
        params: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """See understudy_kube.client."""
        who, server = self.process.name, self.server
        effect: Callable[[], bytes]
        match method:
            case "GET":
                effect = partial(server.get, path, Wanted.of(params))
            case "POST":
                effect = partial(server.post, who, path, body or b"", trial="dryRun" in (params or {}))
            case "DELETE":
                effect = partial(server.delete, who, path, body)
            case _:
                patch = server.json_patch if content_type == JSON_PATCH else server.merge_patch
                effect = partial(patch, who, path, body or b"")
        return await self._send(method, path, timeout_s, effect)

    async def watch(
        self,
        path: str,
        *,
        params: Mapping[str, str],
        timeout_s: float,
        silence_s: float,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """See understudy_kube.client."""
        wanted = Wanted.of(params)
        stream = Stream(self.network, self.process, self.link, parse(path)[0])

        def open_stream() -> bytes:
            try:
                missed = self.server.since(path, params.get("resourceVersion", ""), wanted)
            except Gone as gone:
                if self.network.random.random() < 0.5:
                    raise
                missed = [refusal(gone)]
            stream.open(wanted, missed)
            return b""

        try:
            await self._send("WATCH", path, 10.0, open_stream)
            self.process.call_later(timeout_s, stream.end)
            if on_open is not None:
                on_open()
            async for line in stream.read():
                yield line
        finally:
            stream.close()

    async def _send(self, verb: str, path: str, timeout_s: float | None, effect: Callable[[], bytes]) -> bytes:
        if not self.process.alive:
            raise asyncio.CancelledError
        request = Request(self.network, self.process, self.link, f"{verb} {path}", timeout_s or 10.0, effect)
        request.send()
        if self._countdown:
            self._countdown -= 1
            if not self._countdown and self._interruption is not None:
                network = self.network
                network.timeline.after(network.random.uniform(0.0, 2 * network.weather.latency_s), self._interruption)
        return await request.answer
