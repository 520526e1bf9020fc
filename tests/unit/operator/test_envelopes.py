"""kopf as the operator runs it, before an API server that tells of what would have ended kopf's own decoder."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import kopf
import pytest
from aiohttp import web
from understudy_kube.client import Api, Credentials
from understudy_kube.informer import Key, identify
from understudy_operator.app import App, kopf_settings
from understudy_operator.decoding import UnreadableJobError, read_job
from understudy_operator.envelopes import TEXT, wrap_event, wrap_list
from understudy_operator.jobs import Named
from understudy_operator.settings import Settings
from understudy_operator.world import World

from tests.unit.kube.test_shallow import nested
from tests.unit.operator.test_decoding import text

DEEP = text(name="deep", spec=f'{{"template":{nested(9_900)}}}')
LIST = b'{"apiVersion":"understudy.dev/v1alpha1","kind":"JobList","metadata":{"resourceVersion":"40"},"items":[%s]}'
RESOURCE = {"name": "trainingjobs", "singularName": "trainingjob", "namespaced": True, "kind": "TrainingJob"}
DISCOVERY: dict[str, dict[str, Any]] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {
        "resources": [
            {
                "name": "namespaces",
                "singularName": "namespace",
                "kind": "Namespace",
                "namespaced": False,
                "verbs": ["list"],
            }
        ]
    },
    "/apis": {
        "groups": [
            {
                "name": "understudy.dev",
                "versions": [{"groupVersion": "understudy.dev/v1alpha1", "version": "v1alpha1"}],
                "preferredVersion": {"groupVersion": "understudy.dev/v1alpha1", "version": "v1alpha1"},
            }
        ]
    },
    "/apis/understudy.dev/v1alpha1": {
        "groupVersion": "understudy.dev/v1alpha1",
        "resources": [{**RESOURCE, "verbs": ["list", "watch", "get", "patch"], "shortNames": ["tj"], "categories": []}],
    },
}


def event(kind: str, body: bytes) -> bytes:
    return b'{"type":"%s","object":%s}' % (kind.encode(), body)


@asynccontextmanager
async def a_server(items: list[bytes], lines: list[bytes]) -> AsyncIterator[str]:
    """Serve the discovery of one resource, its list and its watch; give the address."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/trainingjobs"):
            return web.json_response(DISCOVERY.get(request.path, {}), status=200 if request.path in DISCOVERY else 404)
        if "watch" not in request.query:
            return web.Response(body=LIST % b",".join(items), content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for line in lines:
            for part in (line[:7], line[7:], b"\n"):  # as a network may cut it
                await response.write(part)
        await over.wait()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        over.set()
        await runner.cleanup()


async def test_kopf_tells_of_all_jobs_although_one_is_nested_as_deep_as_the_api_server_takes_it() -> None:
    lines = [
        event("MODIFIED", DEEP.replace(b'"7"', b'"41"')),
        event("BOOKMARK", b'{"metadata":{"resourceVersion":"42"}}'),
        event("ADDED", text(name="b", version=44)),
        event("DELETED", text(name="a", version=45)),
    ]
    async with a_server([text(name="a"), DEEP, text(name="c")], lines) as address:
        credentials = Credentials(address, None)
        world = Seeing(Api(credentials), lambda key: None)
        world.listed.set()
        tasks = await kopf.spawn_tasks(
            registry=App(Settings("INFO", 0, 0), credentials)._registry(world),
            settings=kopf_settings(),
            clusterwide=True,
            standalone=True,
        )
        waiting = asyncio.create_task(world.seen({"deep", "c", "b", "a is gone"}))
        try:
            async with asyncio.timeout(60):
                await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            assert [task for task in tasks if task.done()] == [], "kopf goes on"
        finally:
            for task in (waiting, *tasks):
                task.cancel()
            await asyncio.wait({waiting, *tasks})
    assert set(world.jobs) == {("default", "b"), ("default", "c")}
    assert [uid for uid, _ in world.quarantine._told] == ["uid-deep"]


class Seeing(World):
    """A World, and what it was told."""

    def __init__(self, api: Api, wake: Callable[[Key], None]) -> None:
        super().__init__(api, wake)
        self.heard: set[str] = set()
        self.news = asyncio.Event()
        forget = self.jobs.forget

        def forgotten(job: Named) -> None:
            forget(job)
            self.heard.add(f"{job.name} is gone")
            self.news.set()

        self.jobs.forget = forgotten  # type: ignore[method-assign]

    def told(self, body: bytes) -> None:
        super().told(body)
        self.heard.add(identify(body).name)
        self.news.set()

    async def seen(self, expected: set[str]) -> None:
        """Wait until all this was heard; kopf tells of each object only what came last."""
        while not expected <= self.heard:
            await self.news.wait()
            self.news.clear()


@pytest.mark.parametrize("levels", [63, 99, 101, 9_900])
def test_an_envelope_has_the_object_and_what_is_too_deep_stays_too_deep(levels: int) -> None:
    body = text(name="deep", spec=f'{{"template":{nested(levels)}}}')
    listed = wrap_list(LIST % body)["items"][0]
    told = json.loads(wrap_event(event("ADDED", body)))["object"]
    for wrapped in (listed, told):
        assert wrapped["metadata"] == {
            "name": "deep",
            "namespace": "default",
            "uid": "uid-deep",
            "resourceVersion": "7",
        }
        with pytest.raises(UnreadableJobError, match="64 levels"):
            read_job(wrapped[TEXT].encode())


def test_what_the_api_server_says_itself_is_left_as_it_is() -> None:
    line = event("ERROR", b'{"kind":"Status","code":410}')
    assert wrap_event(line) == line
