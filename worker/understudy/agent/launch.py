"""Starts the trainer before anything slow is imported: on two cores the agent's own imports compete with TensorFlow's.

Guarantees that the socket and the counters exist before the trainer runs, and that a SIGTERM in the meantime is kept,
not lost: PID 1 has no default action for it. Imports neither asyncio nor aiohttp.
"""

import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from understudy_contract.names import Env

from understudy.agent.cpu_quota import cpu_quota_m
from understudy.agent.memory import MemoryGroup, MemoryWatch
from understudy.agent.settings import Settings
from understudy.agent.threads import thread_variables
from understudy.counters import Counters

_HELD_BACK: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Launched:
    """A trainer that runs, or could not be started."""

    pid: int
    """0: it could not be started."""
    failure: str
    listener: socket.socket
    counters: Counters
    memory: MemoryWatch


def launch(settings: Settings, environ: Mapping[str, str]) -> Launched:
    """Start the trainer; its signals to us wait until `release_signals`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    socket_path, counters_path = settings.run_dir / "agent.sock", settings.run_dir / "counters"
    counters_path.unlink(missing_ok=True)
    counters = Counters(counters_path)
    listener = _listen(socket_path)
    env = {
        **environ,
        **thread_variables(environ, len(os.sched_getaffinity(0)), cpu_quota_m()),
        Env.SOCKET: str(socket_path),
        Env.COUNTERS: str(counters_path),
    }
    memory = MemoryWatch(MemoryGroup.own())
    pid, failure = 0, ""
    try:
        # A process group of its own, so that a signal reaches the trainer's children; none blocked or ignored in it.
        pid = os.posix_spawnp(
            settings.command[0],
            settings.command,
            env,
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    except OSError as error:
        failure = f"{settings.command[0]} cannot be started: {error.strerror}; correct the template's command"
    return Launched(pid, failure, listener, counters, memory)


def release_signals() -> None:
    """Let signals come: their handlers are installed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(4)
    listener.setblocking(False)
    return listener
