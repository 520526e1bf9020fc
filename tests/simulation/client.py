"""What one process sees of the API server, in place of understudy_kube.client.Api: its methods, and its errors.

A request that is lost may have taken effect; one whose connection had died is sent twice, as the real client does; a
watch is late, breaks, or falls silent.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

import msgspec
from understudy_kube.errors import Gone

from tests.simulation.network import Link, Network
from tests.simulation.request import Request
from tests.simulation.server import parse, refusal
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

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> bytes:
        """See understudy_kube.client."""
        return await self._request("GET", path, timeout_s, lambda: self.server.get(path))

    async def post(self, path: str, body: bytes, *, params: Mapping[str, str] | None = None) -> bytes:
        """See understudy_kube.client."""
        trial = bool(params)
        return await self._request(
            "POST", path, 10.0, lambda: self.server.post(self.process.name, path, body, trial=trial)
        )

    async def delete(self, path: str, *, body: bytes | None = None) -> bytes:
        """See understudy_kube.client."""
        return await self._request("DELETE", path, 10.0, lambda: self.server.delete(self.process.name, path, body))

    async def merge_patch(self, path: str, body: bytes) -> bytes:
        """See understudy_kube.client."""
        return await self._request("PATCH", path, 10.0, lambda: self.server.merge_patch(self.process.name, path, body))

    async def json_patch(self, path: str, body: bytes, *, timeout_s: float = 10.0) -> bytes:
        """See understudy_kube.client."""
        return await self._request(
            "PATCH", path, timeout_s, lambda: self.server.json_patch(self.process.name, path, body)
        )

    async def list_pages(self, path: str, *, params: Mapping[str, str] | None = None) -> AsyncGenerator[bytes, None]:
        """See understudy_kube.client; one page."""
        page = await self.get(path)
        if selector := (params or {}).get("fieldSelector"):
            found = msgspec.json.decode(page)
            name = selector.removeprefix("metadata.name=")
            found["items"] = [item for item in found["items"] if item["metadata"]["name"] == name]
            page = msgspec.json.encode(found)
        yield page

    async def request(self, verb: str, path: str, *, body: bytes, content_type: str = "") -> bytes:
        """See understudy_kube.client: one try."""
        return await (self.post(path, body) if verb == "POST" else self.merge_patch(path, body))

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
        name = params.get("fieldSelector", "").removeprefix("metadata.name=")
        stream = Stream(self.network, self.process, self.link, parse(path)[0])

        def open_stream() -> bytes:
            try:
                missed = self.server.since(path, params.get("resourceVersion", ""), name)
            except Gone as gone:
                if self.network.random.random() < 0.5:
                    raise
                missed = [refusal(gone)]
            stream.open(name, missed)
            return b""

        try:
            await self._request("WATCH", path, 10.0, open_stream)
            self.process.call_later(timeout_s, stream.end)
            if on_open is not None:
                on_open()
            async for line in stream.read():
                yield line
        finally:
            stream.close()

    async def _request(self, verb: str, path: str, timeout_s: float | None, effect: Callable[[], bytes]) -> bytes:
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
