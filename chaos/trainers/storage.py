"""A volume that is slow on demand, of which its file system knows nothing: shared by the trainers beside it."""

import os
import time
from pathlib import Path
from typing import Final

SLOW: Final = "slow"
FSYNC_S: Final = 1.0
"""A commit waits for four, and the first one of a term for ten more: less often than they are asked for, then."""


def slow_on_demand(root: Path) -> None:
    """Let each fsync take a second while a file `slow` lies at the root of the volume."""
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if (root / SLOW).exists():
            time.sleep(FSYNC_S)
        sync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]  # Disk passes descriptors
