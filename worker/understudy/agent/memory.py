"""Did the kernel kill a process of this container for want of memory? Read from the container's own cgroup.

Guarantees that a kill is seen which the kernel made before the trainer was reaped: the kernel counts a victim before it
signals it, so that a count read after the reap holds it. The agent and the trainer share a cgroup, of version 1 or 2,
and the count may be above zero when the agent starts: only what was added since then is told. A kill is told once, to
the trainer that ended after it: of one that a launcher starts later, nothing is known of it. Where the cgroup cannot be
read (no mount, another system), nothing is told, and the operator learns of the kill from the pod's status.

Does not tell which process was killed: a child of the trainer counts as well. Does not see a kill of the whole
container (`memory.oom.group`): the agent dies with it, and the kubelet says so. Reads no clock.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
_UNLIMITED: Final = 1 << 60
"""Bytes: version 1 writes "no limit" as a number just below 2^63."""
_MEBI: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """The files of a memory cgroup."""

    events: Path
    """Has a line `oom_kill N`: processes of the group that were killed for want of memory."""
    limit: Path

    @staticmethod
    def own(root: Path = CGROUPS, own: Path = OWN) -> "MemoryGroup | None":
        """Find the cgroup of this process; None if its files are not to be seen.

        A container sees its own cgroup as the root of the mount; without a cgroup namespace its path of the host may
        lie below the mount instead.
        """
        for line in _text(own).splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            version_1 = "memory" in controllers.split(",")
            if controllers and not version_1:
                continue
            mount = root / "memory" if version_1 else root
            names = ("memory.oom_control", "memory.limit_in_bytes") if version_1 else ("memory.events", "memory.max")
            for folder in (mount / path.lstrip("/"), mount):
                if "oom_kill " in _text(folder / names[0]):
                    return MemoryGroup(folder / names[0], folder / names[1])
        return None

    @property
    def kills(self) -> int:
        """Count the processes that were killed so far; 0 if it cannot be read."""
        for line in _text(self.events).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                return int(count)
        return 0

    @property
    def limit_bytes(self) -> int | None:
        """The group's limit; None for none."""
        text = _text(self.limit).strip()
        return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


class MemoryWatch:
    """Compares the count of kills with the one at the start, and then with the one that was told last."""

    def __init__(self, group: MemoryGroup | None) -> None:
        self._group = group
        self._before = group.kills if group is not None else 0

    def new_shortage(self) -> str:
        """Say that a process was killed for want of memory since the last call, and what to raise; empty: none was."""
        if self._group is None or (kills := self._group.kills) <= self._before:
            return ""
        self._before = kills
        limit = self._group.limit_bytes
        if limit is None:
            return (
                "out of memory (OOMKilled): the node had none left, and container `trainer` has no limit; set "
                "resources.requests.memory of container `trainer` to what it needs"
            )
        return (
            f"out of memory (OOMKilled): the memory limit of container `trainer` is {_size(limit)}; raise "
            "resources.limits.memory of container `trainer`, or let the script use less"
        )


def _size(count: int) -> str:
    return f"{count // _MEBI}Mi" if count % _MEBI == 0 else f"{count} bytes"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
