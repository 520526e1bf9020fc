"""What one process sees of the API server: late, refused, twice, or never.

`Api` stands in for understudy_kube.client.Api and raises its errors. A request that is lost may have taken effect; one
whose connection had died is sent twice, as the real client does; a watch is late, breaks, or falls silent. Which of it
happens is drawn from `Weather`, and cut `Link`s lose all that passes in their direction.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from random import Random

from understudy_kube.errors import (
    ApiError,
    Forbidden,
    Gone,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)

from tests.simulation.server import Server, parse, refusal
from tests.simulation.timeline import Process, Timeline

BROKEN_AFTER_S = 11.0
"""After so long without an answer the kernel finds a watch's peer dead (client.py: _probe_peer)."""
BOOKMARK_S = 50.0
LATE_WRITES = False
"""Whether a request that its sender has given up may still arrive. Off: a renewal that a release has overtaken would
then take the reported floor back (seed 495), since a renewal does not say which one it follows."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How often a request goes wrong, each as a probability, and how late answers are."""

    refused: float = 0.0
    """429 or 503, without effect."""
    failed: float = 0.0
    """500 after it took effect."""
    lost: float = 0.0
    """No answer; it took effect or not."""
    twice: float = 0.0
    """Carried out, the connection died, and carried out again."""
    denied: float = 0.0
    """401 or 403: tokens rotate, rights come late."""
    broken: float = 0.0
    """A watch breaks at an event."""
    latency_s: float = 0.01
    slow: float = 0.0
    """Takes up to `slow_s`."""
    slow_s: float = 4.0


CALM = Weather()


class Link:
    """The way between one machine and the API server; each direction can be cut."""

    def __init__(self, timeline: Timeline) -> None:
        self.to_server = self.from_server = True
        self.streams: dict[_Stream, None] = {}
        self.listeners: list[Callable[[], None]] = []
        """Told when it is whole again."""
        self._timeline = timeline

    @property
    def whole(self) -> bool:
        """Both directions work."""
        return self.to_server and self.from_server

    def cut(self, *, to_server: bool = True, from_server: bool = True) -> None:
        """Lose what passes in these directions; watches break after a while."""
        self.to_server &= not to_server
        self.from_server &= not from_server
        for stream in list(self.streams):
            self._timeline.after(BROKEN_AFTER_S, stream.break_if_cut)

    def mend(self) -> None:
        """Let everything pass; watches that did not break deliver what they held."""
        self.to_server = self.from_server = True
        for stream in list(self.streams):
            stream.flush()
        for listener in self.listeners:
            listener()


