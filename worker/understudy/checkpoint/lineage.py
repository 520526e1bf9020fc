"""Which checkpoints may be read, and in which order: pure rules over the names on the volume.

A term COUNTS once its folder holds a BASE. What a superseded writer adds to an older term lies off the line, or is as
good as what its successor would have written: a reader never goes above the step on which a later term based itself.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from understudy_contract.lease import CheckpointRef


@dataclass(frozen=True, slots=True)
class TermFolder:
    """The folder of one term, as listed."""

    term: int
    pod_uid: str
    path: Path
    counts: bool
    steps: tuple[int, ...]
    """Ascending; by name alone."""

    def checkpoint(self, step: int) -> Path:
        """Name the folder of a step."""
        return self.path / f"step-{step}"


def line(
    folders: Iterable[TermFolder],
    base_of: Callable[[TermFolder], CheckpointRef | None],
    floor: CheckpointRef | None = None,
) -> Iterator[tuple[TermFolder, int]]:
    """Yield what a reader may take, best first: down the highest term that counts, then back along its bases.

    A visible floor proves that its term counts, even if the name BASE has not reached this node yet.
    """
    by_term = {
        folder.term: folder
        for folder in sorted(folders, key=lambda folder: (folder.term, folder.counts, folder.pod_uid))
    }
    counting = [term for term, folder in by_term.items() if folder.counts or (floor and _shows(folder, floor))]
    current = by_term[max(counting)] if counting else None
    limit: int | None = None
    while current is not None:
        for step in reversed(current.steps):
            if limit is None or step <= limit:
                yield current, step
        base = base_of(current)
        if base is None or base.term >= current.term:
            return
        limit = base.step if limit is None else min(limit, base.step)
        current = by_term.get(base.term)


def floor_is_visible(folders: Iterable[TermFolder], floor: CheckpointRef) -> bool:
    """Tell whether the volume shows all that a reader with this floor needs.

    That is the floor itself, a later step of its term (the floor may be pruned by then), or a later term that counts
    (whose primary had to find its own floor first).
    """
    return any(_shows(folder, floor) or (folder.counts and folder.term > floor.term) for folder in folders)


def _shows(folder: TermFolder, floor: CheckpointRef) -> bool:
    return folder.term == floor.term and bool(folder.steps) and folder.steps[-1] >= floor.step
