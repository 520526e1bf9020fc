"""Answers the kubelet's readiness probe: this process has listed everything, and leads or can.

Once ready it stays so: whoever begins to lead lists anew. Does not tell whether it may write, nor whether kopf hears of
jobs. Whether the process lives is another question; kopf answers it, on a port of its own: it serves no second path.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

PATH: Final = "/readyz"
_LINGER_S: Final = 1.0
"""A prober that does not hang up keeps no operator from ending."""


@asynccontextmanager
async def serve_readiness(host: str | None, port: int, is_ready: Callable[[], bool]) -> AsyncIterator[int]:
    """Serve as long as the context lasts; give the port. Raises OSError when it is taken."""

    async def answer(_: web.Request) -> web.Response:
        if is_ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not everything was listed yet; the log tells what could not be\n")

    app = web.Application()
    app.add_routes([web.get(PATH, answer)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_LINGER_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
