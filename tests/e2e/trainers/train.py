"""A deterministic training in numpy: about 100 kB of state, as many steps as asked for, or until told to finish.

The state after step s is a pure function of (seed, rank, s). A file `finish` at the root of the volume ends the
training after the step that sees it, `finish-0` that of rank 0 alone; while there is a file `slow` or `failing`, each
fsync takes two seconds or fails; while there is a file `held-POD`, that pod's saves stand still right before they
become visible, and say so in it.
"""

import argparse
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from storage import spoil_fsync  # type: ignore[import-not-found]  # beside it in the ConfigMap
from understudy import Session, State

SIZE = 6_000


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
        self.momentum = 0.9 * self.momentum + np.tanh(self.weights - batch)
        self.weights = self.weights - 0.01 * self.momentum


def hold_saves(root: Path) -> None:
    """Let a save of this pod stand still before its rename, for as long as a file at the volume's root says so."""
    replace, held = os.replace, root / f"held-{socket.gethostname()}"

    def late(source: str, target: str, **folders: Any) -> None:
        if Path(target).name.startswith("step-") and held.exists():
            held.write_text(Path(target).name)
            while held.exists():
                time.sleep(0.01)
        replace(source, target, **folders)

    os.replace = late  # Disk calls it with the folder that it has opened


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--log-every", type=int, default=1)
    parser.add_argument(
        "--pace", type=float, default=0.01, help="seconds of waiting in each step, for the work it stands for"
    )
    parser.add_argument("--raise-at", type=int, default=-1, help="index of a batch that cannot be made")
    parser.add_argument("--hang-at", type=int, default=-1, help="index of a batch that waits for ever, once")
    args = parser.parse_args()
    net = Net()

    def batch(index: int) -> np.ndarray[Any, Any]:
        if index == args.raise_at:
            raise ValueError(f"image {index} is cut short")
        hung = session.context.root / "hung"
        if index == args.hang_at and not hung.exists() and index > 0:
            hung.touch()
            threading.Event().wait()
        return np.random.default_rng((11, session.rank, index)).standard_normal(SIZE)

    def step(index: int) -> None:
        net.train(batch(index))
        time.sleep(args.pace)

    session = Session(net, step, metrics=lambda: {"norm": float(np.linalg.norm(net.weights))})
    spoil_fsync(session.context.root, slow_s=2)
    hold_saves(session.context.root)
    finish = (session.context.root / "finish", session.context.root / f"finish-{session.rank}")
    for done in session.steps(args.steps, save_every=args.save_every, log_every=args.log_every):
        if done % 10 == 0 and any(file.exists() for file in finish):
            session.stop()
    print(f"weights {net.weights.sum().hex()}", flush=True)
    Path(session.context.root, f"result-{session.context.job}-{session.rank}").write_text(net.weights.sum().hex())


if __name__ == "__main__":
    main()
