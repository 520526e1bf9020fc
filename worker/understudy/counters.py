"""Progress counters in a memory-mapped file: the trainer writes them, the agent reads them, also after its death.

Two little-endian u64: steps completed, and activity (bumped by every event of the SDK: a step, a save, a validation).
Each is written by one aligned 8-byte store, so a reader never sees half of one; the two are not read as a pair. A
SIGKILL loses nothing that was written: the page belongs to the kernel. One writing process; its threads may bump
activity at once, and a bump lost between two of them does no harm, since only change counts. Reads no clock.
"""

import mmap
import os
from pathlib import Path
from typing import Final, Self

SIZE_BYTES: Final = 16


class Counters:
    """The two counters of one trainer."""

    __slots__ = ("_map", "_view")

    def __init__(self, path: Path | None) -> None:
        """Open the file, made with zeros if it is absent or short; None keeps the counters in this process only."""
        if path is None:
            self._map = mmap.mmap(-1, SIZE_BYTES)
        else:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            try:
                if os.fstat(handle).st_size < SIZE_BYTES:
                    os.ftruncate(handle, SIZE_BYTES)
                self._map = mmap.mmap(handle, SIZE_BYTES)
            finally:
                os.close(handle)
        # Native u64 items, stored whole; every platform that this runs on is little-endian.
        self._view = memoryview(self._map).cast("Q")

    @property
    def step(self) -> int:
        """Steps completed."""
        return self._view[0]

    @step.setter
    def step(self, value: int) -> None:
        self._view[0] = value
        self._view[1] += 1

    @property
    def activity(self) -> int:
        """Changes whenever the SDK did something."""
        return self._view[1]

    def bump(self) -> None:
        """Say that the trainer is alive and working, without a step."""
        self._view[1] += 1

    def close(self) -> None:
        """Unmap; the file stays."""
        self._view.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
