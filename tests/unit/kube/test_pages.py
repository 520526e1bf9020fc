"""Pages of a list have a bounded number of bytes, whatever the objects hold; against a server of our own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from understudy_kube import client
from understudy_kube.client import Api, Credentials


@asynccontextmanager
async def serving(sizes: list[int], asked: list[tuple[int, int]]) -> AsyncIterator[Api]:
    """Serve a list of objects of these sizes; note from where, and how many, each page was asked for."""

    async def answer(request: web.Request) -> web.Response:
        start, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        asked.append((start, limit))
        items = [{"n": n, "x": "x" * sizes[n]} for n in range(start, min(start + limit, len(sizes)))]
        after = start + limit
        meta = {"continue": str(after) if after < len(sizes) else ""}
        return web.json_response({"metadata": meta, "items": items})

    app = web.Application()
    app.router.add_get("/things", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Api(Credentials(f"http://127.0.0.1:{runner.addresses[0][1]}", None)) as api:
            yield api
    finally:
        await runner.cleanup()


async def listed(api: Api) -> list[list[int]]:
    return [[item["n"] for item in json.loads(page)["items"]] async for page in api.list_pages("/things", limit=500)]


async def test_small_objects_come_in_one_page() -> None:
    asked: list[tuple[int, int]] = []
    async with serving([10] * 400, asked) as api:
        assert await listed(api) == [list(range(400))]
    assert asked == [(0, 500)]


async def test_of_large_objects_a_page_has_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_MAX_BYTES", 100_000)
    asked: list[tuple[int, int]] = []
    sizes = [30_000] * 10 + [250_000] + [10] * 200
    async with serving(sizes, asked) as api:
        pages = await listed(api)
    assert [n for page in pages for n in page] == list(range(len(sizes))), "all of them, once, in order"
    for page in pages:
        assert len(page) == 1 or sum(sizes[n] for n in page) <= 100_000
    assert len(pages) < 30, "pages grow again when objects are small"
