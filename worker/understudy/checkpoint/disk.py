"""The operating system's file system, below one root on which others may write.

Guarantees that nothing below the root is reached through a symbolic link: each folder on the way is opened by its name
in the folder before it (openat with O_NOFOLLOW), and the call itself names its object in the last of them. So a folder
that somebody replaces by a link, before or during a call, is an error (ENOTDIR), never a way out of the root.
Guarantees that `read` opens regular files only, never waits for the other end of a pipe, and allocates no more than it
was allowed. The root itself may be a link, and so may everything above it: the user chose that path.

Does not protect one process on the root from another: whoever may write there may rename, remove and forge. Code of
others that is given a path (`TermWriter.publish_final`) follows links as usual. Reads no clock.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from understudy.checkpoint.filesystem import NotAFile, Space

_T = TypeVar("_T")

# O_PATH needs no right to list a folder and asks an NFS server nothing; systems without it open the folder for reading.
_ENTER: Final = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK: a pipe without a writer opens at once, and is then refused; it changes nothing for a regular file."""

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


class Disk:
    """Implements FileSystem below `root`; a path that is not below it is taken as it is."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, folder: Path) -> list[str]:
        """See FileSystem."""

        def listed(name: str, parent: int | None) -> list[str]:
            opened = _enter(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, parent)
            try:
                return os.listdir(opened)  # noqa: PTH208 - of a descriptor
            finally:
                os.close(opened)

        return self._at(folder, listed)

    def read(self, path: Path, limit_bytes: int) -> memoryview:
        """See FileSystem. A file that was removed under a network file system's reader is not found."""
        try:
            with open(self._at(path, _open_file), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
                size = os.fstat(file.fileno()).st_size
                if size > limit_bytes:
                    raise NotAFile(path, f"it is {size} bytes long, where at most {limit_bytes} are expected")
                # numpy leaves the buffer as it is; a bytearray would be zeroed first.
                buffer = np.empty(size, np.uint8).data
                filled = 0
                while filled < len(buffer) and (count := file.readinto(buffer[filled:])):
                    filled += count
                return buffer[:filled]
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise FileNotFoundError(errno.ENOENT, "removed while it was read", str(path)) from error
            raise

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """See FileSystem."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        opened = self._at(path, lambda name, parent: os.open(name, flags, 0o666, dir_fd=parent))
        with open(opened, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            for chunk in chunks:
                rest = memoryview(chunk).cast("B")
                while len(rest):
                    rest = rest[file.write(rest) :]
            os.fsync(file.fileno())

    def make_folder(self, path: Path) -> None:
        """See FileSystem."""
        self._at(path, lambda name, parent: os.mkdir(name, dir_fd=parent))

    def sync(self, folder: Path) -> None:
        """See FileSystem."""
        opened = self._at(folder, lambda name, parent: _enter(name, _READ, parent))
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def link(self, source: Path, target: Path) -> None:
        """See FileSystem."""

        def linked(name: str, parent: int | None) -> None:
            def beside(new: str, folder: int | None) -> None:
                os.link(name, new, src_dir_fd=parent, dst_dir_fd=folder, follow_symlinks=False)

            self._at(target, beside)

        self._at(source, linked)

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""

        def renamed(name: str, parent: int | None) -> None:
            new = str(target) if parent is None else target.name
            os.replace(name, new, src_dir_fd=parent, dst_dir_fd=parent)

        self._at(source, renamed)

    def remove(self, path: Path) -> None:
        """See FileSystem."""
        self._at(path, lambda name, parent: os.unlink(name, dir_fd=parent))

    def remove_folder(self, path: Path) -> None:
        """See FileSystem."""
        self._at(path, lambda name, parent: os.rmdir(name, dir_fd=parent))

    def space(self, path: Path) -> Space:
        """See FileSystem."""

        def asked(name: str, parent: int | None) -> os.statvfs_result:
            opened = _enter(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, parent)
            try:
                return os.statvfs(opened)
            finally:
                os.close(opened)

        facts = self._at(path, asked)
        return Space(facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize)

    def _at(self, path: Path, call: Callable[[str, int | None], _T]) -> _T:
        """Call with the path's last name and the open folder that holds it; name the whole path in an error.

        A folder that a network file system's cache still has, but the server has not (ESTALE), is looked up once more,
        as the kernel does for a whole path.
        """
        for again in (True, False):
            try:
                with self._folder_of(path) as (name, parent):
                    return call(name, parent)
            except OSError as error:
                if error.errno == errno.ESTALE and again:
                    continue
                if error.filename is None or "/" not in str(error.filename):
                    error.filename, error.filename2 = str(path), None
                raise
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _folder_of(self, path: Path) -> Iterator[tuple[str, int | None]]:
        if path == self._root or not path.is_relative_to(self._root):
            yield str(path), None
            return
        *folders, name = path.relative_to(self._root).parts
        opened = os.open(self._root, _ENTER)
        try:
            for folder in folders:
                inner = _enter(folder, _ENTER, opened)
                os.close(opened)
                opened = inner
            yield name, opened
        finally:
            os.close(opened)


def _enter(name: str, flags: int, parent: int | None) -> int:
    """Open by name in an open folder, without following a link; systems differ in how they say that it is one."""
    try:
        return os.open(name, flags | (os.O_NOFOLLOW if parent is not None else 0), dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(errno.ENOTDIR, "a symbolic link, which is never followed", name) from error
        raise


def _open_file(name: str, parent: int | None) -> int:
    """Open a regular file for reading; NotAFile for whatever else has this name."""
    try:
        opened = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # ENXIO: a socket
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                raise NotAFile(name, _kind(mode)) from error
        raise
    mode = os.fstat(opened).st_mode
    if not stat.S_ISREG(mode):
        os.close(opened)
        raise NotAFile(name, _kind(mode))
    return opened


def _kind(mode: int) -> str:
    return f"it is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, and no file"
