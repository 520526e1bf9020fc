"""The extra state is as exact as the arrays are."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy import Session, State
from understudy.checkpoint.disk import Disk

PATIENCE_S = 60.0


class Diary(State):
    """Keeps a list that lives on, as a history of losses does."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def step(self, index: int) -> None:
        self.taken.append(index)

    def tensors(self) -> dict[str, Any]:
        return {"nothing": np.zeros(1)}

    def load(self, tensors: Mapping[str, Any]) -> None:
        del tensors

    def extra(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def load_extra(self, extra: Mapping[str, Any]) -> None:
        self.taken = list(extra["taken"])


def written(root: Path, step: int) -> list[int]:
    (manifest,) = root.rglob(f"step-{step}/manifest.json")
    found: list[int] = json.loads(manifest.read_text())["extra"]["state"]["taken"]
    return found


def test_a_checkpoint_holds_the_extra_state_of_its_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later, write = threading.Event(), Disk.write

    def slow(self: Disk, path: Path, chunks: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert later.wait(PATIENCE_S)
        write(self, path, chunks)

    monkeypatch.setattr(Disk, "write", slow)
    state = Diary()
    for done in Session(state, state.step, directory=tmp_path).steps(20, save_every=10):
        if done == 15:
            later.set()
    assert written(tmp_path, 10) == list(range(10))
    assert written(tmp_path, 20) == list(range(20))


def test_the_warm_up_leaves_no_trace_in_the_extra_state(tmp_path: Path) -> None:
    state = Diary()
    for _ in Session(state, state.step, directory=tmp_path, warm_up_always=True).steps(5):
        pass
    assert (written(tmp_path, 0), written(tmp_path, 5)) == ([], list(range(5)))
