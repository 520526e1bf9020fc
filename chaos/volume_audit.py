"""What lies on a job's volume, read as files: every checkpoint ever seen, and the line of those that count.

1. A state is a pure function of (rank, step): whatever term committed a step, its tensors have the same checksums.
2. Every checkpoint that can be seen is whole, but for those that a fault has damaged.
3. No step counts twice: a term commits nothing up to the step of its base, and one pod alone makes a term count.
4. What counted at one look is an ancestor of what counts at each later one. At a moment when somebody had begun a later
   term, but not committed in it, nothing of this is asked for: what its predecessor commits then need not count.

Damage takes a checkpoint out of 2 and 4. Looks while trainings go on: what is pruned under its eyes is passed over.
"""

import json
import math
import os
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from understudy.checkpoint import RankStore
from understudy.checkpoint.disk import Disk
from understudy.checkpoint.folder import RankFolder
from understudy.checkpoint.format import STATE, read, read_manifest
from understudy.checkpoint.lineage import Line, TermFolder, candidates
from understudy.errors import CheckpointDamaged, UnderstudyError

from chaos.target import FileId, Target


def term_of(folder: Path) -> int:
    """Return the number in the name of a term's folder."""
    return int(folder.name.split("-")[1])


def counting_terms(rank: Path) -> list[Path]:
    """Return the folders of the terms that count, the newest first."""
    return sorted((base.parent for base in rank.glob("term-*/BASE")), key=term_of, reverse=True)


def step_of(folder: Path) -> int:
    """Return the number in the name of a checkpoint's folder."""
    return int(folder.name.split("-")[1])


def state_id(checkpoint: Path) -> FileId:
    """Tell the file of a checkpoint's tensors from all others, whatever it is called."""
    facts = (checkpoint / STATE).stat()
    return facts.st_dev, facts.st_ino


def newest(rank: Path, damaged: AbstractSet[FileId] = frozenset()) -> Path | None:
    """Return the folder of the newest checkpoint along the line of the highest term that counts; None without any.

    Those whose tensors are `damaged` are passed over.
    """
    below = math.inf
    for term in counting_terms(rank):
        steps = [path for path in term.glob("step-*") if step_of(path) <= below]
        for path in sorted(steps, key=step_of, reverse=True):
            with suppress(FileNotFoundError):
                if state_id(path) not in damaged:
                    return path
        below = min(map(step_of, steps), default=below)  # what its base's term has above that does not count
    return None


def newest_step(rank: Path, damaged: AbstractSet[FileId] = frozenset()) -> int:
    """Return the step of `newest`; 0 without any."""
    found = newest(rank, damaged)
    return step_of(found) if found is not None else 0


def damage(checkpoint: Path) -> FileId:
    """Turn a byte of a checkpoint's tensors over, in place, as a failing disk would; tell which file that is."""
    file = checkpoint / STATE
    with file.open("r+b") as opened:
        middle = file.stat().st_size // 2
        (there,) = os.pread(opened.fileno(), 1, middle)
        os.pwrite(opened.fileno(), bytes([there ^ 0xFF]), middle)
    return state_id(checkpoint)


