"""Where the cluster's files are. One cluster a machine, any number of checkouts, users' caches kept apart.

`RUN` holds what is true of the running cluster and of nothing else; everything in it may be deleted when the cluster
is down. The cache holds what is slow to make again. A checkout holds a kubeconfig and two links.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
# A second cluster beside the usual one (0): for tests of a cluster's whole life, which must not end the one in use.
INSTANCE = int(os.environ.get("UNDERSTUDY_INSTANCE", "0"))
NAME = f"understudy{INSTANCE or ''}"  # of everything that a cluster makes
RUN = Path("/run") / NAME
VOLUMES = RUN / "volumes"  # a shared mount: what is mounted below it appears in every node
LAYOUT = 1  # of the running cluster; raised when a checkout of another layout could not use it

# In a node's own view of the file system.
NODE_SHARED_VOLUMES = Path("/var/lib/understudy/shared")
NODE_PINNED_VOLUMES = Path("/var/lib/understudy/pinned")


def links(checkout: Path) -> Path:
    """Return the folder of a checkout that holds its kubeconfig and links to the programs."""
    return checkout / ".cluster" / (str(INSTANCE) if INSTANCE else "")


def cache() -> Path:
    """Return the folder of everything that is slow to make again."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "understudy"


def boot_id() -> str:
    """Return the id of this boot of the machine: what ran under another one runs no more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class State:
    """What must be known to use, repair or end the running cluster."""

    layout: int
    boot_id: str
    generation: str  # random; differs between any two clusters
    binary: str  # key of the build that runs
    home: str  # folder of keys, logs, etcd and the nodes
    bin: str
    nodes: tuple[str, ...]
    sysctls: dict[str, str]  # what kubelets change of the machine's kernel, as it was before

    @classmethod
    def load(cls) -> State | None:
        """Return the state of the cluster of this boot, or None when there is none that this code understands."""
        try:
            fields = json.loads((RUN / "state.json").read_text())
            state = cls(**{**fields, "nodes": tuple(fields["nodes"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return state if state.layout == LAYOUT and state.boot_id == boot_id() else None

    def save(self) -> None:
        """Write the state so that a reader sees all of it or none."""
        RUN.mkdir(parents=True, exist_ok=True)
        temporary = RUN / f"state.{secrets.token_hex(4)}"
        temporary.write_text(json.dumps(asdict(self), indent=1))
        temporary.replace(RUN / "state.json")

    @property
    def pki(self) -> Path:
        return Path(self.home) / "pki"

    @property
    def logs(self) -> Path:
        return Path(self.home) / "logs"

    def store(self, node: str) -> Path:
        """Return the folder that holds a node's disk."""
        return Path(self.home) / "nodes" / node


@contextmanager
def lock() -> Iterator[None]:
    """Let one process at a time make, change or end the cluster of this machine."""
    with locked(RUN.with_suffix(".lock")):
        yield


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock on a file, made if need be; the kernel lets go of it with the process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
