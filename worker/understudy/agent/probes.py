"""Answers the kubelet's probes: /healthz says that the loop turns, /readyz that the pod does its work.

A few bytes of HTTP/1.1, each connection closed after its answer: a web framework would cost 6 MB of every pod.

A pod in the node's own network (hostNetwork) has no port that is its own: two pods on a node would fight over it, and
the kubelet would ask one about the other. Such a pod serves none, and the kubelet looks for a file in the pod's own
emptyDir, which is there as long as the pod is ready. Each look costs an exec, so other pods keep the port.
The file is kept in every pod, whichever of the two is asked. It does not tell an agent whose loop hangs: such an agent
renews no Lease either, and is replaced for that.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

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


class ReadyFile:
    """A file that exists while the pod is ready; made anew by each process, since the folder outlives a container."""

    def __init__(self, path: Path, log: Callable[[str], None]) -> None:
        self._path = path
        self._log = log
        self._shown = True  # of an earlier process, for all we know
        self._failed = False
        self.show(False)

    def show(self, ready: bool) -> None:
        """Make or remove the file, if that is a change; a failure is logged once, and tried again at the next call."""
        if ready == self._shown:
            return
        try:
            if ready:
                self._path.touch()
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._log(f"{self._path} cannot be {'made' if ready else 'removed'}; readiness goes by it: {error}")
        else:
            self._shown, self._failed = ready, False
