"""A file system in memory whose power can be cut, and one that can be interrupted between any two calls: for tests and
simulations.

Harsher than any real one: at a power cut every name that was not synced survives or not, each by itself, and bytes that
were not synced come back whole, cut, zeroed or not at all. Only a rename is atomic. Deterministic for a seeded
`random.Random`.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from understudy.checkpoint.filesystem import FileSystem, NotAFile, Space


class PowerCut(BaseException):
    """The machine is gone: no handler for errors runs on it any more."""


@dataclass(eq=False, slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of a folder that was not synced yet: names that go, and the one that comes."""

    removed: tuple[str, ...]
    added: str | None
    node: "_File | _Folder | None"


@dataclass(eq=False, slots=True)
class _Folder:
    entries: "dict[str, _File | _Folder]" = field(default_factory=dict)
    durable: "dict[str, _File | _Folder]" = field(default_factory=dict)
    journal: list[_Change] = field(default_factory=list)
    removed: bool = False
    """It has no name any more; whoever still has hold of it gets ESTALE."""

    def change(self, removed: tuple[str, ...], added: str | None, node: "_File | _Folder | None") -> None:
        change = _Change(removed, added, node)
        _apply(change, self.entries)
        self.journal.append(change)


def _apply(change: _Change, entries: "dict[str, _File | _Folder]") -> None:
    for name in change.removed:
        entries.pop(name, None)
    if change.added is not None and change.node is not None:
        entries[change.added] = change.node


