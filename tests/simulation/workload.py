"""The training: a state so small that a seed is cheap, and so sensitive that a step taken twice, left out or taken from
another's state shows in every bit after it."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_SEED = 0x9E3779B97F4A7C15


def step_of(value: int, rank: int, index: int) -> int:
    """Take one step: a pure function of the state, the rank and the step's index."""
    mixed = (value ^ (index * 0xBF58476D1CE4E5B9) ^ (rank * 0x94D049BB133111EB)) & _MASK
    mixed = (mixed * 6364136223846793005 + 1442695040888963407) & _MASK
    return mixed ^ (mixed >> 29)


@lru_cache(maxsize=4096)
def undisturbed(rank: int, steps: int) -> int:
    """Give the state after so many steps of a run in which nothing ever fails."""
    return _SEED if steps == 0 else step_of(undisturbed(rank, steps - 1), rank, steps - 1)


class Chain:
    """The state of one rank, as understudy.Session wants it."""

    def __init__(self, rank: int, pause: Callable[[], None]) -> None:
        self._rank = rank
        self._pause = pause
        self._value, self._steps = _SEED, 0
        self._extra = {"taken": 0}

    def step(self, index: int) -> None:
        """Take a step; it takes a while."""
        self._pause()
        self._value = step_of(self._value, self._rank, index)
        self._steps += 1
        self._extra["taken"] += 1

    def tensors(self) -> dict[str, NDArray[Any]]:
        """See State."""
        return {"value": np.array([self._value], np.uint64), "steps": np.array(self._steps, np.int64)}

    def load(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """See State."""
        self._value, self._steps = int(tensors["value"][0]), int(tensors["steps"])

    def extra(self) -> dict[str, Any]:
        """See State; what is returned lives on, as a callback's own state does."""
        return self._extra

    def load_extra(self, extra: Mapping[str, Any]) -> None:
        """See State."""
        self._extra = dict(extra)
