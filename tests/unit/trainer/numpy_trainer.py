"""Least squares with momentum, in numpy: a training whose every bit depends on every step before it."""

import argparse
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from understudy import Session, State
from understudy.trainer import restore, standby


class Regression(State):
    def __init__(self) -> None:
        self.weights = np.zeros(16)
        self.momentum = np.zeros(16)
        self.loss = 0.0

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"weights": self.weights.copy(), "momentum": self.momentum.copy()}

    def load(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.weights = tensors["weights"].copy()
        self.momentum = tensors["momentum"].copy()

    def step(self, index: int) -> None:
        random = np.random.default_rng(index)
        x = random.normal(size=(8, 16))
        error = x @ self.weights - x.sum(axis=1)
        self.loss = float(error @ error)
        self.momentum = 0.9 * self.momentum + x.T @ error / 8
        self.weights = self.weights - 0.01 * self.momentum


class Forgetful(Regression):
    def load(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.weights = tensors["weights"].copy()


def train(session: Session, args: argparse.Namespace) -> None:
    for completed in session.steps(args.total, save_every=args.save_every, log_every=args.save_every):
        if completed == args.stop_at:
            session.stop()
        if completed == args.fail_after:
            raise ValueError("this check is broken")
        if completed == args.kill_at:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)


def run(training: Callable[[], None], *, in_a_thread: bool, catch: bool) -> None:
    if in_a_thread:
        thread = threading.Thread(target=training)
        thread.start()
        thread.join()
        return
    try:
        training()
    except ValueError as error:
        if not catch:
            raise
        print("caught:", error)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--total", type=int, default=40)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--fail-at", type=int)
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--fail-after", type=int, help="raise in the loop's body, after this step")
    parser.add_argument("--exit-at", type=int, help="call sys.exit in this step")
    parser.add_argument("--thread-stays", action="store_true", help="keep the process by a thread that is no daemon")
    parser.add_argument("--in-a-thread", action="store_true", help="train in a thread, and wait for it")
    parser.add_argument("--catch", action="store_true", help="catch what leaves the loop, and exit 0")
    parser.add_argument("--kill-at", type=int, help="end by SIGKILL once a checkpoint at or above this step is due")
    parser.add_argument("--forgetful", action="store_true")
    parser.add_argument("--typo", action="store_true")
    parser.add_argument("--directory")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--volume-wait-s", type=float, help="how long to wait for the volume's id to be seen")
    args = parser.parse_args()
    if args.volume_wait_s is not None:
        for module in (restore, standby):
            mock.patch.object(module, "FLOOR_WAIT_S", args.volume_wait_s).start()
    state = Forgetful() if args.forgetful else Regression()

    def step(index: int) -> None:
        if index == args.fail_at:
            raise ValueError("this sample is broken")
        if index == args.exit_at:
            sys.exit("no more data")
        state.step(index)

    session = Session(state, step, metrics=lambda: {"loss": state.loss}, directory=args.directory, fresh=args.fresh)
    if args.typo:
        undefined_name  # type: ignore[name-defined] # noqa: B018, F821
    if args.thread_stays:
        threading.Thread(target=threading.Event().wait).start()
    run(lambda: train(session, args), in_a_thread=args.in_a_thread, catch=args.catch)
    if args.result:
        np.save(args.result, state.weights)


if __name__ == "__main__":
    main()
