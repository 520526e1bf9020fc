"""What the scripts of the cases train: a sum of random numbers. A step takes a twentieth of a second.

It is delivered beside each script, and runs in the worker's container.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from understudy import State

ROOT = Path(os.environ["UNDERSTUDY_CHECKPOINT_DIR"])
"""The volume, on which a test leaves files to tell a script something."""
STEP_S = 0.05


class Sum(State):
    """The state of the training."""

    def __init__(self) -> None:
        self.value = np.zeros(100)

    def tensors(self) -> dict[str, Any]:
        return {"value": self.value.copy()}

    def load(self, tensors: Any) -> None:
        self.value[:] = tensors["value"]

    def step(self, index: int) -> None:
        """Add numbers that follow from the step's index alone."""
        self.value += np.random.default_rng(index).random(100)
        time.sleep(STEP_S)


def told(name: str) -> bool:
    """Take a file off the volume: true once, in one pod, for each time that the test has put it there."""
    try:
        (ROOT / name).unlink()
    except FileNotFoundError:
        return False
    return True
