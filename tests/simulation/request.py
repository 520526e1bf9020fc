"""One request on its way to the API server and back."""

import asyncio
import contextlib
from collections.abc import Callable

from understudy_kube.errors import ApiError, Forbidden, ServerError, TooManyRequests, Unauthorized, Unreachable

from tests.simulation.network import CALM, Link, Network
from tests.simulation.timeline import Process


class Request:
    """One request on its way there and back."""

    __slots__ = ("_effect", "_link", "_network", "_process", "_until", "_what", "answer")

    def __init__(
        self, network: Network, process: Process, link: Link, what: str, timeout_s: float, effect: Callable[[], bytes]
    ) -> None:
        self._network, self._process, self._link = network, process, link
        self._what = what
        self._until = network.timeline.now + timeout_s
        self._effect = effect
        self.answer: asyncio.Future[bytes] = process.create_future()

    def send(self) -> None:
        """Draw its fate and send it."""
        network, weather, random = self._network, self._network.weather, self._network.random
        draw = random.random() if weather is not CALM else 1.0
        for fate, chance in (
            (self._refuse, weather.refused),
            (self._fail, weather.failed),
            (self._lose, weather.lost),
            (self._repeat, weather.twice),
            (self._deny, weather.denied),
        ):
            if draw < chance:
                network.timeline.after(self._delay(), fate)
                return
            draw -= chance
        network.timeline.after(self._delay(), self._arrive)

    def _arrive(self) -> None:
        if not self._reaches():
            return
        answer: bytes | ApiError
        try:
            answer = self._effect()
        except ApiError as error:
            answer = error
        self._reply(answer)

    def _refuse(self) -> None:
        if self._reaches():
            busy = TooManyRequests(429, "TooManyRequests", f"{self._what}: later")
            self._reply(self._network.random.choice([busy, ServerError(503, "", f"{self._what}: not ready")]))

    def _deny(self) -> None:
        if self._reaches():
            stale = Unauthorized(401, "Unauthorized", f"{self._what}: token")
            self._reply(self._network.random.choice([stale, Forbidden(403, "Forbidden", f"{self._what}: no")]))

    def _fail(self) -> None:
        if self._reaches():
            self._take_effect()
            self._reply(ServerError(500, "InternalError", f"{self._what}: etcd timed out"))

    def _lose(self) -> None:
        if self._reaches():
            if self._network.random.random() < 0.5:
                self._take_effect()
            self._time_out()

    def _repeat(self) -> None:
        if self._reaches():
            self._take_effect()
            self._network.timeline.after(self._delay(), self._arrive_again)

    def _arrive_again(self) -> None:
        self._network.again = True
        try:
            self._arrive()
        finally:
            self._network.again = False

    def _take_effect(self) -> None:
        with contextlib.suppress(ApiError):
            self._effect()

    def _reaches(self) -> bool:
        if self._link.to_server and not self._network.down:
            return True
        if self._link.to_server and self._network.random.random() < 0.5:
            self._reply(Unreachable(f"{self._what} had no answer"))  # connection refused
        else:
            self._time_out()
        return False

    def _reply(self, answer: bytes | ApiError) -> None:
        self._network.timeline.after(self._delay(), self._return, answer)

    def _return(self, answer: bytes | ApiError) -> None:
        if not self._link.from_server or self._network.timeline.now > self._until:
            self._time_out()
        else:
            self._process.post(self._finish, answer)

    def _time_out(self) -> None:
        error = Unreachable(f"{self._what} had no answer")
        self._network.timeline.at(self._until, self._process.post, self._finish, error)

    def _finish(self, answer: bytes | ApiError) -> None:
        if self.answer.done():
            return
        if isinstance(answer, ApiError):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)

    def _delay(self) -> float:
        weather, random = self._network.weather, self._network.random
        if weather.slow and random.random() < weather.slow:
            return random.uniform(0.0, weather.slow_s)
        return weather.latency_s * random.uniform(0.2, 1.0)
