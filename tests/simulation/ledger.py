"""What was committed, what was reported, and what the volume shows of it: invariants 3, 4 and 5.

Knows every commit from the moment of its rename, whether its writer ever told of it or not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy import protocol
from understudy.checkpoint.folder import BASE
from understudy.checkpoint.format import read, read_manifest
from understudy.checkpoint.store import RankStore
from understudy.errors import UnderstudyError
from understudy_contract.reports import CheckpointRef

from tests.simulation.plan import Plan
from tests.simulation.volume import ROOT, Volume
from tests.simulation.workload import undisturbed

Line = tuple[CheckpointRef, ...]
Require = Callable[[int, bool, str], None]
"""Raises unless the invariant of this number holds."""


class Rank:
    """What is known of one rank."""

    def __init__(self) -> None:
        self.holders: dict[int, str] = {}
        """Who was given each term, since the Lease was made."""
        self.starters: dict[int, str] = {}
        self.history: list[str] = []
        """Every pod that the rank was given to, in order."""
        self.granted_at: dict[int, float] = {}
        self.floors: dict[int, CheckpointRef | None] = {}
        """The floor when a term was granted."""
        self.floor: CheckpointRef | None = None
        self.renewed_at = 0.0
        self.lines: dict[CheckpointRef, Line] = {}
        """Every commit, and the line of its term."""
        self.counting: dict[int, tuple[float, Line]] = {}
        """Terms with a BASE: since when, and on what they are based."""
        self.damaged = False


class Ledger:
    """Every rank's commits, held against the volume."""

    def __init__(self, plan: Plan, volume: Volume, now: Callable[[], float], require: Require) -> None:
        self.ranks = [Rank() for _ in range(plan.ranks)]
        self._plan, self._volume, self._now, self._require = plan, volume, now, require
        self._stores: list[RankStore] = []
        volume.renamed.append(self._on_rename)

    def open(self, job_uid: str) -> None:
        """Read this job's folders from now on."""
        self._stores = [RankStore(ROOT, job_uid, n, keep=1, fs=self._volume) for n in range(len(self.ranks))]

    def store(self, number: int) -> RankStore:
        """Give a rank's store on the volume itself."""
        return self._stores[number]

    def look_at_volume(self) -> None:
        """Require that whoever would start now, on a node without caches, finds what was reported."""
        for number, rank in enumerate(self.ranks):
            if rank.floor is None or rank.damaged:
                continue
            with self._no_error(3, f"rank {number}: {rank.floor} was reported"):
                found = self._stores[number].newest(rank.floor, wait_s=0.0)
            shown = found is not None and not found.damaged and self._descends(rank, found.ref, rank.floor)
            self._require(3, shown, f"rank {number}: {rank.floor} was reported, the volume shows {found and found.ref}")

    def on_started(self, pod: str, number: int, message: protocol.Started, cache_s: float) -> None:
        """Take in that a primary has restored, and is about to take its first step, on a node with such caches."""
        rank, term, start = self.ranks[number], message.term, message.checkpoint
        first = rank.starters.setdefault(term, pod)
        self._require(1, first == pod, f"{first} and {pod} both start term {term}")
        self._require(4, start in rank.lines, f"{pod} starts from {start}, which nobody committed")
        floor = rank.floors.get(term)
        what = f"{pod} starts term {term} from {start}"
        if floor is not None:
            keeps = self._descends(rank, start, floor)
            line = (start, *rank.lines[start])
            back = rank.damaged and any(self._leads_to(rank, floor, base) for base in line)
            self._require(3, keeps or back, f"{what}, the floor being {floor}")
        seen_by = rank.granted_at.get(term, 0.0) - cache_s
        self._on_start(number, message, floor, seen_by, what)

    def _on_start(
        self, number: int, message: protocol.Started, floor: CheckpointRef | None, seen_by: float, what: str
    ) -> None:
        """Require that the start is of the line of the highest term that had come to count by then."""
        rank, term, start = self.ranks[number], message.term, message.checkpoint
        counting = [t for t, (since, _) in rank.counting.items() if start.term < t < term and since <= seen_by]
        if not counting:
            return
        highest = max(counting)
        line = rank.counting[highest][1]
        if floor is not None and not any(b.term == floor.term and b.step >= floor.step for b in line):
            return  # the floor goes before a line that does not hold it
        of_line = any(base.term == start.term and start.step <= base.step for base in line)
        if rank.damaged and not of_line:
            of_line = not any(base.term == start.term and self._is_whole(number, base) for base in line)
        self._require(5, of_line, f"{what}, but term {highest} counts, which is based on {line}")

    def at_end(self) -> None:
        """Compare what was reached with a run without faults."""
        self.look_at_volume()
        last = self._plan.script.steps
        for number, rank in enumerate(self.ranks):
            if rank.damaged:
                reached = any(ref.step == last for ref in rank.lines)
                self._require(4, reached, f"rank {number} has no commit of step {last}")
                continue
            with self._no_error(4, f"the end of rank {number}"):
                found = self._stores[number].newest(rank.floor, wait_s=0.0)
            value = int(found.tensors["value"][0]) if found is not None else None
            right = found is not None and found.ref.step == last and value == undisturbed(number, last)
            self._require(4, right, f"rank {number} ends with {found and found.ref}, not with step {last}")

    def _on_rename(self, path: Path) -> None:
        folder = path.parent
        if not folder.name.startswith("term-"):
            return
        number = int(folder.parent.name.removeprefix("rank-"))
        rank, term = self.ranks[number], int(folder.name.split("-")[1])
        if path.name == BASE:
            self._on_base(number, rank, term, folder)
        elif path.name.startswith("step-"):
            with self._no_error(4, f"{path.name} of term {term}"):
                if read_manifest(self._volume, path)[0].term != term:
                    return  # a copy of its base
                found = read(self._volume, path)
            ref = found.ref
            value, steps = int(found.tensors["value"][0]), int(found.tensors["steps"])
            right = (value, steps) == (undisturbed(number, ref.step), ref.step)
            self._require(4, right, f"{path.name} of term {term} holds another state, after {steps} steps")
            taken = found.extra["state"]["taken"]
            self._require(4, taken == ref.step, f"{path.name} of term {term} has the extra state of step {taken}")
            rank.lines[ref] = found.line

    def _on_base(self, number: int, rank: Rank, term: int, folder: Path) -> None:
        steps = [name for name in self._volume.names(folder) if name.startswith("step-")]
        self._require(3, bool(steps), f"term {term} of rank {number} counts and holds no checkpoint")
        with self._no_error(4, f"BASE of term {term}"):
            folders = self._stores[number]._rank
            line = folders.line_of(folders.term_folder(term, folder.name.split("-", 2)[2]))
        rank.counting[term] = self._now(), line

    def _is_whole(self, number: int, ref: CheckpointRef) -> bool:
        try:
            return self._stores[number].load(ref).ref == ref
        except UnderstudyError:
            return False

    def _descends(self, rank: Rank, ref: CheckpointRef, floor: CheckpointRef) -> bool:
        if ref.term == floor.term:
            return ref.step >= floor.step
        return any(base.term == floor.term and base.step >= floor.step for base in rank.lines.get(ref, ()))

    def _leads_to(self, rank: Rank, floor: CheckpointRef, ref: CheckpointRef) -> bool:
        line = (floor, *rank.lines.get(floor, ()))
        return any(base.term == ref.term and ref.step <= base.step for base in line)

    @contextmanager
    def _no_error(self, number: int, what: str) -> Iterator[None]:
        try:
            yield
        except (UnderstudyError, OSError) as error:
            self._require(number, False, f"{what}: {error}")
