"""Answers the kubelet's probes: /healthz says that the loop turns, /readyz that the pod does its work.

A few bytes of HTTP/1.1, each connection closed after its answer: a web framework would cost 6 MB of every pod.
"""

import asyncio
from collections.abc import Callable

_REQUEST_WITHIN_S = 5.0


def answer(target: str, *, ready: bool) -> tuple[int, str]:
    """Give status and body for a request."""
    match target.partition("?")[0]:
        case "/healthz":
            return 200, "ok"
        case "/readyz":
            return (200, "ready") if ready else (503, "neither stepping as primary nor warm as redundant")
        case _:
            return 404, "try /healthz or /readyz"


async def serve_probes(host: str | None, port: int, is_ready: Callable[[], bool]) -> asyncio.Server:
    """Listen; raises OSError when the port is taken."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
                parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                status, text = answer(parts[1] if len(parts) == 3 else "", ready=is_ready())
                writer.write(
                    f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: text/plain\r\n"
                    f"Content-Length: {len(text) + 1}\r\nConnection: close\r\n\r\n{text}\n".encode()
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a prober that hangs up is no concern of ours
        finally:
            writer.close()

    return await asyncio.start_server(serve, host, port, limit=16384)