@dataclass(slots=True)
class Audit:
    """All checkpoints seen so far."""

    checksums: dict[tuple[Target, int], dict[int, tuple[str, str]]] = field(default_factory=dict)
    """By rank and step, and by the term that took it: the checksums of all tensors, and where they were seen first."""
    wrong: list[str] = field(default_factory=list)
    _folders: dict[tuple[Target, int], str] = field(default_factory=dict)
    """By rank and term: the folder that was seen first to count."""
    _counted: dict[Target, list[tuple[int, int, FileId]]] = field(default_factory=dict)
    """Term, step and file of what counted at the last look that could tell, newest first."""

    def look(self, target: Target, rank: Path, damaged: AbstractSet[FileId] = frozenset()) -> None:
        """Take in what lies below a rank's folder now."""
        self._follow(target, RankFolder(rank.parents[1], rank.parent.name, target.rank, Disk(rank)), damaged)
        for term in counting_terms(rank):
            for path in term.glob("step-*/manifest.json"):
                with suppress(FileNotFoundError):
                    self._take(target, path)
                    self._verify(target, path.parent, damaged)

    def _verify(self, target: Target, checkpoint: Path, damaged: AbstractSet[FileId]) -> None:
        if state_id(checkpoint) in damaged:
            return
        try:
            read(Disk(checkpoint), checkpoint)
        except CheckpointDamaged as error:
            self._tell(f"{target}, which nobody has damaged: {error}")

    def _follow(self, target: Target, rank: RankFolder, damaged: AbstractSet[FileId]) -> None:
        terms = rank.scan()
        counting = [term for term in terms if term.counts]
        for term in counting:
            self._once(target, term, rank.line_of(term)[:1])
        if not counting:
            return
        top = counting[-1]
        line = [(top.term, step) for step in top.steps[-1:]] + [(base.term, base.step) for base in rank.line_of(top)]
        before = [(term, step) for term, step, file in self._counted.get(target, ()) if file not in damaged]
        for old, step in before[:1]:  # those behind it are its ancestors
            if not any(term == old and until >= step for term, until in line):
                self._tell(f"step {step} of term {old} of {target} counted, and is no ancestor of {top.path.name}")
        if terms[-1] is top:
            self._counted[target] = []
            for found in candidates(terms, rank.line_of):
                with suppress(FileNotFoundError):
                    if taken_in := _taken_in(found.path):
                        self._counted[target].append((taken_in, found.step, state_id(found.path)))

    def _once(self, target: Target, term: TermFolder, base: Line) -> None:
        here = term.path.name
        if (first := self._folders.setdefault((target, term.term), here)) != here:
            self._tell(f"term {term.term} of {target} counts in {here} and in {first}")
        for step in term.steps:
            if base and step <= base[0].step and _taken_in(term.checkpoint(step)) == term.term:
                after = f"a term that goes on from step {base[0].step} of term {base[0].term}"
                self._tell(f"{here}/step-{step} of {target} was committed by {after}")

    def _tell(self, sentence: str) -> None:
        if sentence not in self.wrong:
            self.wrong.append(sentence)

    def _take(self, target: Target, path: Path) -> None:
        found = json.loads(path.read_text())
        here = f"{path.parents[1].name}/{path.parent.name}"
        checksums = json.dumps(found["tensors"], sort_keys=True)
        seen = self.checksums.setdefault((target, int(found["step"])), {})
        before, there = next(iter(seen.values()), (checksums, here))
        seen.setdefault(int(found["term"]), (checksums, here))  # a base keeps the term that took it
        if before != checksums:
            self._tell(f"step {found['step']} of {target} has other tensors in {here} than in {there}")

    @property
    def compared(self) -> int:
        """Count the comparisons of a step that was taken in several terms."""
        return sum(len(seen) - 1 for seen in self.checksums.values())


def _taken_in(checkpoint: Path) -> int:
    """Return the term that committed a checkpoint: a base lies in a later one's folder as well. 0: it is gone."""
    with suppress(FileNotFoundError, CheckpointDamaged):
        return read_manifest(Disk(checkpoint), checkpoint)[0].term
    return 0


def readable(target: Target, root: Path, job_uid: str, wanted_step: int) -> list[str]:
    """Let a worker's own reader load the newest checkpoint, every byte verified; say what is wrong with it."""
    try:
        found = RankStore(root, job_uid, target.rank, keep=1).newest(wait_s=0)
    except UnderstudyError as error:
        return [f"the newest checkpoint of {target} cannot be read: {error}"]
    if found is None:
        return [f"no checkpoint of {target} is left below {root}"]
    wrong = [f"{target}: {sentence}" for sentence in found.damaged]
    if found.ref.step != wanted_step:
        wrong.append(f"the newest checkpoint of {target} is step {found.ref.step} instead of {wanted_step}")
    return wrong
