"""How much CPU the kernel grants this container, as its cgroup says.

The pod's template is not the last word: a LimitRange, a webhook or a resize in place gives a container a limit that the
template does not have. The kubelet writes the limit that counts into the container's cgroup, so it is read there.

Understands cgroup v1, v2 and hosts with both, seen from within a container: with a namespace of its own the container's
cgroup is the root of the mount; without one, /proc/self/cgroup names its path. The groups above it count too, as far as
they can be seen. Guarantees nothing where the kernel shows no cgroup (gVisor, for one) or the kubelet sets no quota
(CPUs that are exclusive, `--cpu-cfs-quota=false`): then there is no answer. Looks at no clock.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")


def cpu_quota_m(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Give the smallest quota of this process's cgroups, in thousandths of a core; None: none is set or seen."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    found = [quota for line in lines for folder in _folders(root, line) if (quota := _quota_m(folder)) is not None]
    return min(found, default=None)


def _folders(root: Path, line: str) -> Iterator[Path]:
    """List the folders of the CPU controller that a line `id:controllers:path` stands for, from its own to the root."""
    _, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if controllers and "cpu" not in controllers.split(","):
        return
    mounts = (root / controllers, root / "cpu") if controllers else (root,)
    own = PurePosixPath("/", path)
    inside = PurePosixPath("/") if ".." in own.parts else own  # `/../x`: it is not below what is mounted here
    for mount in mounts:
        for group in (inside, *inside.parents):
            yield mount / group.relative_to("/")


def _quota_m(folder: Path) -> int | None:
    """Read a folder's quota, of either version; None: none."""
    try:
        if (limit := folder / "cpu.max").is_file():
            quota, period = limit.read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        share_m = -(-int(quota) * 1000 // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no such folder, or `max`
    return share_m if share_m > 0 else None  # -1: no limit
