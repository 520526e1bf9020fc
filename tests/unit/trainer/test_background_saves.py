"""Saves beside the loop: the newest waiting snapshot wins, a failure is told and survived."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy.checkpoint import RankStore
from understudy.errors import Superseded
from understudy.protocol import Committed, FromTrainer, Notice
from understudy.trainer.link import Orders
from understudy.trainer.saves import Saves
from understudy.trainer.state import State

from tests.memory_volume import InterruptedFileSystem, MemoryFileSystem


class Gate:
    """Stops the saver's thread before its first write until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.opened.set()
        self.calls: list[str] = []

    def __call__(self, call: str, _path: Path) -> None:
        self.calls.append(call)
        if call == "write" and not self.opened.is_set():
            self.reached.set()
            assert self.opened.wait(60)


class Counting(State):
    def __init__(self) -> None:
        self.value = 0

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"value": np.array([self.value])}

    def load(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.value = int(tensors["value"][0])


class Bench:
    def __init__(self) -> None:
        self.disk = MemoryFileSystem()
        self.gate = Gate()
        self.store = RankStore(Path("/volume"), "job", 0, keep=2, fs=InterruptedFileSystem(self.disk, self.gate))
        self.told: list[FromTrainer] = []
        self.orders = Orders()
        self.state = Counting()
        self.extra: dict[str, Any] = {}
        self.saves = Saves(
            self.store.begin(1, "a", None),
            self.state,
            orders=self.orders,
            tell=self.told.append,
            bump=lambda: None,
            envelope=lambda: self.extra,
        )

    def submit(self, step: int) -> None:
        self.state.value = step
        self.saves.submit(step)

    @property
    def commits(self) -> list[int]:
        return [message.checkpoint.step for message in self.told if isinstance(message, Committed)]

    @property
    def notices(self) -> list[str]:
        return [message.message for message in self.told if isinstance(message, Notice)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.gate.opened.set()
    bench.saves.close()


def test_of_the_snapshots_that_wait_the_newest_wins(bench: Bench) -> None:
    bench.gate.opened.clear()
    bench.submit(0)
    assert bench.gate.reached.wait(60)
    for step in (1, 2, 3):
        bench.submit(step)
    bench.gate.opened.set()
    bench.saves.settle()
    assert bench.commits == [0, 3]
    assert bench.saves.newest == bench.store.peek()
    found = bench.store.newest()
    assert found is not None and found.tensors["value"] == [3]


def test_a_save_that_fails_is_told_and_the_next_one_tries_again(bench: Bench) -> None:
    bench.submit(0)
    bench.saves.settle()
    bench.disk.read_only = True
    bench.submit(1)
    bench.saves.settle()
    (told,) = bench.notices
    assert "remount" in told
    bench.disk.read_only = False
    bench.submit(2)
    bench.saves.settle()
    assert bench.commits == [0, 2]


def test_a_mistake_of_the_caller_is_told_too(bench: Bench) -> None:
    bench.extra = {"callback": object()}
    bench.submit(0)
    bench.saves.settle()
    (told,) = bench.notices
    assert "must be JSON" in told
    bench.extra = {}
    bench.submit(0)
    bench.saves.settle()
    assert bench.commits == [0]
    assert bench.saves.newest == bench.store.peek()


def test_a_superseded_term_saves_no_more(bench: Bench) -> None:
    bench.submit(0)
    bench.saves.settle()
    other = RankStore(Path("/volume"), "job", 0, keep=2, fs=bench.disk)
    other.begin(2, "b", other.newest())
    bench.submit(1)
    bench.saves.settle()
    assert bench.orders.superseded_by == 2
    bench.gate.calls.clear()
    bench.submit(2)
    bench.saves.settle()
    assert (bench.commits, bench.notices, bench.gate.calls) == ([0], [], [])
    with pytest.raises(Superseded):
        bench.saves.commit(2)


def test_closing_finishes_what_was_submitted(bench: Bench) -> None:
    bench.submit(0)
    bench.saves.close()
    assert bench.commits == [0]
    with pytest.raises(ValueError, match="closed"):
        bench.submit(1)
