"""The processes of a pod's containers: to be killed, stopped and continued by tests.

A `Process` is an identity, not only a pid: it holds the moment of its start, so that a signal never reaches another
process that got the same pid later. `of` finds those of the embedded cluster, which run on this machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localcluster import cgroups, pause
from localcluster.processes import Identity


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a pod.

    `pid` and `parent` are those that the cluster signals by: this machine's under the embedded cluster, the node's own
    under kind. `started` counts clock ticks since boot; `container` is the container runtime's id.
    """

    pid: int
    argv: tuple[str, ...]
    container: str
    parent: int
    started: int
    node: str


def of(pod_uid: str, node: str) -> list[Process]:
    """Return a pod's processes on this machine, oldest first, without the one that only holds its namespaces."""
    found = []
    for pid, container in cgroups.pod_members(pod_uid).items():
        identity = Identity.of(pid)
        if identity is None:
            continue
        with contextlib.suppress(OSError, IndexError):
            argv = tuple(Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1])
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if list(argv) != pause.ARGV:
                found.append(Process(pid, argv, container, parent, identity.started, node))
    return oldest_first(found)


def oldest_first(found: Iterable[Process]) -> list[Process]:
    """Order processes by their start."""
    return sorted(found, key=lambda process: (process.started, process.pid))
