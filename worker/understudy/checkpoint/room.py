"""Room for checkpoints on a volume, asked for before the first save of a fresh start. Reads no clock."""

import errno
from pathlib import Path

from understudy.checkpoint.filesystem import FileSystem
from understudy.errors import VolumeTooSmall


def require_space(fs: FileSystem, root: Path, folder: Path, keep: int, size_bytes: int) -> None:
    """Require room for what is kept. A save happens beside the kept ones: with keep=1, too, two must fit.

    Raises VolumeTooSmall where they never will, and ENOSPC where something else takes their room.
    """
    space = fs.space(folder)
    copies = max(keep, 2)
    needed = copies * size_bytes
    if not space.total or space.free >= needed:
        return
    what = f"{copies} checkpoints of {size_text(size_bytes)} need {size_text(needed)} (keep is {keep})"
    if space.total < needed:
        raise VolumeTooSmall(
            f"the volume at {root} holds {size_text(space.total)}, but {what}: use a larger claim, or a lower keep"
        )
    raise OSError(errno.ENOSPC, f"{size_text(space.free)} free of {size_text(space.total)}, but {what}", str(root))


def size_text(size_bytes: float) -> str:
    """Write a size for people: `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.4g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.4g} GiB"
