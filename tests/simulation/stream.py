"""One open watch: late, in order, silent while its link is cut, broken now and then."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from understudy_kube.errors import ApiError, Unreachable

from tests.simulation.network import Link, Network
from tests.simulation.server import Wanted
from tests.simulation.timeline import Process

BOOKMARK_S = 50.0


class Stream:
    """What the server sends to one watcher."""

    def __init__(self, network: Network, process: Process, link: Link, resource: str) -> None:
        self._network, self._process, self._link = network, process, link
        self._resource = resource
        self._delay_s = network.weather.latency_s
        self._due = 0.0
        self._held: list[bytes] = []
        self._lines: deque[bytes] = deque()
        self._ended: ApiError | bool = False
        self._waiter: asyncio.Future[None] | None = None

    def open(self, wanted: Wanted, missed: list[bytes]) -> None:
        """Be told of these objects from now on; first of what was missed."""
        self._network.server.streams[self._resource][self] = wanted
        self._link.streams[self] = None
        for line in missed:
            self.push(line)
        self._network.timeline.after(BOOKMARK_S, self._bookmark)

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Give what arrives until it has ended; raises what ended it."""
        while True:
            while self._lines:
                yield self._lines.popleft()
            if isinstance(self._ended, ApiError):
                raise self._ended
            if self._ended:
                return
            self._waiter = self._process.create_future()
            await self._waiter

    def push(self, line: bytes) -> None:
        """Send a line on its way; they arrive in order."""
        network = self._network
        if network.random.random() < network.weather.broken:
            self.end(self._broken())
            return
        delay_s = self._delay_s * network.random.uniform(0.5, 1.5)
        self._due = max(self._due, network.timeline.now + delay_s)
        network.timeline.at(self._due, self._arrive, line)

    def end(self, how: ApiError | bool = True) -> None:
        """End it, well or with an error."""
        self.close()
        self._process.post(self._take_end, how)

    def close(self) -> None:
        """Be told of nothing more."""
        self._network.server.streams[self._resource].pop(self, None)
        self._link.streams.pop(self, None)

    def break_if_cut(self) -> None:
        """See Passing."""
        if not self._link.whole:
            self.end(self._broken())

    def flush(self) -> None:
        """See Passing."""
        held, self._held = self._held, []
        for line in held:
            self._process.post(self._take, line)

    def _bookmark(self) -> None:
        if self in self._link.streams:
            version = self._network.server.version
            self.push(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%d"}}}' % version)
            self._network.timeline.after(BOOKMARK_S, self._bookmark)

    def _arrive(self, line: bytes) -> None:
        if not self._link.from_server:
            self._held.append(line)
        else:
            self._process.post(self._take, line)

    def _take(self, line: bytes) -> None:
        self._lines.append(line)
        self._wake()

    def _take_end(self, how: ApiError | bool) -> None:
        self._ended = how
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _broken(self) -> Unreachable:
        return Unreachable(f"WATCH {self._resource} broke")
