"""A volume that is slow or fails on demand, of which its file system knows nothing: delivered beside the trainers."""

import errno
import os
import time
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__)
"""What is to be delivered as `storage.py`."""
SLOW: Final = "slow"
FAILING: Final = "failing"


def spoil_fsync(root: Path, *, slow_s: float) -> None:
    """Let each fsync take its time while a file `slow` lies at the root of the volume, and fail while `failing` does.

    A commit waits for four, and the first one of a term for ten more.
    """
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if (root / SLOW).exists():
            time.sleep(slow_s)
        if (root / FAILING).exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]  # Disk passes descriptors
