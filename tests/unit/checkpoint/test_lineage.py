"""Writers of several terms, promoted in the midst of each other's commits: what is read descends from the floor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from understudy.checkpoint import RankStore, TermWriter
from understudy.checkpoint.lineage import TermFolder, candidates
from understudy.errors import Superseded
from understudy_contract.reports import CheckpointRef

from tests.memory_volume import InterruptedFileSystem, MemoryFileSystem

ROOT = Path("/volume")


class Racing(RuleBasedStateMachine):
    """Only the last promoted writer may raise the floor, as the Lease's holder test has it; all of them may write."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryFileSystem()
        self.store = RankStore(ROOT, "job", 0, keep=2, fs=self.disk)
        self.writers: list[TermWriter] = []
        self.parent: dict[CheckpointRef, CheckpointRef | None] = {}
        self.floor: CheckpointRef | None = None
        self.before: Callable[[str, Path], None] = lambda _call, _path: None

    @initialize(links=st.booleans())
    def start(self, links: bool) -> None:
        self.disk.links = links
        self._promote()
        self._commit(self.writers[0], reported=True)

    @rule()
    def promote(self) -> None:
        self._promote()

    @rule(reported=st.booleans())
    def primary_commits(self, reported: bool) -> None:
        self._commit(self.writers[-1], reported)

    @rule(which=st.integers(0, 50))
    def superseded_writer_commits(self, which: int) -> None:
        self._commit(self.writers[which % len(self.writers)], reported=False)

    @precondition(lambda self: len(self.writers) < 12)
    @rule(which=st.integers(0, 50), at_call=st.integers(1, 60), commits=st.integers(0, 2), reported=st.booleans())
    def promotion_in_the_midst_of_a_commit(self, which: int, at_call: int, commits: int, reported: bool) -> None:
        left = at_call

        def race(_call: str, _path: Path) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._promote()
                for _ in range(commits):
                    self._commit(self.writers[-1], reported)

        self.before = race
        self._commit(self.writers[-1 - which % min(2, len(self.writers))], reported=False)
        self.before = lambda _call, _path: None

    @invariant()
    def the_newest_descends_from_the_floor(self) -> None:
        if not self.writers:
            return
        found = self.store.newest(self.floor, wait_s=0)
        assert found is not None
        assert found.damaged == ()
        assert found.tensors["step"] == found.ref.step
        assert self.store.peek(self.floor) == found.ref
        assert self.floor in {*self._ancestors(found.ref)} | {None}

    def _promote(self) -> None:
        base = self.store.newest(self.floor, wait_s=0)
        term = self.store.highest_term() + 1
        fs = InterruptedFileSystem(self.disk, lambda call, path: self.before(call, path))
        store = RankStore(ROOT, "job", 0, keep=2, fs=fs)
        outer, self.before = self.before, lambda _call, _path: None
        self.writers.append(store.begin(term, f"pod-{term}", base))
        self.before = outer
        if base is not None:
            self.floor = base.ref

    def _commit(self, writer: TermWriter, reported: bool) -> None:
        parent = writer.newest
        step = parent.step + 1 if parent else 0
        try:
            ref = writer.commit(step, {"step": _tensor(step)}, {})
        except Superseded:
            assert writer is not self.writers[-1]
            return
        self.parent[ref] = parent
        if reported and writer is self.writers[-1]:
            self.floor = ref

    def _ancestors(self, ref: CheckpointRef | None) -> list[CheckpointRef]:
        found = []
        while ref is not None:
            found.append(ref)
            ref = self.parent.get(ref)
        return found


def _tensor(step: int) -> Any:
    return np.array(step)


TestRacing = Racing.TestCase
TestRacing.settings = settings(max_examples=50, stateful_step_count=12, deadline=None)


def ref(term: int, step: int) -> CheckpointRef:
    return CheckpointRef(term, step, f"{term}/{step}")


def names(
    terms: dict[int, tuple[int, ...]], lines: dict[int, tuple[CheckpointRef, ...]], floor: CheckpointRef | None = None
) -> list[str]:
    folders = [TermFolder(t, "pod", Path(f"term-{t}"), t in lines, steps) for t, steps in terms.items()]
    found = candidates(folders, lambda folder: lines.get(folder.term, ()), floor)
    return [f"{candidate.folder.term}/{candidate.step}{'' if candidate.keeps_floor else '?'}" for candidate in found]


def test_an_older_term_is_read_up_to_the_step_that_its_successor_went_on_from() -> None:
    assert names({1: (100, 200, 300), 2: (200, 250)}, {1: (), 2: (ref(1, 200),)}) == [
        "2/250",
        "2/200",
        "1/200",
        "1/100",
    ]


def test_a_term_without_base_is_not_read() -> None:
    assert names({1: (100,), 2: (100, 150)}, {1: ()}) == ["1/100"]


def test_a_term_that_nobody_went_on_from_is_left_out() -> None:
    terms = {1: (100, 200), 2: (100, 300), 3: (200, 250)}
    assert names(terms, {1: (), 2: (ref(1, 100),), 3: (ref(1, 200),)}) == ["3/250", "3/200", "1/200", "1/100"]


def test_the_floor_counts_before_its_base_is_visible() -> None:
    assert names({1: (100,), 2: (100, 150)}, {1: ()}, ref(2, 150)) == ["2/150", "2/100?"]


def test_a_later_step_stands_for_a_pruned_floor() -> None:
    assert names({1: (300, 400)}, {1: ()}, ref(1, 200)) == ["1/400", "1/300"]


def test_a_line_that_holds_the_floor_goes_before_a_higher_one_that_does_not() -> None:
    lines: dict[int, tuple[CheckpointRef, ...]] = {1: (), 2: (ref(1, 100),)}
    assert names({1: (100, 200), 2: (100, 150)}, lines, ref(1, 200)) == ["1/200", "2/150?", "2/100?", "1/100?"]
