"""The processes of a pod's containers, as this machine sees them: to be killed, stopped and continued by tests."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from localcluster import cgroups, pause
from localcluster.processes import Identity


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a pod: `pid` is this machine's, `container` the runtime's id of its container."""

    pid: int
    argv: tuple[str, ...]
    container: str
    parent: int


def of(pod_uid: str) -> list[Process]:
    """Return a pod's processes, oldest first, without the one that only holds its namespaces."""
    found = []
    for pid, container in cgroups.pod_members(pod_uid).items():
        identity = Identity.of(pid)
        if identity is None:
            continue
        with contextlib.suppress(OSError, IndexError):
            argv = tuple(Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1])
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if list(argv) != pause.ARGV:
                found.append((identity.started, Process(pid, argv, container, parent)))
    return [process for _, process in sorted(found, key=lambda pair: (pair[0], pair[1].pid))]
