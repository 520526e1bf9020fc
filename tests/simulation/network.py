"""Between the processes and the API server: how it is today, and the ways that can be cut."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tests.simulation.server import Server
from tests.simulation.timeline import Timeline

BROKEN_AFTER_S = 11.0
"""After so long without an answer the kernel finds a watch's peer dead (understudy_kube/client.py: _probe_peer)."""


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


@dataclass(slots=True)
class Network:
    """What all processes share: the server, and how it is today."""

    server: Server
    timeline: Timeline
    random: Random
    weather: Weather = CALM
    down: bool = False
    """The server answers nobody."""
    again: bool = False
    """The request that is being carried out was carried out before."""


class Passing(Protocol):
    """An open watch, as a link sees it."""

    def break_if_cut(self) -> None:
        """Break, unless the link was mended meanwhile."""

    def flush(self) -> None:
        """Deliver what could not pass."""


class Link:
    """The way between one machine and the API server; each direction can be cut."""

    def __init__(self, timeline: Timeline) -> None:
        self.to_server = self.from_server = True
        self.streams: dict[Passing, None] = {}
        self.listeners: list[Callable[[], None]] = []
        """Told when it is whole again."""
        self.cut_at = self.mended_at = -math.inf
        """When it was cut and mended last."""
        self._timeline = timeline

    @property
    def whole(self) -> bool:
        """Both directions work."""
        return self.to_server and self.from_server

    def cut(self, *, to_server: bool = True, from_server: bool = True) -> None:
        """Lose what passes in these directions; watches break after a while."""
        if self.whole:
            self.cut_at = self._timeline.now
        self.to_server &= not to_server
        self.from_server &= not from_server
        for stream in list(self.streams):
            self._timeline.after(BROKEN_AFTER_S, stream.break_if_cut)

    def mend(self) -> None:
        """Let everything pass; watches that did not break deliver what they held."""
        self.to_server = self.from_server = True
        self.mended_at = self._timeline.now
        for stream in list(self.streams):
            stream.flush()
        for listener in self.listeners:
            listener()
