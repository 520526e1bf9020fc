"""A training in numpy whose state after step s is a pure function of (rank, s). A file `finish` on the volume ends it
after the step whose number it holds.

Only additions, multiplications and divisions, each of which IEEE 754 defines to the last bit.
"""

import argparse
import time
from typing import Any

import numpy as np
from storage import spoil_fsync  # type: ignore[import-not-found]  # beside it in the ConfigMap
from understudy import Session, State

SIZE = 6_000
LOOK_EVERY = 10
"""Steps between two looks for `finish`, which holds a multiple of it."""


class Net(State):
    """Weights and their momentum."""

    def __init__(self) -> None:
        self.weights = np.zeros(SIZE)
        self.momentum = np.zeros(SIZE)

    def tensors(self) -> dict[str, Any]:
        return {"weights": self.weights.copy(), "momentum": self.momentum.copy()}

    def load(self, tensors: Any) -> None:
        self.weights[:], self.momentum[:] = tensors["weights"], tensors["momentum"]

    def train(self, batch: np.ndarray[Any, Any]) -> None:
        error = self.weights - batch
        self.momentum = 0.9 * self.momentum + error / (1.0 + np.abs(error))
        self.weights = self.weights - 0.01 * self.momentum


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100_000_000)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--log-every", type=int, default=1)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds of waiting in each step, for the work")
    parser.add_argument("--fsync", type=float, default=0.0, help="seconds of each fsync of a volume that is slow")
    args = parser.parse_args()
    net = Net()

    def step(index: int) -> None:
        net.train(np.random.default_rng((11, session.rank, index)).random(SIZE))
        time.sleep(args.pace)

    session = Session(net, step)
    spoil_fsync(session.context.root, slow_s=args.fsync)
    finish = session.context.root / "finish"
    for done in session.steps(args.steps, save_every=args.save_every, log_every=args.log_every):
        if done % LOOK_EVERY == 0 and finish.exists() and done >= int(finish.read_text()):
            session.stop()


if __name__ == "__main__":
    main()
