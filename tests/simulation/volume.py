"""The volume, as the nodes that mount it see it.

One `Volume` holds the truth. Each node has a `Mount` of it, which believes what it once read of a folder for up to
`cache_s`, names that were not there included, as an NFS client with attribute, directory and negative caches does (its
own changes it sees at once). What it still has hold of and another node removed answers ESTALE. A request that the
client sends twice is carried out once and answered by what the second one finds.
"""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.memory_volume import MemoryFileSystem, _File, _Folder

ROOT = Path("/understudy/checkpoints")


class Volume(MemoryFileSystem):
    """The truth. `renamed` are told of each rename."""

    def __init__(self, *, links: bool) -> None:
        super().__init__(links=links)
        self.renamed: list[Callable[[Path], None]] = []
        self.changes = 0
        for path in (ROOT.parent, ROOT):
            self.make_folder(path)
            self.sync(path.parent)

    def holds(self, folder: _Folder, path: Path) -> bool:
        """Tell whether a folder still has this name: who has hold of one that was removed writes where nobody looks."""
        try:
            return self._find(path) is folder
        except OSError:
            return False


class Mount(MemoryFileSystem):
    """The volume on one node."""

    def __init__(
        self, volume: Volume, now: Callable[[], float], cache_s: float, sent_twice: Callable[[], bool]
    ) -> None:
        super().__init__(links=volume.links)
        self._volume = volume
        self._root = volume._root
        self._now = now
        self.cache_s = cache_s
        self._sent_twice = sent_twice
        self._believed: dict[_Folder, tuple[float, dict[str, _File | _Folder]]] = {}

    def forget(self) -> None:
        """Lose the caches: the node starts anew."""
        self._believed.clear()
        self._root = self._volume._root

    def names(self, folder: Path) -> list[str]:
        """See FileSystem."""
        return list(self._entries(self._folder(folder)))

    def write(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """See FileSystem."""
        super().write(path, chunks)
        self._after(path)

    def make_folder(self, path: Path) -> None:
        """See FileSystem."""
        super().make_folder(path)
        self._after(path)
        if self._sent_twice():
            raise _error(errno.EEXIST, path)

    def link(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        super().link(source, target)
        self._after(target)

    def rename(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        super().rename(source, target)
        self._after(target)
        if self._volume.holds(self._folder(target.parent), target.parent):
            for observer in self._volume.renamed:
                observer(target)

    def remove(self, path: Path) -> None:
        """See FileSystem."""
        super().remove(path)
        self._after(path)

    def remove_folder(self, path: Path) -> None:
        """See FileSystem."""
        super().remove_folder(path)
        self._after(path)

    def _after(self, path: Path) -> None:
        self._volume.changes += 1
        self._believed.pop(self._folder(path.parent), None)

    def _entries(self, folder: _Folder) -> dict[str, _File | _Folder]:
        if not self.cache_s:
            return folder.entries
        until, entries = self._believed.get(folder, (0.0, {}))
        if self._now() >= until:
            if folder.removed:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            entries = dict(folder.entries)
            self._believed[folder] = self._now() + self.cache_s, entries
        return entries

    def _find(self, path: Path) -> _File | _Folder:
        if not self.cache_s:
            return super()._find(path)
        node: _File | _Folder = self._root
        holder = self._root
        for part in path.parts[1:]:
            if isinstance(node, _File):
                raise _error(errno.ENOTDIR, path)
            holder = node
            found = self._entries(node).get(part)
            if found is None:
                raise _error(errno.ENOENT, path)
            node = found
        if isinstance(node, _File) and holder.entries.get(path.name) is not node:
            raise _error(errno.ENOENT, path)  # opening it asks the server, which knows that it was removed
        return node

    def _own(self, path: Path) -> _File | _Folder:
        folder = self._folder(path.parent)
        if folder.removed:
            raise _error(errno.ESTALE, path)
        node = folder.entries.get(path.name)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def _add(self, path: Path, node: _File | _Folder) -> None:
        if self._folder(path.parent).removed:
            raise _error(errno.ESTALE, path)
        super()._add(path, node)
        self._believed.pop(self._folder(path.parent), None)


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))
