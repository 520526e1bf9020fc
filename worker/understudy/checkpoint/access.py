"""Why this process may not use a folder of the volume, and what mends that on a volume of this kind.

Names the process's uid, gid and groups, and the folder's owner, group and mode, so that the reader need not enter the
pod. The remedy depends on the file system, because what works on one has no effect on another. A `chown` by an init
container that runs as root is refused where the server maps root to nobody (NFS). Neither it nor fsGroup has an effect
where the owner is an option of the mount (SMB). The kubelet gives a volume to the pod's fsGroup only where its driver
allows that: not on hostPath and NFS volumes. Knows no access rules beyond owner, group and mode. Reads no clock.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
_NFS: Final = frozenset({"nfs", "nfs4"})
_OWNED_BY_MOUNT: Final = frozenset({"cifs", "smb3", "vfat", "exfat", "ntfs3"})
"""File systems without owners of their own: the options of the mount name one for all files."""


@dataclass(frozen=True, slots=True)
class Process:
    """Who asks."""

    uid: int
    gid: int
    groups: frozenset[int]
    """All of its groups, fsGroup and supplementalGroups included."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder, or the file, that it asks for."""

    path: Path
    uid: int
    gid: int
    mode: int
    """Permission bits."""
    kind: str
    """Type of the file system, as the kernel names it; empty where that is not known."""
    is_folder: bool = True

    def admits(self, process: Process) -> bool:
        """Tell whether owner, group and mode let the process change the folder or read the file.

        The first class that fits decides, also where a later one would allow more.
        """
        if process.uid == 0:
            return True
        shift = 6 if process.uid == self.uid else 3 if self.gid in process.groups | {process.gid} else 0
        wanted = 0o7 if self.is_folder else 0o4
        return (self.mode >> shift) & wanted == wanted


def explain_denial(path: Path) -> str:
    """Say who was refused at which folder or file, and what to do; `path` is what could not be made or read."""
    process = Process(os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    return explain(process, _find_refuser(process, path))


def explain(process: Process, place: Place | None) -> str:
    """Compose the sentence."""
    who = f"uid {process.uid}, gid {process.gid}"
    if place is None:
        return f"this process ({who}) may not even look at the folder: let it enter all folders above"
    on = f", file system {place.kind}" if place.kind else ""
    what = "folder" if place.is_folder else "file"
    said = (
        f"this process has {who}, groups {_numbers(process.groups)}; {what} {place.path} has owner {place.uid}, group "
        f"{place.gid}, mode {place.mode:04o}{on}"
    )
    return f"{said}. {_remedy(process, place)}"


def _remedy(process: Process, place: Place) -> str:
    ids = f"{process.uid}:{process.gid}"
    if place.admits(process):
        return "Owner and mode would admit it: look at the storage's own rules (export options, ACLs, immutable flags)"
    if place.kind in _OWNED_BY_MOUNT:
        return (
            f"There the mount decides: set mountOptions uid={process.uid}, gid={process.gid}, dir_mode=0770, "
            "file_mode=0660 in the StorageClass or the PersistentVolume; chown and fsGroup have no effect"
        )
    if process.uid == place.uid:
        return f"It is this user's own, but its mode is too narrow: `chmod u+rwx {place.path}`"
    if place.gid in process.groups | {process.gid}:
        return f"Its group is right, but its mode is too narrow: `chmod g+rwx {place.path}` as its owner or as root"
    user = (
        f", or run as its owner (runAsUser: {place.uid}, runAsGroup: {place.gid} in the template's securityContext)"
        if place.uid != 0
        else ""
    )
    if place.kind in _NFS:
        return (
            f"NFS ignores the pod's fsGroup: `chown {ids}` the exported folder on the server{user}; chown as root in "
            "an init container works only where the export has no_root_squash"
        )
    return (
        "The pod's fsGroup had no effect on it, as on hostPath volumes and with CSI drivers whose fsGroupPolicy is None"
        f": `chown {ids} {place.path}` as root, in an init container of the template "
        f"(docs/how-to/volume-permissions.md has one) or on the storage itself{user}"
    )


def _find_refuser(process: Process, path: Path) -> Place | None:
    """Find what refuses: `path` or the nearest folder above it that is there; the one above that if only it does."""
    there = [place for place in map(_look_at, (path, *path.parents)) if place is not None][:2]
    return next((place for place in there if not place.admits(process)), there[0] if there else None)


def _look_at(path: Path) -> Place | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    mode, is_folder = stat.S_IMODE(facts.st_mode), stat.S_ISDIR(facts.st_mode)
    return Place(path, facts.st_uid, facts.st_gid, mode, kind_of(path), is_folder)


def kind_of(folder: Path, mounts: Path = MOUNTS) -> str:
    """Name the type of the file system that a folder lies on (proc_pid_mountinfo(5)); empty if nothing tells."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    found = ("", "")
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = fields[4].replace("\\040", " ")
        # The last of those that are mounted on one point hides the others.
        if len(point) >= len(found[0]) and folder.is_relative_to(point):
            found = (point, after.split()[0])
    return found[1]


def _numbers(groups: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(groups))) or "none"
