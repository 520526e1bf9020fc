"""The end of a cluster, of a half-made one, and of what is left of one that was ended from outside.

Everything is found by what only the cluster makes (its namespaces, cgroups, mounts, links, routes), so it works
without a record of what was started. Caches stay: programs, images, and the images on the nodes' disks. So do the empty
folders that nodes mount theirs over (/var/lib/kubelet and the like): to remove one would unmount it in the nodes of any
other cluster on this machine.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from localcluster import cgroups, network, paths, processes, storage
from localcluster.shell import ClusterError, run

SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)  # of the whole machine; kubelets set them


def sysctls() -> dict[str, str]:
    """Return the settings of the machine that a kubelet changes."""
    found = {}
    for name in SYSCTLS:
        with contextlib.suppress(OSError):
            found[name] = Path("/proc/sys", name).read_text().strip()
    return found


def mounts() -> list[str]:
    """Return the cluster's mount points in this machine's own view, deepest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if Path(point).is_relative_to(paths.VOLUMES) or right.split()[1] == storage.TMPFS_SOURCE:
            found.append(point)
    return sorted(found, key=len, reverse=True)


def residue() -> list[str]:
    """Return what is there of a cluster, running or not: empty when nothing is."""
    return [
        *(f"process {identity.pid}" for identity in processes.ours()),
        *(f"mount {point}" for point in mounts()),
        *(f"network namespace {name}" for name in network.namespaces()),
        *(f"route {route}" for route in network.routes()),
        *(f"link {link}" for link in network.links()),
        *(f"cgroup {folder}" for folder in cgroups.folders()),
    ]


def remove() -> None:
    """End and remove everything but the caches; ClusterError names what resisted."""
    state = paths.State.load()
    processes.end(processes.ours())
    processes.end(processes.ours())  # what the first ones started while they were being looked for
    for point in mounts():
        run(["umount", "--lazy", point])
    network.remove()
    cgroups.remove()
    if state is not None:
        for name, value in state.sysctls.items():
            with contextlib.suppress(OSError):
                Path("/proc/sys", name).write_text(value)
        clear(Path(state.home))
    shutil.rmtree(paths.RUN, ignore_errors=True)
    left = residue()
    if left:
        raise ClusterError(f"could not remove {', '.join(left)}: remove these by hand, then try again")


def clear(home: Path) -> None:
    """Empty a cluster's folder but for the images on its nodes' disks and the logs of the last run."""
    for entry in home.iterdir() if home.is_dir() else ():
        if entry.name == "nodes":
            for store in entry.iterdir():
                _clear_node(store)
        elif entry.name != "logs":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _clear_node(store: Path) -> None:
    """Empty a node's disk but for its images; a marker tells its next start to forget its containers."""
    images = store / "var/lib/containerd"
    for folder in (store, store / "var", store / "var/lib"):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry == images or images.is_relative_to(entry):
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if images.is_dir():
        (store / "purge").touch()
