"""Processes by identity: a pid together with the moment it started, so that a reused pid is never mistaken for ours.

What belongs to the cluster is known by construction: it is recorded here, or runs in a network namespace or a
cgroup that only the cluster makes. Nothing is ever ended by its name.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localcluster import cgroups, network, paths
from localcluster.shell import Argv, ClusterError, wait_until

PIDS = paths.RUN / "pids"
ENDING_TIMEOUT_S = 30  # SIGKILL takes effect at once unless the kernel waits for a disk


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: `started` is its start in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of the process that has this pid now; None when there is none, or only its corpse."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def is_alive(self) -> bool:
        return Identity.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this very process; does nothing once it has ended."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def start(name: str, argv: Argv, *, log: Path, cgroup: str) -> Identity:
    """Start a program that outlives this one, in a session and a cgroup of its own, and record it under `name`.

    It inherits nothing of this process' environment: proxies, tokens and search paths stay outside.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    PIDS.mkdir(parents=True, exist_ok=True)
    script = (
        'for group in $CGROUPS; do echo $$ > "$group/cgroup.procs"; done; unset CGROUPS SCRIPT LOG; exec setsid "$@"'
    )
    launcher = 'sh -c "$SCRIPT" sh "$@" >>"$LOG" 2>&1 </dev/null & echo $!'
    pid = int(
        subprocess.run(
            ["sh", "-c", launcher, "sh", *map(str, argv)],
            cwd="/",
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root",
                "SCRIPT": script,
                "LOG": str(log),
                "CGROUPS": " ".join(map(str, cgroups.tracking(cgroup))),
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    )
    identity = Identity.of(pid)
    if identity is None:
        raise ClusterError(f"{name} ended at once: see {log}")
    record(name, identity)
    return identity


def record(name: str, identity: Identity) -> None:
    """Remember a process under a name."""
    (PIDS / name).write_text(f"{identity.pid} {identity.started}")


def forget(name: str) -> None:
    """Forget the process recorded under a name."""
    (PIDS / name).unlink(missing_ok=True)


def recorded(name: str) -> Identity | None:
    """Return the process last started under `name`, alive or not; None when there never was one."""
    try:
        pid, started = (PIDS / name).read_text().split()
        return Identity(int(pid), int(started))
    except (OSError, ValueError):
        return None


def is_running(name: str) -> bool:
    identity = recorded(name)
    return identity is not None and identity.is_alive()


def children(pid: int) -> list[Identity]:
    """Return the living children of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        identity = Identity.of(int(folder.name)) if parent == pid else None
        if identity is not None:
            found.append(identity)
    return found


def ours() -> set[Identity]:
    """Return every living process of the cluster: recorded, in one of its namespaces, or in one of its cgroups."""
    pids = cgroups.members() | network.members()
    if PIDS.is_dir():
        pids |= {identity.pid for file in PIDS.iterdir() if (identity := recorded(file.name)) and identity.is_alive()}
    pids.discard(os.getpid())
    return {identity for pid in pids if (identity := Identity.of(pid)) is not None}


def end(identities: Iterable[Identity]) -> None:
    """SIGKILL processes and return when they are gone."""
    victims = list(identities)
    for victim in victims:
        victim.send(signal.SIGKILL)
    wait_until(
        lambda: not any(victim.is_alive() for victim in victims),
        timeout_s=ENDING_TIMEOUT_S,
        what=f"the end of processes {sorted(victim.pid for victim in victims)} after SIGKILL",
    )
