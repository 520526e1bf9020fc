"""Saves beside the loop: the newest waiting snapshot wins, a failure is told and survived."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from understudy.checkpoint import AsyncSaver, RankStore
from understudy.errors import Superseded, VolumeReadOnly
from understudy_contract.reports import CheckpointRef

from tests.memory_volume import InterruptedFileSystem, MemoryFileSystem


class Gate:
    """Stops the saver's thread before its first write until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.opened.set()

    def __call__(self, call: str, _path: Path) -> None:
        if call == "write" and not self.opened.is_set():
            self.reached.set()
            assert self.opened.wait(60)


class Bench:
    def __init__(self, open_store: Callable[..., RankStore]) -> None:
        self.disk = MemoryFileSystem()
        self.gate = Gate()
        self.store = open_store(InterruptedFileSystem(self.disk, self.gate))
        self.writer = self.store.begin(1, "a", None)
        self.commits: list[int] = []
        self.errors: list[Exception] = []
        self.saver = AsyncSaver(self.writer, self.committed, self.errors.append)

    def committed(self, ref: CheckpointRef) -> None:
        self.commits.append(ref.step)


@pytest.fixture
def bench(open_store: Callable[..., RankStore]) -> Iterator[Bench]:
    bench = Bench(open_store)
    yield bench
    bench.gate.opened.set()
    bench.saver.close()


def test_of_the_snapshots_that_wait_the_newest_wins(bench: Bench, state: Callable[[int], Any]) -> None:
    bench.gate.opened.clear()
    bench.saver.submit(0, state(0), {})
    assert bench.gate.reached.wait(60)
    for step in (1, 2, 3):
        bench.saver.submit(step, state(step), {})
    bench.gate.opened.set()
    last = bench.saver.flush()
    assert bench.commits == [0, 3]
    assert last == bench.store.peek()


def test_a_save_that_fails_is_told_and_the_next_one_tries_again(bench: Bench, state: Callable[[int], Any]) -> None:
    bench.saver.submit(0, state(0), {})
    bench.saver.flush()
    bench.disk.read_only = True
    bench.saver.submit(1, state(1), {})
    with pytest.raises(VolumeReadOnly, match="remount"):
        bench.saver.flush()
    assert [type(error) for error in bench.errors] == [VolumeReadOnly]
    bench.disk.read_only = False
    bench.saver.submit(2, state(2), {})
    bench.saver.flush()
    assert bench.commits == [0, 2]


def test_a_mistake_of_the_caller_is_told_too(bench: Bench, state: Callable[[int], Any]) -> None:
    bench.saver.submit(0, state(0), {"callback": object()})
    with pytest.raises(TypeError, match="must be JSON"):
        bench.saver.flush()
    bench.saver.submit(0, state(0), {})
    assert bench.saver.flush() == bench.store.peek()


def test_a_superseded_saver_saves_no_more(
    bench: Bench, open_store: Callable[..., RankStore], state: Callable[[int], Any]
) -> None:
    bench.saver.submit(0, state(0), {})
    bench.saver.flush()
    other = open_store(bench.disk)
    other.begin(2, "b", other.newest())
    bench.saver.submit(1, state(1), {})
    with pytest.raises(Superseded):
        bench.saver.flush()
    bench.saver.submit(2, state(2), {})
    with pytest.raises(Superseded):
        bench.saver.flush()
    assert [type(error) for error in bench.errors] == [Superseded]
    assert bench.commits == [0]


def test_closing_finishes_what_was_submitted(bench: Bench, state: Callable[[int], Any]) -> None:
    bench.saver.submit(0, state(0), {})
    bench.saver.close()
    assert bench.commits == [0]
    with pytest.raises(ValueError, match="closed"):
        bench.saver.submit(1, state(1), {})
