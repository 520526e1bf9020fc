"""A small state as a function of its step, and stores of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from understudy.checkpoint import Checkpoint, RankStore
from understudy.checkpoint.filesystem import FileSystem

ROOT = Path("/volume")


class States(Protocol):
    def __call__(self, step: int) -> dict[str, Any]: ...


def _state(step: int) -> dict[str, Any]:
    return {
        "kernel": np.full((3, 4), step, np.float32),
        "moment": np.arange(5, dtype=np.float64) * step,
        "step": np.array(step, np.int64),
    }


@pytest.fixture(scope="session")
def state() -> States:
    """The state after so many steps."""
    return _state


@pytest.fixture(scope="session")
def check() -> Callable[[Checkpoint | None], Checkpoint]:
    """Require that a checkpoint holds the state of its step, and return it."""

    def check(found: Checkpoint | None) -> Checkpoint:
        assert found is not None
        expected = _state(found.ref.step)
        assert found.tensors.keys() == expected.keys()
        for name, tensor in expected.items():
            assert np.array_equal(found.tensors[name], tensor), name
        return found

    return check


@pytest.fixture(scope="session")
def open_store() -> Callable[..., RankStore]:
    """Open the same rank's store, with two checkpoints kept."""

    def open_store(fs: FileSystem | None = None, root: Path = ROOT, keep: int = 2, **options: Any) -> RankStore:
        return RankStore(root, "job", 0, keep=keep, fs=fs, **options)

    return open_store
