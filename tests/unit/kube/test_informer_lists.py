"""What a list, or a look at one object, does to the informer's copy: it is the truth.

Also where the server has gone back to a backup. And which lines of a watch are a sign of life.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec
import pytest
from understudy_contract.lease import LeaseObject, LeaseRecord
from understudy_contract.names import Annotation
from understudy_kube.client import Api
from understudy_kube.informer import Informer


class Server:
    """Answers lists with what `objects` holds when the list ends; `meanwhile` happens while it is made."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, int]] = {}
        """uid and version by name."""
        self.meanwhile: Callable[[], object] = lambda: None
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def list_pages(self, path: str, *, params: object = None) -> AsyncIterator[bytes]:
        answer = msgspec.json.encode(
            {"metadata": {"resourceVersion": "1000"}, "items": [an_object(n, *o) for n, o in self.objects.items()]}
        )
        self.meanwhile()
        yield answer

    async def get(self, path: str) -> bytes:
        name = path.rpartition("/")[2]
        answer = msgspec.json.encode(an_object(name, *self.objects[name]))
        self.meanwhile()
        return answer

    async def watch(self, path: str, *, on_open: Callable[[], None], **_: object) -> AsyncIterator[bytes]:
        on_open()
        while True:
            yield await self.lines.get()
            self.lines.task_done()


def an_object(name: str, uid: str, version: int) -> dict[str, Any]:
    meta = {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"leaseTransitions": version}}


def lease(name: str, uid: str, version: int) -> LeaseObject:
    return msgspec.convert(an_object(name, uid, version), LeaseObject)


def informed(server: Server, clock: Callable[[], float] = time.monotonic) -> Informer[LeaseRecord]:
    return Informer[LeaseRecord](
        cast(Api, server),
        "/leases",
        kind=LeaseObject,
        to_record=LeaseObject.record,
        on_change=lambda old, new: None,
        clock=clock,
    )


def versions(informer: Informer[LeaseRecord]) -> dict[str, str]:
    return {name: record.resource_version for (_, name), record in informer.records.items()}


async def test_an_older_version_in_a_list_is_that_of_a_restored_server() -> None:
    server = Server()
    informer = informed(server)
    server.objects = {"a": ("u", 9)}
    await informer.refresh()
    server.objects = {"a": ("u", 5)}
    await informer.refresh()
    assert versions(informer) == {"a": "5"}
    informer.upsert(lease("a", "u", 6))
    assert versions(informer) == {"a": "6"}


async def test_a_look_ends_what_the_late_answer_to_a_write_from_before_a_restore_had_brought_back() -> None:
    server = Server()
    informer = informed(server)
    server.objects = {"a": ("u", 5)}
    await informer.refresh()
    informer.upsert(lease("a", "u", 9))
    await informer.ask("/apis/g/v1/namespaces/n/leases/a")
    assert versions(informer) == {"a": "5"}


async def test_what_was_learnt_while_one_object_was_looked_at_is_newer_than_the_answer() -> None:
    server = Server()
    informer = informed(server)
    server.objects = {"a": ("u", 5)}
    server.meanwhile = lambda: informer.upsert(lease("a", "u", 9))
    await informer.ask("/apis/g/v1/namespaces/n/leases/a")
    assert versions(informer) == {"a": "9"}


async def test_a_deleted_object_that_is_listed_again_has_come_back() -> None:
    server = Server()
    informer = informed(server)
    server.objects = {"a": ("u", 9)}
    await informer.refresh()
    informer.remove(("n", "a"), "u")
    await informer.refresh()
    assert versions(informer) == {"a": "9"}


async def test_what_was_learnt_while_the_list_was_made_is_newer_than_the_list() -> None:
    server = Server()
    informer = informed(server)
    server.objects = {"written": ("u", 5), "deleted": ("v", 6)}
    await informer.refresh()

    def meanwhile() -> None:
        informer.upsert(lease("written", "u", 2000))
        informer.upsert(lease("made", "w", 2001))
        informer.remove(("n", "deleted"), "v")

    server.meanwhile = meanwhile
    await informer.refresh()
    assert versions(informer) == {"written": "2000", "made": "2001"}


async def test_an_object_newer_than_the_servers_position_and_not_listed_is_gone() -> None:
    server = Server()
    informer = informed(server)
    informer.upsert(lease("a", "u", 5000))
    await informer.refresh()
    assert versions(informer) == {}


async def test_a_bookmark_is_no_sign_that_the_server_can_be_written_to() -> None:
    server, now = Server(), 0.0
    informer = informed(server, lambda: now)
    running = asyncio.create_task(informer.run())
    for at, kind, version in ((1.0, "ADDED", 1001), (8.0, "BOOKMARK", 1002), (9.0, "BOOKMARK", 1003)):
        now = at
        server.lines.put_nowait(msgspec.json.encode({"type": kind, "object": an_object("a", "u", version)}))
        await server.lines.join()
    assert informer.contact.heard_at == 1.0
    running.cancel()


async def test_an_object_that_the_watch_did_not_show_for_a_while_is_taken_in_as_any_other() -> None:
    server = Server()
    informer = informed(server)
    running = asyncio.create_task(informer.run())
    for kind, version in (("ADDED", 1001), ("DELETED", 1002), ("ADDED", 1003)):  # it lost its label, and has it again
        server.lines.put_nowait(msgspec.json.encode({"type": kind, "object": an_object("a", "u", version)}))
        await server.lines.join()
    informer.upsert(lease("a", "u", 1004))
    assert versions(informer) == {"a": "1004"}
    running.cancel()


@pytest.mark.parametrize("garbled", ["²", "9" * 5000], ids=["no digit", "too long"])
async def test_one_lease_that_was_garbled_does_not_end_the_watch_of_all(garbled: str) -> None:
    server = Server()
    informer = informed(server)
    running = asyncio.create_task(informer.run())
    lease = an_object("a", "u", 1001)
    lease["metadata"]["annotations"] = dict.fromkeys((Annotation.INCARNATION, Annotation.SWITCHOVER), garbled)
    for told in (lease, an_object("b", "v", 1002)):
        server.lines.put_nowait(msgspec.json.encode({"type": "ADDED", "object": told}))
    async with asyncio.timeout(5):
        await server.lines.join()
    assert versions(informer) == {"a": "1001", "b": "1002"}
    running.cancel()
