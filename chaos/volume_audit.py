"""What lies on a job's volume, read as files: every checkpoint ever seen, and whether two of one step ever differed.

A state is a pure function of (rank, step), so that whatever term committed a step, its tensors have the same checksums.
Looks while trainings go on: what is pruned under its eyes is passed over.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from understudy.checkpoint import RankStore
from understudy.errors import UnderstudyError

from chaos.strike import Target


def term_of(folder: Path) -> int:
    """Return the number in the name of a term's folder."""
    return int(folder.name.split("-")[1])


def counting_terms(rank: Path) -> list[Path]:
    """Return the folders of the terms that count, the newest first."""
    return sorted((base.parent for base in rank.glob("term-*/BASE")), key=term_of, reverse=True)


def newest_step(rank: Path) -> int:
    """Return the newest step of the highest term that counts; 0 without any."""
    steps = [int(path.name.split("-")[1]) for term in counting_terms(rank)[:1] for path in term.glob("step-*")]
    return max(steps, default=0)


@dataclass(slots=True)
class Audit:
    """All checkpoints seen so far."""

    checksums: dict[tuple[Target, int], dict[int, tuple[str, str]]] = field(default_factory=dict)
    """By rank and step, and by the term that took it: the checksums of all tensors, and where they were seen first."""
    wrong: list[str] = field(default_factory=list)

    def look(self, target: Target, rank: Path) -> None:
        """Take in what lies below a rank's folder now."""
        for term in counting_terms(rank):
            for path in term.glob("step-*/manifest.json"):
                with suppress(FileNotFoundError):
                    self._take(target, path)

    def _take(self, target: Target, path: Path) -> None:
        found = json.loads(path.read_text())
        here = f"{path.parents[1].name}/{path.parent.name}"
        checksums = json.dumps(found["tensors"], sort_keys=True)
        seen = self.checksums.setdefault((target, int(found["step"])), {})
        before, there = next(iter(seen.values()), (checksums, here))
        seen.setdefault(int(found["term"]), (checksums, here))  # a base keeps the term that took it
        if before != checksums:
            self.wrong.append(f"step {found['step']} of {target} has other tensors in {here} than in {there}")

    @property
    def compared(self) -> int:
        """Count the comparisons of a step that was taken in several terms."""
        return sum(len(seen) - 1 for seen in self.checksums.values())


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
