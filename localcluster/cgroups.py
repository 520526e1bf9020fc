"""The cluster's cgroup folders, in every hierarchy of cgroup v1, or in the one of v2.

Each node has a folder `understudy/NODE`, below which its kubelet puts pods. Daemons sit in a folder of a hierarchy
that controls nothing, only so that they can be found again. Exercised by this project's CI: v1 and hybrid; v2 is
written after the kernel's documentation.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from localcluster import paths
from localcluster.shell import ClusterError, wait_until

ROOT = paths.NAME
CPU_SHARES_PER_CORE = 1024  # what kubelets give all pods of a machine together, beside its daemons
TRACKING = ("pids", "freezer", "name=systemd")  # v1 hierarchies that may hold daemons; the first that exists
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")
REMOVAL_TIMEOUT_S = 10


def _mounts() -> list[tuple[Path, str, str]]:
    """Return (mount point, file system type, super options) of each cgroup hierarchy."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            mounts.append((Path(left.split()[4]), kind, options))
    return mounts


def is_v2() -> bool:
    return all(kind == "cgroup2" for _, kind, _ in _mounts())


def make(node: str) -> None:
    """Make a node's folder in every hierarchy."""
    if not _mounts():
        raise ClusterError("no cgroup hierarchy is mounted on this machine: mount one at /sys/fs/cgroup")
    for mount, kind, _ in _mounts():
        if kind == "cgroup2" and not is_v2():
            continue  # the empty half of a hybrid set-up: the container runtime uses it by itself
        folder = mount
        for name in (ROOT, node):
            if kind == "cgroup2":
                _delegate(folder)
            child = folder / name
            child.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new v1 folder: nothing could run there
                if kind == "cgroup" and (folder / setting).exists():
                    (child / setting).write_text((folder / setting).read_text())
            folder = child
        shares = mount / ROOT / "cpu.shares"
        if shares.exists():
            shares.write_text(str(CPU_SHARES_PER_CORE * (os.cpu_count() or 1)))


def _delegate(folder: Path) -> None:
    available = (folder / "cgroup.controllers").read_text().split()
    for controller in CONTROLLERS:
        if controller in available:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def tracking(name: str) -> list[Path]:
    """Return the folders that a daemon of `name` joins, made if need be."""
    candidates = [
        mount
        for wanted in TRACKING
        for mount, kind, options in _mounts()
        if (kind == "cgroup" and wanted in options.split(",")) or (kind == "cgroup2" and is_v2())
    ]
    folders = [mount / ROOT / "daemons" / name for mount in candidates[:1]]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def folders(node: str = "") -> list[Path]:
    """Return every folder of ours that exists (of one node: those of its pods), deepest first."""
    found: list[Path] = []
    for mount, _, _ in _mounts():
        for folder, _, _ in os.walk(mount / ROOT / node, topdown=False):
            found.append(Path(folder))
    return found


def members(node: str = "") -> set[int]:
    """Return the pids of all processes in folders of ours."""
    pids: set[int] = set()
    for folder in folders(node):
        with contextlib.suppress(OSError):
            pids.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return pids


def pod_members(pod_uid: str) -> dict[int, str]:
    """Return the pids of a pod's processes, each with the id of its container."""
    pids: dict[int, str] = {}
    suffix = f"pod{pod_uid}"
    mount = next((folder for folder in tracking("pods")), None)
    root = mount.parents[1] if mount else Path("/nonexistent")
    for pod in root.glob(f"*/kubepods*/**/{suffix}"):
        for folder in pod.iterdir():
            if folder.is_dir():
                with contextlib.suppress(OSError):
                    pids |= {int(pid): folder.name for pid in (folder / "cgroup.procs").read_text().split()}
    return pids


def remove(node: str = "") -> None:
    """Remove the folders of ours; their processes must have been ended before."""

    def gone() -> bool:
        for folder in folders(node):
            with contextlib.suppress(OSError):  # busy until the kernel has buried the last process
                folder.rmdir()
        return not folders(node)

    wait_until(gone, timeout_s=REMOVAL_TIMEOUT_S, what=f"the cgroup folders {ROOT}/{node} to become removable")
