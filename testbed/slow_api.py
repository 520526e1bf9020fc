"""An API server that takes its time: between the pods of all nodes and the server stands a relay that holds every byte
that is sent to the server back for a while. TLS passes through; what the server sends is not held back.
"""

import asyncio
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from localcluster import network
from testbed.testbed import Testbed

CHUNK_BYTES: Final = 65536
STARTED_WITHIN_S: Final = 10
RESET: Final = ("--reject-with", "tcp-reset")
CALLER: Final = re.compile(r"-s ([\d.]+)/32 .*-c [1-9]\d* \d+$", re.MULTILINE)
"""A rule for one address that has matched, as iptables lists it."""


@dataclass(slots=True)
class Relay:
    """What came through."""

    callers: frozenset[str] = frozenset()
    """Addresses of the watched pods that came through; reported at the end."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)


@contextmanager
def slow_api(testbed: Testbed, delay_s: float, *, watched: Iterable[str] = ()) -> Iterator[Relay]:
    """Let every call of a pod to the API server take this much longer for the length of a block.

    `watched`: addresses of pods. The block reports which of them came through. The relay itself sees the addresses of
    nodes.
    """
    target = urlsplit(testbed.kube.host)
    server = (str(target.hostname), target.port or 443)
    relay = Relay()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="slow API", daemon=True)
    thread.start()
    here = str(network.MACHINE_ADDRESS)
    opened = asyncio.run_coroutine_threadsafe(_listen(relay, here, server, delay_s), loop).result(STARTED_WITHIN_S)
    port = opened.sockets[0].getsockname()[1]
    pods, service, addresses = str(network.PODS), str(network.API_SERVICE), tuple(watched)
    rules = [
        ["-t", "nat", "PREROUTING", "-s", pods, "-d", service, "-p", "tcp", "-j", "DNAT", "--to", f"{here}:{port}"],
        ["-t", "nat", "POSTROUTING", "-s", pods, "-d", here, "-j", "MASQUERADE"],
        # These only count, before the first: of a connection this table sees the beginning.
        *(["-t", "nat", "PREROUTING", "-s", address, "-d", service, "-p", "tcp"] for address in addresses),
        # Connections that are open bypass the relay: they are ended.
        ["-t", "filter", "FORWARD", "-s", pods, "-d", server[0], "-p", "tcp", "-j", "REJECT", *RESET],
    ]
    try:
        _rules(testbed, "-I", rules)
        yield relay
        if addresses:
            relay.callers = _callers(testbed)
    finally:
        _rules(testbed, "-D", rules)
        asyncio.run_coroutine_threadsafe(_close(relay, opened), loop).result(STARTED_WITHIN_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _rules(testbed: Testbed, verb: str, rules: list[list[str]]) -> None:
    for node in testbed.cluster.nodes:
        for table, name, chain, *rule in rules:
            node.run(["iptables", "-w", table, name, verb, chain, *rule])


def _callers(testbed: Testbed) -> frozenset[str]:
    listing = ["iptables", "-w", "-t", "nat", "-S", "PREROUTING", "-v"]
    return frozenset(address for node in testbed.cluster.nodes for address in CALLER.findall(node.run(listing)))


async def _listen(relay: Relay, here: str, server: tuple[str, int], delay_s: float) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):  # whose task nobody awaits: Python 3.11 would print it
            far_reader, far_writer = await asyncio.open_connection(*server)
            relay.writers += (writer, far_writer)
            await asyncio.gather(_pump(reader, far_writer, delay_s), _pump(far_reader, writer, 0.0))

    return await asyncio.start_server(serve, here, 0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass bytes on, each as late as asked for."""
    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def release() -> None:
        while True:
            due, data = await held.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            with suppress(OSError):
                writer.write(data)
                await writer.drain()
        with suppress(OSError):
            writer.close()

    releasing = asyncio.create_task(release())
    data = b"."
    while data:
        try:
            data = await reader.read(CHUNK_BYTES)
        except OSError:
            data = b""
        held.put_nowait((loop.time() + delay_s, data))
    await releasing


async def _close(relay: Relay, server: asyncio.Server) -> None:
    server.close()
    for writer in relay.writers:
        writer.transport.abort()
    current = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not current]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.sleep(0)  # the loop's turn in which transports say that they are closed
