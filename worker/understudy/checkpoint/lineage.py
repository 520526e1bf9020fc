"""Which checkpoints may be read, and in which order: pure rules over the names on the volume.

A term COUNTS once its folder holds a BASE, and its LINE is what it was based on, that one's base, and so on. Readers
walk down the line of the highest term that counts: into an older term never above the step on which its successor based
itself, so that what a superseded writer adds is not read. The durable floor corrects this rule where two races meet (a
superseded term came to count before its successor did): a line that holds the floor goes before one that does not.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from understudy_contract.reports import CheckpointRef

Line = tuple[CheckpointRef, ...]
"""Bases of a term, newest first, each of a lower term than the one before."""


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that may be read."""

    folder: TermFolder
    step: int
    keeps_floor: bool
    """It is the floor or descends from it; also where no floor is asked for."""

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.checkpoint(self.step)


def candidates(
    folders: Iterable[TermFolder], line_of: Callable[[TermFolder], Line], floor: CheckpointRef | None = None
) -> Iterator[Candidate]:
    """Yield what a reader may take, best first. `line_of` is asked only when it matters.

    A visible floor proves that its term counts, even if the name BASE has not reached this node yet.
    """
    by_term = {folder.term: folder for folder in sorted(folders, key=lambda f: (f.term, f.counts, f.pod_uid))}
    counting = sorted((t for t, folder in by_term.items() if folder.counts or _shows(folder, floor)), reverse=True)
    seen: set[Path] = set()
    if floor is not None:
        for term in counting:
            if term < floor.term or not _holds(by_term[term], line_of, floor):
                continue
            for folder, step in _walk(by_term[term], by_term, line_of):
                if (folder.term, step) < (floor.term, floor.step):
                    break
                if folder.checkpoint(step) not in seen:
                    seen.add(folder.checkpoint(step))
                    yield Candidate(folder, step, keeps_floor=True)
    if counting:
        for folder, step in _walk(by_term[counting[0]], by_term, line_of):
            if folder.checkpoint(step) not in seen:
                yield Candidate(folder, step, keeps_floor=floor is None)


def _walk(
    top: TermFolder, by_term: dict[int, TermFolder], line_of: Callable[[TermFolder], Line]
) -> Iterator[tuple[TermFolder, int]]:
    for step in reversed(top.steps):
        yield top, step
    for base in line_of(top):
        if (folder := by_term.get(base.term)) is not None and folder.term < top.term:
            for step in reversed(folder.steps):
                if step <= base.step:
                    yield folder, step


def _shows(folder: TermFolder, floor: CheckpointRef | None) -> bool:
    """Tell whether a folder shows the floor, or a later step of the floor's term: the floor may be pruned by then."""
    return floor is not None and folder.term == floor.term and bool(folder.steps) and folder.steps[-1] >= floor.step


def _holds(folder: TermFolder, line_of: Callable[[TermFolder], Line], floor: CheckpointRef) -> bool:
    if folder.term == floor.term:
        return _shows(folder, floor)
    return any(base.term == floor.term and base.step >= floor.step for base in line_of(folder))
