"""The agent's requests to the API: read and renew two Leases by name, watch one. Turns answers into events, decides
nothing.

Its Role allows get, watch and patch on these names alone, so there is no list: a watch without resourceVersion begins
with the object as it is. After any trouble the watch starts anew like that.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

import msgspec
from understudy_contract.lease import LeaseObject, renewal_patch
from understudy_kube import shallow
from understudy_kube.client import Api, ApiError, Forbidden, Invalid, NotFound

from understudy.agent import model

_WATCH_S: Final = (240.0, 300.0)
_SILENCE_S: Final = 90.0
"""Bookmarks come about once a minute. Sooner suspicion is the machine's: it GETs."""
_BACK_OFF_S: Final = (0.1, 5.0)
_UNFIT: Final = (400, 413, 422)
"""Answers about what a request says, not about who asks, nor when."""
_DENIED: Final = ("denied the request", "denied request")
"""In the words of a refusal by an admission webhook and by an admission policy, answered as 403: it is about what the
request says, where a missing right is about who asks."""


class _WatchEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Position(msgspec.Struct):
    class _Meta(msgspec.Struct):
        resource_version: str = msgspec.field(name="resourceVersion", default="")

    metadata: _Meta = msgspec.field(default_factory=_Meta)


_EVENT: Final = msgspec.json.Decoder(_WatchEvent)
_LEASE: Final = msgspec.json.Decoder(LeaseObject)
_POSITION: Final = msgspec.json.Decoder(_Position)


def is_unfit(error: ApiError) -> bool:
    """Tell whether a request was refused for what it says, so that one which says less may be accepted."""
    denied = isinstance(error, Forbidden) and any(words in error.message for words in _DENIED)
    return error.status in _UNFIT or denied


class Leases:
    """Requests run as tasks; each ends in one event to `feed`."""

    def __init__(self, api: Api, namespace: str, rank_lease: str, feed: Callable[[model.Event], None]) -> None:
        self._api = api
        self._base = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._rank_lease = rank_lease
        self._feed = feed
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewals: dict[str, asyncio.Task[None]] = {}
        self._watcher: asyncio.Task[None] | None = None

    def get(self, lease: str) -> None:
        """Read a Lease."""
        self._spawn(self._get(lease))

    def renew(self, action: model.Renew) -> None:
        """Renew or release a Lease; a request in flight for it is abandoned."""
        if (older := self._renewals.get(action.lease)) is not None:
            older.cancel()
        self._renewals[action.lease] = self._spawn(self._renew(action))

    def watch(self, wanted: bool, *, anew: bool = False) -> None:
        """Watch the rank's Lease, or stop watching it."""
        if self._watcher is not None and (anew or not wanted):
            self._watcher.cancel()
            self._watcher = None
        if wanted and self._watcher is None:
            self._watcher = self._spawn(self._watch())

    async def close(self) -> None:
        """Abandon everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _get(self, lease: str) -> None:
        try:
            record = shallow.decode(await self._api.get(f"{self._base}/{lease}"), _LEASE).record()
        except (ApiError, msgspec.MsgspecError) as error:
            self._feed(model.LeaseUnread(lease, str(error)))
        else:
            self._feed(model.LeaseSeen(record, watched=False))

    async def _renew(self, action: model.Renew) -> None:
        task = asyncio.current_task()
        patch = renewal_patch(action.beat, datetime.now(UTC), release=action.release, notice=action.notice)
        try:
            body = await self._api.json_patch(f"{self._base}/{action.lease}", patch, timeout_s=action.timeout_s)
            answer: model.Event = model.Renewed(
                action.lease, action.number, shallow.decode(body, _LEASE).record().duration_s
            )
        except msgspec.MsgspecError as error:
            answer = model.RenewalFailed(action.lease, action.number, False, f"an answer that is no Lease: {error}")
        except ApiError as error:
            refused, gone = isinstance(error, Invalid), isinstance(error, NotFound)
            answer = model.RenewalFailed(action.lease, action.number, refused, error.message, gone, is_unfit(error))
        if self._renewals.get(action.lease) is task:
            del self._renewals[action.lease]
        self._feed(answer)

    async def _watch(self) -> None:
        delay_s, position = _BACK_OFF_S[0], ""
        while True:
            try:
                async with aclosing(self._lines(position)) as lines:
                    position = ""
                    async for line in lines:
                        position = self._take(line)
                        delay_s = _BACK_OFF_S[0]
            except (ApiError, msgspec.MsgspecError):
                position = ""
            if not position:  # trouble, or ended before it said anything
                await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                delay_s = min(delay_s * 2, _BACK_OFF_S[1])

    def _lines(self, position: str) -> AsyncGenerator[bytes, None]:
        params = {"fieldSelector": f"metadata.name={self._rank_lease}", "allowWatchBookmarks": "true"}
        if position:
            params["resourceVersion"] = position
        timeout_s = random.uniform(*_WATCH_S)  # noqa: S311 - jitter, not a secret
        return self._api.watch(self._base, params=params, timeout_s=timeout_s, silence_s=_SILENCE_S)

    def _take(self, line: bytes) -> str:
        """Pass an event on; give the position after it, empty when it cannot be gone on from."""
        event = shallow.decode(line, _EVENT)
        if event.type in ("ADDED", "MODIFIED"):
            record = shallow.decode(event.object, _LEASE).record()
            self._feed(model.LeaseSeen(record, watched=True))
            return record.resource_version
        if event.type == "ERROR":
            return ""
        return shallow.decode(event.object, _POSITION).metadata.resource_version
