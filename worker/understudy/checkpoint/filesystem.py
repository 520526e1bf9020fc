"""The few calls to a file system that checkpoints need, behind a protocol, so that a test can cut the power between any
two.

Guarantees: `write` returns only when the file's bytes are durable; a NAME (of a file, a link, a folder, a rename) is
durable only once the folder that holds it was synced. Assumes what POSIX file systems and NFS give: rename within a
folder is atomic, and replaces a file. Reads no clock.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from understudy.checkpoint.access import explain_denial
from understudy.errors import VolumeFailed, VolumeFull, VolumeReadOnly, VolumeTrouble

TEMPORARY: Final = ".tmp-"
"""Prefix of everything that is not finished, or about to be removed: readers ignore it, its owner sweeps it."""

GONE: Final = TEMPORARY + "gone-"
"""Prefix of what is being removed."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
)
"""How file systems say that they make no hard link (here)."""

_WRONG_PATH: Final = frozenset({errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL})
"""How file systems answer who got a path wrong."""

_UNREADABLE: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})
"""How file systems say that a file's bytes are lost."""


_STORAGE: Final = (
    FULL | _UNREADABLE | {errno.EROFS, errno.ESTALE, errno.EREMOTEIO, errno.ENODEV, errno.ENXIO, errno.EUCLEAN}
)
"""What no socket answers."""


@dataclass(frozen=True, slots=True)
class Space:
    """Room on a volume, in bytes; a total of 0 means that the file system does not tell."""

    free: int
    total: int


class FileSystem(Protocol):
    """Every method raises OSError and nothing else."""

    def names(self, folder: Path) -> list[str]:
        """List a folder's entries."""

    def read(self, path: Path) -> memoryview:
        """Read a whole file into a fresh, writable buffer."""

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """Create a file that must not exist, write the chunks, and make its bytes durable."""

    def make_folder(self, path: Path) -> None:
        """Make one folder that must not exist, in one that must."""

    def sync(self, folder: Path) -> None:
        """Make the names in a folder, or the bytes of a file, durable."""

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name that must not exist."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one folder, atomically; a file replaces a file."""

    def remove(self, path: Path) -> None:
        """Remove a file's name."""

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""

    def space(self, path: Path) -> Space:
        """Tell the room on the volume of a path."""


class Disk:
    """The operating system's file system."""

    def names(self, folder: Path) -> list[str]:
        """See FileSystem."""
        return os.listdir(folder)  # noqa: PTH208 - names alone, without a Path each

    def read(self, path: Path) -> memoryview:
        """See FileSystem. A file that was removed under a network file system's reader is not found."""
        try:
            return self._read(path)
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise FileNotFoundError(errno.ENOENT, "removed while it was read", str(path)) from error
            raise

    def _read(self, path: Path) -> memoryview:
        with path.open("rb", buffering=0) as file:
            # numpy leaves the buffer as it is; a bytearray would be zeroed first.
            buffer = np.empty(os.fstat(file.fileno()).st_size, np.uint8).data
            filled = 0
            while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
                filled += count
            return buffer[:filled]

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """See FileSystem."""
        with path.open("xb", buffering=0) as file:
            for chunk in chunks:
                rest = memoryview(chunk).cast("B")
                while len(rest):
                    rest = rest[file.write(rest) :]
            os.fsync(file.fileno())

    def make_folder(self, path: Path) -> None:
        """See FileSystem."""
        path.mkdir()

    def sync(self, folder: Path) -> None:
        """See FileSystem."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        os.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """See FileSystem."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """See FileSystem."""
        path.rmdir()

    def space(self, path: Path) -> Space:
        """See FileSystem."""
        facts = os.statvfs(path)
        return Space(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize)


def read_intact(fs: FileSystem, path: Path) -> memoryview:
    """Read a file; ValueError if the storage twice says that it cannot."""
    try:
        return fs.read(path)
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
    try:
        return fs.read(path)
    except OSError as error:
        if error.errno not in _UNREADABLE:
            raise
        raise ValueError(f"the storage cannot read it ({error.strerror})") from error


def remove_tree(fs: FileSystem, path: Path, first: str = "") -> None:
    """Remove a file or a folder with all in it, the file named `first` first;

    what is gone already, or still in use, is no error.
    """
    try:
        names = fs.names(path)
    except NotADirectoryError:
        with contextlib.suppress(FileNotFoundError):
            fs.remove(path)
        return
    except FileNotFoundError:
        return
    for name in sorted(names, key=lambda name: (name != first, name)):
        remove_tree(fs, path / name, first)
    try:
        fs.remove_folder(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # NFS keeps an open file's bytes under another name in the folder until the reader closes it: the next sweep
        # takes it.
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise


@contextlib.contextmanager
def volume_errors(action: str, path: Path, *, foreign: bool = False) -> Iterator[None]:
    """Translate an OSError within into the kind of VolumeTrouble that says what to do.

    `foreign`: code of others runs within, which may fail for other reasons than the volume; that passes as it is.
    """
    try:
        yield
    except OSError as error:
        if foreign and not _of_volume(error, path):
            raise
        raise _trouble(error, action, path) from error


def _of_volume(error: OSError, folder: Path) -> bool:
    """Tell whether an error is about what lies in this folder; one without a path, whether only a storage gives it."""
    name = error.filename
    if not isinstance(name, str | bytes):
        return error.errno in _STORAGE
    here = Path(os.fsdecode(name)).is_relative_to(folder)
    return here and (error.errno not in _WRONG_PATH or not os.path.exists(folder))  # noqa: PTH110 - never raises


def _trouble(error: OSError, action: str, path: Path) -> VolumeTrouble:
    reason = error.strerror or str(error)
    where = error.filename or path
    if error.errno in FULL:
        return VolumeFull(
            f"cannot {action}: the volume is full ({reason}) at {where}; "
            "enlarge the claim, remove what other jobs have left there, or make another job with a lower keep",
            error.errno,
        )
    if error.errno == errno.EROFS:
        return VolumeReadOnly(
            f"cannot {action}: the volume is mounted read-only ({reason}) at {where}; mount it for writing (readOnly "
            "of the volume and its mount, accessModes of the claim), or look why the node has remounted it",
            error.errno,
        )
    if error.errno in _DENIED:
        denial = explain_denial(Path(os.fsdecode(where)))
        return VolumeReadOnly(f"cannot {action}: {reason} at {where}: {denial}", error.errno)
    if error.errno == errno.ENOENT:
        return VolumeFailed(
            f"cannot {action}: {where} has vanished from the volume; bring it back, or let the pod be replaced",
            error.errno,
        )
    return VolumeFailed(
        f"cannot {action}: the storage failed ({reason}) at {where}; look at the node's kernel log and at the storage",
        error.errno,
    )
