"""The few calls to a file system that checkpoints need, behind a protocol, so that a test can cut the power between any
two.

Guarantees: `write` returns only when the file's bytes are durable; a NAME (of a file, a link, a folder, a rename) is
durable only once the folder that holds it was synced. No call follows a symbolic link below the volume's root, and
`read` reads regular files only: others may write on the volume, too (disk.py). Assumes what POSIX file systems and NFS
give: rename within a folder is atomic, and replaces a file. Reads no clock.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

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

_IN_THE_WAY: Final = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP})
"""How file systems say that something else has a name that is needed."""

TREE_LEVELS_MAX: Final = 64
"""Folders nested deeper than this are left where they are: nobody here makes more than three levels."""

_WRONG_PATH: Final = frozenset({errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL})
"""How file systems answer who got a path wrong."""

_UNREADABLE: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})
"""How file systems say that a file's bytes are lost."""


_STORAGE: Final = FULL | _UNREADABLE | {errno.EROFS, errno.ESTALE, errno.EREMOTEIO, errno.ENODEV, errno.ENXIO}
"""What no socket answers."""


@dataclass(frozen=True, slots=True)
class Space:
    """Room on a volume, in bytes; a total of 0 means that the file system does not tell."""

    free: int
    total: int


class NotAFile(OSError):  # noqa: N818 - like NotADirectoryError, in the other direction
    """What lies at a path is no regular file, or a longer one than its reader allows. It was not read."""

    def __init__(self, path: Path | str, what: str) -> None:
        super().__init__(errno.EINVAL, what, str(path))


class FileSystem(Protocol):
    """Every method raises OSError and nothing else."""

    def names(self, folder: Path) -> list[str]:
        """List a folder's entries. Raises NotADirectoryError for a symbolic link, too."""

    def read(self, path: Path, limit_bytes: int) -> memoryview:
        """Read a whole file into a fresh, writable buffer.

        Raises NotAFile, before anything is allocated, for what is no regular file or is longer than the limit.
        """

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


def read_intact(fs: FileSystem, path: Path, limit_bytes: int) -> memoryview:
    """Read a file; ValueError if the storage twice says that it cannot, or if it is no file or too long."""
    for again in (True, False):
        try:
            return fs.read(path, limit_bytes)
        except NotAFile as error:
            raise ValueError(error.strerror) from error
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
            if not again:
                raise ValueError(f"the storage cannot read it ({error.strerror})") from error
    raise AssertionError("unreachable")


def put_in_place(fs: FileSystem, source: Path, target: Path) -> None:
    """Rename a file to its name; a folder that somebody made there is removed first."""
    try:
        fs.rename(source, target)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        remove_tree(fs, target)
        fs.rename(source, target)


def remove_tree(fs: FileSystem, path: Path, first: str = "", levels: int = TREE_LEVELS_MAX) -> None:
    """Remove a file, a link, or a folder with all in it, the file named `first` first. A link is never entered.

    What is gone already is no error. What is still in use, or nested too deep, stays, and so do the folders above it.
    """
    try:
        names = fs.names(path)
    except NotADirectoryError:
        with contextlib.suppress(FileNotFoundError):
            fs.remove(path)
        return
    except FileNotFoundError:
        return
    if levels:
        for name in sorted(names, key=lambda name: (name != first, name)):
            remove_tree(fs, path / name, first, levels - 1)
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
    if error.errno in _IN_THE_WAY or isinstance(error, NotAFile):
        return VolumeFailed(
            f"cannot {action}: something that Understudy did not make is in the way ({reason}) at {where}; links "
            "on the volume are never followed; move it away, and put back what belongs there",
            error.errno,
        )
    if error.errno == errno.ENOENT:
        return VolumeFailed(
            f"cannot {action}: {where} is missing on the volume; bring it back, or let the pod be replaced",
            error.errno,
        )
    return VolumeFailed(
        f"cannot {action}: the storage failed ({reason}) at {where}; look at the node's kernel log and at the storage",
        error.errno,
    )
