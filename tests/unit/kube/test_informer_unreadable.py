"""An object that cannot be read, or that nobody wants, amid others: each is taken in apart."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, cast

from understudy_contract.lease import LeaseObject, LeaseRecord
from understudy_kube.client import Api
from understudy_kube.informer import Identity, Informer

from tests.unit.kube.test_shallow import nested


def text(name: str, version: int, *, odd: str | None = None, managed: str = "{}") -> str:
    """A Lease; `odd` is its spec as JSON."""
    meta = f'"name":"{name}","namespace":"n","uid":"u-{name}","resourceVersion":"{version}","managedFields":[{managed}]'
    return f'{{"metadata":{{{meta}}},"spec":{odd or json.dumps({"leaseTransitions": version})}}}'


class Server:
    """Lists `items`, and tells what is put into `lines`."""

    def __init__(self, *items: str) -> None:
        self.items = items
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def list_pages(self, path: str, *, params: object = None) -> AsyncIterator[bytes]:
        for item in self.items:
            yield f'{{"metadata":{{"resourceVersion":"100"}},"items":[{item}]}}'.encode()

    async def get(self, path: str) -> bytes:
        return next(item for item in self.items if f'"{path.rpartition("/")[2]}"' in item).encode()

    async def watch(self, path: str, *, on_open: Callable[[], None], **_: object) -> AsyncIterator[bytes]:
        on_open()
        while True:
            yield await self.lines.get()
            self.lines.task_done()

    def says(self, kind: str, item: str) -> None:
        self.lines.put_nowait(f'{{"type":"{kind}","object":{item}}}'.encode())


class Copy:
    """An informer's copy of the Leases, what it could not read, and what is wanted of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.unread: list[tuple[Identity, str]] = []
        self.unwanted: set[str] = set()
        self.informer = Informer[LeaseRecord](
            cast(Api, server),
            "/leases",
            kind=LeaseObject,
            to_record=LeaseObject.record,
            on_change=lambda old, new: None,
            keep=lambda lease: lease.metadata.name not in self.unwanted,
            on_unreadable=lambda identity, why: self.unread.append((identity, why)),
        )

    def terms(self) -> dict[str, int]:
        return {name: record.term for (_, name), record in self.informer.records.items()}

    async def hears(self, *events: tuple[str, str]) -> None:
        """Let the watch tell this."""
        running = asyncio.create_task(self.informer.run())
        for kind, item in events:
            self.server.says(kind, item)
        joined = asyncio.create_task(self.server.lines.join())
        await asyncio.wait({running, joined}, return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), "the informer has ended"
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_of_a_list_all_is_read_that_can_be() -> None:
    copy = Copy(Server(text("a", 1), text("bad", 2, odd="7"), text("deep", 3, managed=nested(9_990)), text("c", 4)))
    await copy.informer.refresh()
    assert copy.terms() == {"a": 1, "deep": 3, "c": 4}
    assert [(identity.name, identity.uid) for identity, _ in copy.unread] == [("bad", "u-bad")]
    assert "Expected `object`, got `int`" in copy.unread[0][1]


async def test_a_watch_goes_on_past_what_cannot_be_read() -> None:
    copy = Copy(Server(text("a", 1)))
    bad = text("a", 9, odd='{"leaseTransitions":"x"}')
    deep = text("b", 10, managed=nested(9_990))
    await copy.hears(("MODIFIED", bad), ("ADDED", deep), ("ADDED", text("c", 11)))
    assert copy.terms() == {"a": 1, "b": 10, "c": 11}, "what was read last of it counts"
    assert copy.informer._position == "11"


async def test_what_cannot_be_read_is_not_taken_for_deleted_and_is_deleted_when_it_is() -> None:
    server = Server(text("a", 1), text("b", 1))
    copy = Copy(server)
    await copy.informer.refresh()
    server.items = (text("a", 5, odd="7"), text("b", 5, odd="7"))
    await copy.informer.refresh()
    assert copy.terms() == {"a": 1, "b": 1}
    await copy.hears(("DELETED", text("a", 6, odd="7")))
    assert copy.terms() == {"b": 1}
    server.items = ()
    await copy.informer.refresh()
    assert copy.terms() == {}


async def test_an_answer_that_cannot_be_read_leaves_the_copy_as_it_is() -> None:
    copy = Copy(Server(text("a", 1)))
    await copy.informer.refresh()
    copy.server.items = (text("a", 2, odd="7"),)
    await copy.informer.ask("/namespaces/n/leases/a")
    copy.informer.upsert(b"no JSON at all")
    assert copy.terms() == {"a": 1}
    assert [identity.name for identity, _ in copy.unread] == ["a", ""]


async def test_what_nobody_wants_is_not_kept_and_is_there_once_it_is_wanted() -> None:
    copy = Copy(Server(text("a", 1), text("b", 2)))
    copy.unwanted = {"a"}
    await copy.informer.refresh()
    copy.informer.upsert(text("a", 3).encode())
    assert copy.terms() == {"b": 2}
    copy.unwanted = set()
    await copy.informer.refresh()
    assert copy.terms() == {"a": 1, "b": 2}
    copy.unwanted = {"a"}
    await copy.hears(("MODIFIED", text("a", 5)))
    assert copy.terms() == {"b": 2}
    copy.unwanted = set()
    copy.informer.upsert(text("a", 5).encode())
    assert copy.terms() == {"a": 5, "b": 2}, "it was not taken for deleted"


async def test_of_a_list_of_large_objects_only_slim_records_are_held() -> None:
    """What an object was decoded into is let go with its page: `to_record` is called before the next page is read."""
    held: list[Any] = []
    order: list[str] = []

    class Pages(Server):
        async def list_pages(self, path: str, *, params: object = None) -> AsyncIterator[bytes]:
            async for page in super().list_pages(path, params=params):
                order.append("page")
                yield page

    copy = Copy(Pages(text("a", 1), text("b", 2)))

    def slim(lease: LeaseObject) -> LeaseRecord:
        order.append(lease.metadata.name)
        held.append(lease.metadata.uid)
        return lease.record()

    copy.informer._to_record = slim
    await copy.informer.refresh()
    assert order == ["page", "a", "page", "b"]
