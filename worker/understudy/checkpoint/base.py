"""The base of a term: the checkpoint that it goes on from, and its way into the term's own folder.

A term counts for readers once its folder holds a durable checkpoint. At first that is its base, under a second name: a
hard link, made when the term is opened, so that the base stays whatever its own term prunes. Where the volume has no
links, the base is copied before the first commit. Reads no clock.
"""

from pathlib import Path

from understudy.checkpoint.filesystem import NO_LINKS, TEMPORARY, FileSystem, remove_tree
from understudy.checkpoint.format import MANIFEST, MANIFEST_MAX_BYTES, STATE, Checkpoint, read
from understudy.errors import CheckpointDamaged


class Base:
    """The base of one term."""

    def __init__(self, fs: FileSystem, checkpoint: Checkpoint, folder: Path) -> None:
        """Bring `checkpoint` into `folder`, by `link` or `settle`."""
        self.ref = checkpoint.ref
        self.source = checkpoint.location
        self.is_here = False
        """It has a name in the folder, which may not be durable."""
        self._fs = fs
        self._target = folder / f"step-{self.ref.step}"
        self._temporary = folder / f"{TEMPORARY}base"

    def link(self) -> None:
        """Give the base a second name, if the volume has links and the base is still there."""
        try:
            self._fs.make_folder(self._temporary)
            for name in (STATE, MANIFEST):
                self._fs.link(self.source / name, self._temporary / name)
            self._fs.rename(self._temporary, self._target)
        except OSError as error:
            if error.errno not in NO_LINKS and not isinstance(error, FileNotFoundError):
                raise
            remove_tree(self._fs, self._temporary)
        else:
            self.is_here = True

    def settle(self) -> bool:
        """Make the base durable in the folder. Return False where there are no links and it is gone, or damaged."""
        self.is_here = self.is_here or self._copy()
        if self.is_here:
            self._fs.sync(self._target)
        return self.is_here

    def _copy(self) -> bool:
        try:
            found = read(self._fs, self.source)
            if found.ref != self.ref:
                return False
            size = sum(array.nbytes for array in found.tensors.values())
            state = self._fs.read(self.source / STATE, size + MANIFEST_MAX_BYTES)  # the header repeats the manifest
            manifest = self._fs.read(self.source / MANIFEST, MANIFEST_MAX_BYTES)
        except (CheckpointDamaged, FileNotFoundError):
            return False
        self._fs.make_folder(self._temporary)
        self._fs.write(self._temporary / STATE, [state])
        self._fs.write(self._temporary / MANIFEST, [manifest])
        self._fs.rename(self._temporary, self._target)
        return True
