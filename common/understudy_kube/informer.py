"""A local, slim copy of one kind of object, kept true by LIST and WATCH.

Guarantees that after any trouble (a broken, silent or refused watch, 410, a bad event) the copy is listed anew and
every difference is reported, deletions included, also those to an older state, that of an etcd which was restored from
a backup; and that reconnecting never ends. Guarantees that an object which cannot be read keeps no other from being
read: each is decoded apart. Such an object stays in the copy as it was read last, or is absent if it never was, and is
reported to `on_unreadable` in each version. Does not guarantee that each state
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
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from understudy_kube import shallow
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


class Named(Protocol):
    """What tells one object from all others of its kind."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...


class ObjectMeta(Named, Protocol):
    """What the informer needs of an object's metadata."""

    @property
    def resource_version(self) -> str: ...


class KubeObject(Protocol):
    """An object decoded as `kind`."""

    @property
    def metadata(self) -> ObjectMeta: ...


class Identity(msgspec.Struct, rename="camel"):
    """What is known of an object that cannot be read, as far as that can be read."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = "0"


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = "0"


class _Page(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    items: list[msgspec.Raw] = []


class _Bookmark(msgspec.Struct):
    metadata: _Meta


class _Bare(msgspec.Struct):
    metadata: Identity = msgspec.field(default_factory=Identity)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


@dataclass(frozen=True, slots=True)
class _Seen(Generic[R]):
    """One version of an object, slim: a list of many large ones is never held as a whole."""

    key: Key
    uid: str
    version: int
    record: R | None
    """None: not kept."""


_PAGE: Final = msgspec.json.Decoder(_Page)
_EVENT: Final = msgspec.json.Decoder(_Event)
_BOOKMARK: Final = msgspec.json.Decoder(_Bookmark)
_BARE: Final = msgspec.json.Decoder(_Bare)


def identify(text: bytes | msgspec.Raw) -> Identity:
    """Say which object a text is about that cannot be read as what it should be."""
    try:
        return shallow.decode(text, _BARE).metadata
    except msgspec.MsgspecError:
        return Identity()


def _log_unreadable(identity: Identity, why: str) -> None:
    _log.warning("%s/%s cannot be read: %s", identity.namespace, identity.name, why)


class Informer(Generic[R]):
    """Keeps `records` true. `kind` decodes one object and must hold metadata.{name,namespace,uid,resource_version}.

    An object of which `keep` says no is treated as if it did not exist. Whoever comes to want it lists anew.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        kind: type[msgspec.Struct],
        to_record: Callable[[Any], R],
        on_change: Callable[[R | None, R | None], None],
        keep: Callable[[Any], bool] = lambda obj: True,
        on_unreadable: Callable[[Identity, str], None] = _log_unreadable,
        params: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._path = path
        self._params = dict(params or {})
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._to_record = to_record
        self._on_change = on_change
        self._keep = keep
        self._on_unreadable = on_unreadable
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
        seen = self._read(obj) if isinstance(obj, bytes) else self._see(obj)
        if seen is not None and seen.uid not in self._deleted:
            self._store(seen)

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
        seen = self._read(await self._api.get(path))
        if seen is not None and seen.uid not in self._deleted:
            self._store(seen, asked=self._versions.get((namespace, name)) == before)

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
        seen: dict[Key, _Seen[R]] = {}
        unread: dict[Key, str] = {}
        position = "0"
        async for body in self._api.list_pages(self._path, params=self._params):
            page = shallow.decode(body, _PAGE)
            position = page.metadata.resource_version
            for raw in page.items:
                if (item := self._read(raw)) is None:
                    bare = identify(raw)
                    unread[bare.namespace, bare.name] = bare.uid
                else:
                    seen[item.key] = item
        for key, known in list(self._versions.items()):
            there = seen[key].uid if key in seen else unread.get(key)
            if there != known[0] and before.get(key) == known:
                self._drop(key)
        for key, item in seen.items():
            if item.uid in self._deleted and item.uid not in buried:
                continue
            self._deleted.discard(item.uid)
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
                event = shallow.decode(line, _EVENT)
                if event.type != "BOOKMARK":
                    self.contact.heard()
                self._take(event)

    def _take(self, event: _Event) -> None:
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                seen = self._read(event.object)
                if seen is None:
                    self._take_unread(event)
                    return
                self._position = str(seen.version)
                if event.type == "DELETED":
                    self._drop(seen.key, uid=seen.uid)
                else:
                    # An object whose label is removed and added again looks deleted in between. It never was.
                    self._deleted.discard(seen.uid)
                    self._store(seen)
            case "BOOKMARK":
                self._position = shallow.decode(event.object, _BOOKMARK).metadata.resource_version
            case _:
                raise watch_error_of(self._path, bytes(event.object))

    def _take_unread(self, event: _Event) -> None:
        bare = identify(event.object)
        self._position = bare.resource_version
        if event.type == "DELETED":
            self._drop((bare.namespace, bare.name), uid=bare.uid)

    def _read(self, text: bytes | msgspec.Raw) -> _Seen[R] | None:
        """Decode one object; None for one that cannot be read, which is told."""
        try:
            return self._see(shallow.decode(text, self._decoder))
        except (msgspec.MsgspecError, ValueError) as error:
            self._on_unreadable(identify(text), str(error))
            return None

    def _see(self, obj: KubeObject) -> _Seen[R]:
        meta = obj.metadata
        record = self._to_record(obj) if self._keep(obj) else None
        return _Seen((meta.namespace, meta.name), meta.uid, int(meta.resource_version), record)

    def _opened(self) -> None:
        self._opened_at = self._clock()
        self.contact.opened()

    def _store(self, seen: _Seen[R], *, asked: bool = False) -> None:
        known = self._versions.get(seen.key)
        if known is not None and (known[1] == seen.version or (known[1] > seen.version and not asked)):
            return
        if known is not None and known[0] != seen.uid:
            self._drop(seen.key)  # deleted and made anew between two looks
        if seen.record is None:
            if seen.key in self._versions:
                self._forget(seen.key)
            return
        old = self._records.get(seen.key)
        self._records[seen.key] = seen.record
        self._versions[seen.key] = (seen.uid, seen.version)
        self._on_change(old, seen.record)

    def _drop(self, key: Key, *, uid: str | None = None) -> None:
        known = self._versions.get(key)
        self._bury(uid if uid is not None else known[0] if known else "")
        if known is None or (uid is not None and known[0] != uid):
            return  # never seen, or a younger object of the same name stands there
        self._forget(key)

    def _forget(self, key: Key) -> None:
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
