"""A local, slim copy of one kind of object, kept true by LIST and WATCH.

Guarantees that after any trouble (a broken, silent or refused watch, 410, a bad event) the copy is listed anew and
every difference is reported, deletions included, also those to an older state, that of an etcd which was restored from
a backup; and that reconnecting never ends. Does not guarantee that each state
of an object is seen: several changes may arrive as one. Own writes are taken in at once (`upsert`, `remove`), so a
decision never waits for its own echo. Trusts the monotonic clock that it is given; compares resourceVersions as
integers, which Kubernetes guarantees since 1.35 and etcd always did.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from understudy_kube.client import Api, ApiError, Gone
from understudy_kube.contact import Contact
from understudy_kube.errors import watch_error_of

R = TypeVar("R")
Key = tuple[str, str]
"""Namespace and name."""

_log: Final = logging.getLogger(__name__)

_WATCH_S: Final = (240.0, 300.0)
"""The server ends a watch after a time between these: jittered, so that replicas do not reconnect together."""
_SILENCE_S: Final = 90.0
"""Bookmarks come about once a minute, so a longer silence means a dead watch."""
_WATCH_MIN_S: Final = 1.0
"""A watch that the server ends sooner is followed by a pause, or both would spin."""
_BACK_OFF_S: Final = (0.1, 5.0)
_TOMBSTONES: Final = 4096
"""uids of deleted objects remembered, so that the late answer to an own write does not bring one back."""


class ObjectMeta(Protocol):
    """What the informer needs of an object's metadata."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


class KubeObject(Protocol):
    """An object decoded as `kind`."""

    @property
    def metadata(self) -> ObjectMeta: ...


class _Meta(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="0")