class _Stream:
    """One open watch."""

    def __init__(self, api: "Api", resource: str, delay_s: float) -> None:
        self._api = api
        self._resource = resource
        self._delay_s = delay_s
        self._due = 0.0
        self._held: list[bytes] = []
        self.lines: deque[bytes] = deque()
        self.ended: ApiError | bool = False
        self.waiter: asyncio.Future[None] | None = None

    def push(self, line: bytes) -> None:
        """Send a line on its way; they arrive in order."""
        api = self._api
        if api.random.random() < api.weather.broken:
            self.end(_unreachable("WATCH", self._resource))
            return
        delay_s = self._delay_s * api.random.uniform(0.5, 1.5)
        self._due = max(self._due, api.timeline.now + delay_s)
        api.timeline.at(self._due, self._arrive, line)

    def end(self, how: ApiError | bool = True) -> None:
        """End it, well or with an error."""
        self.close()
        self._api.process.post(self._ended, how)

    def close(self) -> None:
        """Be told of nothing more."""
        self._api.server.streams[self._resource].pop(self, None)
        self._api.link.streams.pop(self, None)

    def break_if_cut(self) -> None:
        if not self._api.link.whole:
            self.end(_unreachable("WATCH", self._resource))

    def flush(self) -> None:
        held, self._held = self._held, []
        for line in held:
            self._api.process.post(self._take, line)

    def bookmark(self, version: Callable[[], int]) -> None:
        if self in self._api.link.streams:
            self.push(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%d"}}}' % version())
            self._api.timeline.after(BOOKMARK_S, self.bookmark, version)

    def _arrive(self, line: bytes) -> None:
        if not self._api.link.from_server:
            self._held.append(line)
        else:
            self._api.process.post(self._take, line)

    def _take(self, line: bytes) -> None:
        self.lines.append(line)
        self._wake()

    def _ended(self, how: ApiError | bool) -> None:
        self.ended = how
        self._wake()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


@dataclass(slots=True)
class Network:
    """What all processes share: the server, and how it is today."""

    server: Server
    timeline: Timeline
    random: Random
    weather: Weather = CALM
    down: bool = False
    """The server answers nobody."""


class Api:
    """The API server, as one process sees it."""

    def __init__(self, network: Network, process: Process, link: Link) -> None:
        self.network = network
        self.server = network.server
        self.timeline = network.timeline
        self.random = network.random
        self.process = process
        self.link = link
        self._countdown = 0
        self._interruption: Callable[[], None] | None = None

    def after_requests(self, count: int, what: Callable[[], None] | None) -> None:
        """Do this as soon as so many more requests have been sent."""
        self._countdown, self._interruption = count, what

    @property
    def weather(self) -> Weather:
        """How it is today."""
        return self.network.weather

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
        yield await self.get(path)

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
        stream = _Stream(self, parse(path)[0], self.weather.latency_s)

        def open_stream() -> bytes:
            try:
                missed = self.server.since(path, params.get("resourceVersion", ""), name)
            except Gone as gone:
                if self.random.random() < 0.5:
                    raise
                missed = [refusal(gone)]
            self.server.streams[stream._resource][stream] = name
            self.link.streams[stream] = None
            for line in missed:
                stream.push(line)
            return b""

        try:
            await self._request("WATCH", path, 10.0, open_stream)
            self.timeline.after(BOOKMARK_S, stream.bookmark, lambda: self.server.version)
            self.process.call_later(timeout_s, stream.end)
            if on_open is not None:
                on_open()
            while True:
                while stream.lines:
                    yield stream.lines.popleft()
                if stream.ended:
                    if isinstance(stream.ended, ApiError):
                        raise stream.ended
                    return
                stream.waiter = self.process.create_future()
                await stream.waiter
        finally:
            stream.close()

    async def _request(self, verb: str, path: str, timeout_s: float | None, effect: Callable[[], bytes]) -> bytes:
        if not self.process.alive:
            raise asyncio.CancelledError
        answer: asyncio.Future[bytes] = self.process.create_future()
        request = _Request(self, verb, path, self.timeline.now + (timeout_s or 10.0), effect, answer)
        request.send()
        if self._countdown:
            self._countdown -= 1
            if not self._countdown and self._interruption is not None:
                self.timeline.after(self.random.uniform(0.0, 2 * self.weather.latency_s), self._interruption)
        return await answer


class _Request:
    """One request on its way there and back."""

    __slots__ = ("_answer", "_api", "_effect", "_path", "_until", "_verb")

    def __init__(
        self, api: Api, verb: str, path: str, until: float, effect: Callable[[], bytes], answer: "asyncio.Future[bytes]"
    ) -> None:
        self._api, self._verb, self._path, self._until = api, verb, path, until
        self._effect, self._answer = effect, answer

    def send(self) -> None:
        """Draw its fate and send it."""
        api, weather, random = self._api, self._api.weather, self._api.random
        draw = random.random() if weather is not CALM else 1.0
        for fate, chance in (
            (self._refuse, weather.refused),
            (self._fail, weather.failed),
            (self._lose, weather.lost),
            (self._repeat, weather.twice),
            (self._deny, weather.denied),
        ):
            if draw < chance:
                api.timeline.after(self._delay(), fate)
                return
            draw -= chance
        api.timeline.after(self._delay(), self._arrive)

    def _arrive(self) -> None:
        if not self._reaches() or (self._answer.done() and not LATE_WRITES):
            return
        answer: bytes | ApiError
        try:
            answer = self._effect()
        except ApiError as error:
            answer = error
        self._reply(answer)

    def _refuse(self) -> None:
        if self._reaches():
            busy = TooManyRequests(429, "TooManyRequests", f"{self._verb} {self._path}: later")
            self._reply(self._api.random.choice([busy, ServerError(503, "", f"{self._verb} {self._path}: not ready")]))

    def _deny(self) -> None:
        if self._reaches():
            stale = Unauthorized(401, "Unauthorized", f"{self._verb} {self._path}: token")
            self._reply(self._api.random.choice([stale, Forbidden(403, "Forbidden", f"{self._verb} {self._path}: no")]))

    def _fail(self) -> None:
        if self._reaches():
            self._take_effect()
            self._reply(ServerError(500, "InternalError", f"{self._verb} {self._path}: etcd timed out"))

    def _lose(self) -> None:
        if self._reaches():
            if self._api.random.random() < 0.5:
                self._take_effect()
            self._time_out()

    def _repeat(self) -> None:
        if self._reaches():
            self._take_effect()
            self._api.timeline.after(self._delay(), self._arrive)

    def _take_effect(self) -> None:
        if self._answer.done() and not LATE_WRITES:
            return
        with contextlib.suppress(ApiError):
            self._effect()

    def _reaches(self) -> bool:
        if self._api.link.to_server and not self._api.network.down:
            return True
        if self._api.link.to_server and self._api.random.random() < 0.5:
            self._reply(_unreachable(self._verb, self._path))  # connection refused
        else:
            self._time_out()
        return False

    def _reply(self, answer: bytes | ApiError) -> None:
        self._api.timeline.after(self._delay(), self._return, answer)

    def _return(self, answer: bytes | ApiError) -> None:
        if not self._api.link.from_server or self._api.timeline.now > self._until:
            self._time_out()
        else:
            self._api.process.post(self._finish, answer)

    def _time_out(self) -> None:
        error = _unreachable(self._verb, self._path)
        self._api.timeline.at(self._until, self._api.process.post, self._finish, error)

    def _finish(self, answer: bytes | ApiError) -> None:
        if self._answer.done():
            return
        if isinstance(answer, ApiError):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)

    def _delay(self) -> float:
        weather, random = self._api.weather, self._api.random
        if weather.slow and random.random() < weather.slow:
            return random.uniform(0.0, weather.slow_s)
        return weather.latency_s * random.uniform(0.2, 1.0)


def _unreachable(verb: str, path: str) -> Unreachable:
    return Unreachable(f"{verb} {path} had no answer")
