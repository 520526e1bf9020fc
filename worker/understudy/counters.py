"""Progress counters in a memory-mapped file: the trainer writes them, the agent reads them, also after its death.

Three little-endian u64: steps completed; activity (bumped by every event of the SDK: a step, a save, a batch of a
validation); and busy, how many long pieces of work are under way that cannot tell how they get on (an export, a
callback). Each is written by one aligned 8-byte store, so a reader never sees half of one; they are not read as one. A
SIGKILL loses nothing that was written: the page belongs to the kernel. One writing process; its threads may bump
activity at once, and a bump lost between two of them does no harm, since only change counts. Reads no clock.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

SIZE_BYTES: Final = 24


class Counts(NamedTuple):
    """The counters at one moment."""

    step: int = 0
    activity: int = 0
    busy: int = 0


class Counters:
    """The counters of one trainer."""

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

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Say that what happens in this block may take long and tell nothing meanwhile. The loop's thread only."""
        self._view[2] += 1
        self.bump()
        try:
            yield
        finally:
            self._view[2] -= 1
            self.bump()

    def read(self) -> Counts:
        """Read all of them, one after the other."""
        return Counts(self._view[0], self._view[1], self._view[2])

    def close(self) -> None:
        """Unmap; the file stays."""
        self._view.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