class _Bookmark(msgspec.Struct):
    metadata: _Meta


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Informer(Generic[R]):
    """Keeps `records` true. `kind` decodes one object and must hold metadata.{name,namespace,uid,resource_version}."""

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        kind: type[msgspec.Struct],
        to_record: Callable[[Any], R],
        on_change: Callable[[R | None, R | None], None],
        params: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._path = path
        self._params = dict(params or {})
        decode: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder(kind).decode
        self._decode: Callable[[bytes | msgspec.Raw], KubeObject] = decode
        self._decode_page = msgspec.json.Decoder(
            msgspec.defstruct("Page", [("metadata", _Meta), ("items", list[kind], msgspec.field(default_factory=list))])  # type: ignore[valid-type]
        ).decode
        self._decode_event = msgspec.json.Decoder(_Event).decode
        self._to_record = to_record
        self._on_change = on_change
        self._clock = clock
        self._records: dict[Key, R] = {}
        self._versions: dict[Key, tuple[str, int]] = {}
        self._deleted: set[str] = set()
        self._deleted_order: deque[str] = deque()
        self._position = ""
        self._opened_at = 0.0
        self.records: Final[Mapping[Key, R]] = self._records
        self.contact: Final = Contact(clock)
        """Every change that the watch tells is heard there; whoever needs to know more often may ask the server.

        A bookmark proves nothing: the server writes it out of its cache, also while it cannot reach etcd.
        """
        self.synced: Final = asyncio.Event()
        """Set once the first list is in."""

    def upsert(self, obj: KubeObject | bytes) -> None:
        """Take in the API's answer to an own write (bytes, or decoded as `kind`), unless the copy is newer."""
        if isinstance(obj, bytes):
            obj = self._decode(obj)
        if obj.metadata.uid not in self._deleted:
            self._store(obj)

    def remove(self, key: Key, uid: str) -> None:
        """Take in an own deletion, if the object has gone (not only been asked to go)."""
        if key in self._versions and self._versions[key][0] == uid:
            self._drop(key)

    async def ask(self, path: str) -> None:
        """Read one namespaced object: afterwards the copy is no older than this call. Raises ApiError, or NotFound.

        What was known before the question yields to the answer, even to an older version of it: the late answer to a
        write may bring back what an etcd that was restored from a backup has forgotten, of which no watch would tell.
        """
        *_, namespace, _, name = path.split("/")
        before = self._versions.get((namespace, name))
        obj = self._decode(await self._api.get(path))
        if obj.metadata.uid not in self._deleted:
            self._store(obj, asked=self._versions.get((namespace, name)) == before)

    async def refresh(self) -> None:
        """List now: afterwards everything that was written before the call is known. Raises ApiError.

        A watch may be late, and two watches are never equally late.
        """
        await self._list()

    async def run(self) -> None:
        """List and watch for ever."""
        delay_s = _BACK_OFF_S[0]
        while True:
            started = self._clock()
            try:
                if not self._position:
                    await self._list()
                await self._watch()
                self.contact.closed()
                if self._clock() - started >= _WATCH_MIN_S:
                    continue
                _log.info("%s: the server ended the watch at once", self._path)
            except Gone as error:
                _log.info("%s is listed anew: %s", self._path, error)
                self._position = ""
            except (ApiError, msgspec.MsgspecError) as error:
                _log.warning("%s is listed anew in at most %.1f s: %s", self._path, delay_s, error)
                self._position = ""
            self.contact.lost()
            if self._opened_at > started and self._clock() - self._opened_at > _BACK_OFF_S[1]:
                delay_s = _BACK_OFF_S[0]
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            delay_s = min(delay_s * 2, _BACK_OFF_S[1])

    async def _list(self) -> None:
        # What was known before the question yields to the answer, even to an older version of it: of an etcd that was
        # restored from a backup. What has been learnt since the question may be newer than the answer.
        before, buried = dict(self._versions), set(self._deleted)
        seen: dict[Key, Any] = {}
        position = "0"
        async for body in self._api.list_pages(self._path, params=self._params):
            page: Any = self._decode_page(body)
            position = page.metadata.resource_version
            seen.update(((item.metadata.namespace, item.metadata.name), item) for item in page.items)
        for key, known in list(self._versions.items()):
            gone = key not in seen or seen[key].metadata.uid != known[0]
            if gone and before.get(key) == known:
                self._drop(key)
        for key, item in seen.items():
            if item.metadata.uid in self._deleted and item.metadata.uid not in buried:
                continue
            self._deleted.discard(item.metadata.uid)
            self._store(item, asked=before.get(key) == self._versions.get(key))
        self._position = position
        self.synced.set()

    async def _watch(self) -> None:
        timeout_s = random.uniform(*_WATCH_S)  # noqa: S311 - jitter, not a secret
        params = {**self._params, "resourceVersion": self._position, "allowWatchBookmarks": "true"}
        watch = self._api.watch(
            self._path, params=params, timeout_s=timeout_s, silence_s=_SILENCE_S, on_open=self._opened
        )
        async with aclosing(watch) as lines:
            async for line in lines:
                event = self._decode_event(line)
                if event.type != "BOOKMARK":
                    self.contact.heard()
                self._take(event)

    def _take(self, event: _Event) -> None:
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                obj = self._decode(event.object)
                self._position = obj.metadata.resource_version
                if event.type == "DELETED":
                    self._drop((obj.metadata.namespace, obj.metadata.name), uid=obj.metadata.uid)
                else:
                    self._deleted.discard(obj.metadata.uid)  # a label was taken off and put back: it never was deleted
                    self._store(obj)
            case "BOOKMARK":
                self._position = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
            case _:
                raise watch_error_of(self._path, bytes(event.object))

    def _opened(self) -> None:
        self._opened_at = self._clock()
        self.contact.opened()

    def _store(self, obj: KubeObject, *, asked: bool = False) -> None:
        meta = obj.metadata
        key, version = (meta.namespace, meta.name), int(meta.resource_version)
        known = self._versions.get(key)
        if known is not None and (known[1] == version or (known[1] > version and not asked)):
            return
        if known is not None and known[0] != meta.uid:
            self._drop(key)  # deleted and made anew between two looks
        old = self._records.get(key)
        new = self._to_record(obj)
        self._records[key] = new
        self._versions[key] = (meta.uid, version)
        self._on_change(old, new)

    def _drop(self, key: Key, *, uid: str | None = None) -> None:
        known = self._versions.get(key)
        self._bury(uid if uid is not None else known[0] if known else "")
        if known is None or (uid is not None and known[0] != uid):
            return  # never seen, or a younger object of the same name stands there
        old = self._records.pop(key)
        del self._versions[key]
        self._on_change(old, None)

    def _bury(self, uid: str) -> None:
        if not uid or uid in self._deleted:
            return
        self._deleted.add(uid)
        self._deleted_order.append(uid)
        if len(self._deleted_order) > _TOMBSTONES:
            self._deleted.discard(self._deleted_order.popleft())
