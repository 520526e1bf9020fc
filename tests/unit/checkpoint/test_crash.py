"""Two terms of training, cut short before every single call to a file system that loses what was not synced."""

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from understudy.checkpoint import Checkpoint, RankStore
from understudy.checkpoint.filesystem import FileSystem
from understudy.errors import Terminal, UnderstudyError
from understudy_contract.reports import CheckpointRef

from tests.memory_volume import InterruptedFileSystem, MemoryFileSystem, PowerCut

Life = Callable[[FileSystem, list[CheckpointRef]], None]
Check = Callable[[Checkpoint | None], Checkpoint]


class Countdown:
    """Raises before the n-th call; counts for ever."""

    def __init__(self, n: int | None, what: Callable[[], BaseException] = PowerCut, *, again: bool = False) -> None:
        self.calls = 0
        self.n = n
        self.what = what
        self.again = again

    def __call__(self, _call: str, _path: Path) -> None:
        self.calls += 1
        if self.n is not None and (self.calls == self.n or (self.again and self.calls > self.n)):
            raise self.what()


@pytest.fixture
def life(open_store: Callable[..., RankStore], state: Callable[[int], Any]) -> Life:
    """Train in two terms; everything that a commit returned is appended to the list."""

    def life(fs: FileSystem, committed: list[CheckpointRef]) -> None:
        store = open_store(fs)
        store.create_volume_id()
        first = store.begin(1, "a", store.newest(wait_s=0))
        for step in (0, 10, 20, 30):
            committed += [first.commit(step, state(step), {"step": step})]
        second = store.begin(2, "b", store.newest(committed[-1], wait_s=0))
        for step in (30, 40, 50, 60):
            committed += [second.commit(step, state(step), {"step": step})]
        assert not second.notices

    return life


def calls_of(life: Life, links: bool) -> int:
    counter = Countdown(None)
    life(InterruptedFileSystem(MemoryFileSystem(links=links), counter), [])
    return counter.calls


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "copies"])
@pytest.mark.parametrize("seed", [None, 1], ids=lambda seed: f"power cut {seed}" if seed else "process killed")
def test_after_a_crash_before_any_call_the_newest_commit_is_read_and_training_goes_on(
    links: bool,
    seed: int | None,
    life: Life,
    open_store: Callable[..., RankStore],
    state: Callable[[int], Any],
    check: Check,
) -> None:
    total = calls_of(life, links)
    assert total > 200
    for n in range(1, total + 2):
        disk = MemoryFileSystem(links=links)
        committed: list[CheckpointRef] = []
        try:
            life(InterruptedFileSystem(disk, Countdown(n)), committed)
        except PowerCut:
            pass
        else:
            assert n == total + 1
        if seed is not None:
            disk.power_cut(Random(f"{seed} {n}"))

        store = open_store(disk)
        floor = committed[-1] if committed else None
        found = store.newest(floor, wait_s=0)
        if floor is not None:
            assert check(found).ref >= floor
        if found is not None:
            assert check(found).ref.step <= (floor.step + 10 if floor else 0)
            assert found.damaged == (), "a crash alone damages nothing that is read"
            assert store.peek(floor) == found.ref == store.load(found.ref).ref
            assert found.extra == {"step": found.ref.step}

        term = store.highest_term() + 1
        writer = store.begin(term, "c", found)
        start = found.ref.step if found else -10
        for step in range(start + 10, start + 50, 10):
            last = writer.commit(step, state(step), {"step": step})
        assert not writer.notices
        assert check(store.newest(last, wait_s=0)).ref == last
        assert store.volume_id() in {None, store.create_volume_id()}
        assert sorted(disk.names(writer.path)) == sorted(["BASE", f"step-{last.step - 10}", f"step-{last.step}"])
        assert [name for name in disk.names(store.path) if name.startswith("term-")] == [writer.path.name]


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "copies"])
def test_a_process_that_is_started_again_in_its_pod_goes_on_in_the_same_term(
    links: bool, life: Life, open_store: Callable[..., RankStore], state: Callable[[int], Any], check: Check
) -> None:
    """A launcher in the container does that; the process before it died before any of its calls."""
    for n in range(1, calls_of(life, links) + 1):
        disk = MemoryFileSystem(links=links)
        committed: list[CheckpointRef] = []
        with suppress(PowerCut):
            life(InterruptedFileSystem(disk, Countdown(n)), committed)
        store = open_store(disk)
        found = store.newest(committed[-1] if committed else None, wait_s=0)
        term = max(store.highest_term(), 1)
        writer = store.begin(term, "ab"[term - 1], found)
        start = found.ref.step if found else 0
        for step in (start, start + 10, start + 20):
            last = writer.commit(step, state(step), {"step": step})
        assert not writer.notices
        assert last.term == term and check(store.newest(last, wait_s=0)).ref == last
        assert sorted(disk.names(writer.path)) == sorted(["BASE", f"step-{start + 10}", f"step-{start + 20}"])
        successor = store.begin(term + 1, "c", store.newest(last, wait_s=0))
        assert check(store.newest(successor.commit(start + 30, state(start + 30), {}), wait_s=0)).ref.term == term + 1


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "copies"])
@pytest.mark.parametrize("number", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "from then on"])
def test_a_call_that_fails_costs_one_save_and_no_checkpoint(
    links: bool,
    number: str,
    again: bool,
    open_store: Callable[..., RankStore],
    state: Callable[[int], Any],
    check: Check,
) -> None:
    def train(disk: MemoryFileSystem, countdown: Countdown) -> None:
        def retry(call: Callable[[], Any]) -> Any:
            try:
                return call()
            except UnderstudyError as error:
                assert not isinstance(error, Terminal), error
                reader.newest(wait_s=0)
                countdown.n = None
                return call()

        fs = InterruptedFileSystem(disk, countdown)
        reader = open_store(disk)
        first = retry(lambda: open_store(fs).begin(1, "a", reader.newest(wait_s=0)))
        retry(lambda: first.commit(0, state(0), {}))
        floor = retry(lambda: first.commit(10, state(10), {}))
        base = reader.newest(floor, wait_s=0)
        writer = retry(lambda: open_store(fs).begin(2, "b", base))
        for step in range(20, 60, 10):
            try:
                floor = writer.commit(step, state(step), {})
            except UnderstudyError as error:
                assert not isinstance(error, Terminal), error
            assert check(reader.newest(floor, wait_s=0)).ref >= floor
        countdown.n = None
        last = writer.commit(60, state(60), {})
        assert check(reader.newest(last, wait_s=0)).ref == last
        leftovers = [name for name in disk.names(writer.path) if name.startswith(".tmp-")]
        assert leftovers == []
        disk.power_cut(Random(7))
        assert check(reader.newest(last, wait_s=0)).ref == last

    counter = Countdown(None)
    train(MemoryFileSystem(links=links), counter)
    code = getattr(errno, number)
    for n in range(1, counter.calls + 1):
        train(MemoryFileSystem(links=links), Countdown(n, lambda: OSError(code, number), again=again))