class MemoryFileSystem:
    """Implements FileSystem; `/` exists, and is durable."""

    def __init__(self, *, links: bool = True, capacity_bytes: int | None = None) -> None:
        self.links = links
        self.capacity_bytes = capacity_bytes
        self.read_only = False
        self._root = _Folder()

    def power_cut(self, random: Random) -> None:
        """Keep what is durable, and of all else what chance keeps."""
        self._cut(self._root, random, set())

    def damage(self, path: Path, change: Callable[[bytearray], None]) -> None:
        """Change a file's bytes in place, behind everybody's back."""
        change(self._file(path).data)

    def names(self, folder: Path) -> list[str]:
        """See FileSystem."""
        return list(self._folder(folder).entries)

    def read(self, path: Path, limit_bytes: int) -> memoryview:
        """See FileSystem."""
        data = self._file(path).data
        if len(data) > limit_bytes:
            raise NotAFile(path, f"it is {len(data)} bytes long, where at most {limit_bytes} are expected")
        return memoryview(bytearray(data))

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """See FileSystem."""
        file = _File()
        self._add(path, file)
        for chunk in chunks:
            if self.space(path).free < memoryview(chunk).nbytes:
                raise _error(errno.ENOSPC, path)
            file.data += chunk
        file.durable = True

    def make_folder(self, path: Path) -> None:
        """See FileSystem."""
        self._add(path, _Folder())

    def sync(self, folder: Path) -> None:
        """See FileSystem."""
        node = self._find(folder)
        if isinstance(node, _File):
            node.durable = True
        else:
            node.durable = dict(node.entries)
            node.journal.clear()

    def link(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        if not self.links:
            raise _error(errno.EOPNOTSUPP, target)
        self._add(target, self._file(source))

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        self._require_writable(target)
        assert source.parent == target.parent, "only renames within a folder are atomic everywhere"
        folder, node = self._folder(source.parent), self._own(source)
        there = folder.entries.get(target.name)
        if isinstance(there, _Folder) and there.entries:
            raise _error(errno.ENOTEMPTY, target)
        folder.change((source.name,), target.name, node)

    def remove(self, path: Path) -> None:
        """See FileSystem."""
        self._require_writable(path)
        if isinstance(self._own(path), _Folder):
            raise _error(errno.EISDIR, path)
        self._folder(path.parent).change((path.name,), None, None)

    def remove_folder(self, path: Path) -> None:
        """See FileSystem."""
        self._require_writable(path)
        node = self._own(path)
        if isinstance(node, _File):
            raise _error(errno.ENOTDIR, path)
        if node.entries:
            raise _error(errno.ENOTEMPTY, path)
        self._folder(path.parent).change((path.name,), None, None)
        node.removed = True

    def space(self, path: Path) -> Space:
        """See FileSystem."""
        if self.capacity_bytes is None:
            return Space(1 << 62, 0)
        used = sum(len(file.data) for file in set(_files(self._root)))
        return Space(max(self.capacity_bytes - used, 0), self.capacity_bytes)

    def _find(self, path: Path) -> _File | _Folder:
        node: _File | _Folder = self._root
        for part in path.parts[1:]:
            if isinstance(node, _File):
                raise _error(errno.ENOTDIR, path)
            if part not in node.entries:
                raise _error(errno.ENOENT, path)
            node = node.entries[part]
        return node

    def _own(self, path: Path) -> _File | _Folder:
        """Find what a change is about: the server's own view, whatever a client believes."""
        return self._find(path)

    def _folder(self, path: Path) -> _Folder:
        node = self._find(path)
        if isinstance(node, _File):
            raise _error(errno.ENOTDIR, path)
        return node

    def _file(self, path: Path) -> _File:
        node = self._find(path)
        if isinstance(node, _Folder):
            raise NotAFile(path, "it is a folder, and no file")
        return node

    def _require_writable(self, path: Path) -> None:
        if self.read_only:
            raise _error(errno.EROFS, path)

    def _add(self, path: Path, node: _File | _Folder) -> None:
        parent = self._folder(path.parent)
        if path.name in parent.entries:
            raise _error(errno.EEXIST, path)
        self._require_writable(path)
        parent.change((), path.name, node)

    def _cut(self, node: _File | _Folder, random: Random, seen: set[int]) -> None:
        if id(node) in seen:  # a file with two names
            return
        seen.add(id(node))
        if isinstance(node, _File):
            if not node.durable:
                node.data = _mangled(node.data, random)
                node.durable = True
            return
        for change in node.journal:
            if random.random() < 0.5:
                _apply(change, node.durable)
        node.entries = dict(node.durable)
        node.removed = False
        node.journal.clear()
        for entry in node.entries.values():
            self._cut(entry, random, seen)


@dataclass(slots=True)
class InterruptedFileSystem:
    """Calls `before(name of the call, path)` before each call, and before each chunk and the sync within a write.

    There a test cuts the power (PowerCut), fails a call (OSError), or lets another actor run. After a PowerCut every
    call raises it.
    """

    inner: FileSystem
    before: Callable[[str, Path], None]
    dead: bool = False

    def names(self, folder: Path) -> list[str]:
        """See FileSystem."""
        self._pass("names", folder)
        return self.inner.names(folder)

    def read(self, path: Path, limit_bytes: int) -> memoryview:
        """See FileSystem."""
        self._pass("read", path)
        return self.inner.read(path, limit_bytes)

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """See FileSystem."""
        self._pass("create", path)
        self.inner.write(path, self._chunks(path, chunks))

    def make_folder(self, path: Path) -> None:
        """See FileSystem."""
        self._pass("make_folder", path)
        self.inner.make_folder(path)

    def sync(self, folder: Path) -> None:
        """See FileSystem."""
        self._pass("sync", folder)
        self.inner.sync(folder)

    def link(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        self._pass("link", target)
        self.inner.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        self._pass("rename", target)
        self.inner.rename(source, target)

    def remove(self, path: Path) -> None:
        """See FileSystem."""
        self._pass("remove", path)
        self.inner.remove(path)

    def remove_folder(self, path: Path) -> None:
        """See FileSystem."""
        self._pass("remove_folder", path)
        self.inner.remove_folder(path)

    def space(self, path: Path) -> Space:
        """See FileSystem."""
        self._pass("space", path)
        return self.inner.space(path)

    def _chunks(self, path: Path, chunks: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for chunk in chunks:
            self._pass("write", path)
            yield chunk
        self._pass("sync", path)

    def _pass(self, call: str, path: Path) -> None:
        if self.dead:
            raise PowerCut
        try:
            self.before(call, path)
        except PowerCut:
            self.dead = True
            raise


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))


def _files(folder: _Folder) -> Iterator[_File]:
    for entry in folder.entries.values():
        if isinstance(entry, _File):
            yield entry
        else:
            yield from _files(entry)


def _mangled(data: bytearray, random: Random) -> bytearray:
    cut = random.randrange(len(data) + 1)
    return random.choice([data, data[:cut], data[:cut] + bytes(len(data) - cut), bytearray(len(data)), bytearray()])
