"""A trainer process that plays several pods in turn, each a fresh model: one import of TensorFlow for all of them.

Arguments: a folder, and names of cases. For each case: an undisturbed run; a primary that hands over, or crashes; a
redundant pod that warmed up at step 0, followed, was promoted and ran to the end. Prints a line of JSON for each.
"""

import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import keras
import understudy.keras
from models import MODELS, SEED, batch, dropout
from understudy import protocol
from understudy.checkpoint import RankStore
from understudy.trainer import session
from understudy_contract.names import Env

STEPS, SAVE_EVERY = 30, 10


class Restart(keras.callbacks.Callback):
    """Changes the state as training begins: the iterations are saved, and Adam computes with them."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.model.optimizer.iterations.assign(7)


def schedule() -> list[keras.callbacks.Callback]:
    return [Restart(), keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9)]


@dataclass(frozen=True)
class Case:
    """The first pod ends after this step; the second one goes on from the newest checkpoint."""

    make: Callable[[], keras.Model]
    ends_at: int = 13
    crashes: bool = False
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list
    steps_per_epoch: int | None = None


CASES = {name: Case(make) for name, make in MODELS.items()} | {
    "scheduled, handed over within an epoch": Case(dropout, 13, callbacks=schedule, steps_per_epoch=5),
    "scheduled, handed over between epochs": Case(dropout, 15, callbacks=schedule, steps_per_epoch=5),
    "scheduled, crashed, saved within an epoch": Case(dropout, 13, True, callbacks=schedule, steps_per_epoch=4),
    "scheduled, crashed, saved between epochs": Case(dropout, 13, True, callbacks=schedule, steps_per_epoch=5),
    "scheduled, crashed in the first epoch": Case(dropout, 3, True, callbacks=schedule, steps_per_epoch=5),
}

arrived = threading.Event()
"""Set whenever the trainer's reader has taken in a message."""


class WatchedLink(session.Link):
    def _take(self, line: bytes) -> None:
        super()._take(line)
        arrived.set()


session.Link = WatchedLink  # type: ignore[misc]


class Agent:
    """The agent's end of one pod's socket."""

    def __init__(self, folder: Path, root: Path, pod: str) -> None:
        folder.mkdir(parents=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(folder / "socket"))
        self._server.listen(1)
        self.said: queue.Queue[protocol.FromTrainer] = queue.Queue()
        self._connection: socket.socket | None = None
        os.environ.update(
            {
                Env.JOB: "job",
                Env.JOB_UID: "uid",
                Env.RANK: "0",
                Env.RANKS: "1",
                Env.POD_UID: pod,
                Env.CHECKPOINT_DIR: str(root),
                Env.SOCKET: str(folder / "socket"),
                Env.COUNTERS: str(folder / "counters"),
            }
        )
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, message: protocol.FromAgent) -> None:
        assert self._connection is not None
        self._connection.sendall(protocol.encode(message))

    def wait(self, kind: type[Any]) -> Any:
        while True:
            if isinstance(message := self.said.get(timeout=120), kind):
                return message

    def _serve(self) -> None:
        self._connection, _ = self._server.accept()
        for line in self._connection.makefile("rb"):
            self.said.put(protocol.decode_from_trainer(line))


class CrashError(Exception):
    """The end of a pod that saves nothing more."""


def train(case: Case, script: Any, *callbacks: keras.callbacks.Callback) -> None:
    """Run one pod: `script` plays its agent, on a thread."""
    keras.utils.set_random_seed(SEED)
    keras.utils.clear_session(free_memory=False)
    thread = threading.Thread(target=script, daemon=True)
    thread.start()
    understudy.keras.train(
        case.make(),
        batch,
        STEPS,
        save_every=SAVE_EVERY,
        steps_per_epoch=case.steps_per_epoch,
        callbacks=[*case.callbacks(), *callbacks],
    )
    thread.join()


def final_state(root: Path) -> dict[str, bytes]:
    newest = RankStore(root, "uid", 0, keep=3).newest()
    assert newest is not None and newest.ref.step == STEPS, newest
    return {name: array.tobytes() for name, array in newest.tensors.items()}


def undisturbed(case: Case, folder: Path) -> dict[str, bytes]:
    agent = Agent(folder / "run", folder / "volume", "alone")
    train(case, lambda: (agent.wait(protocol.Hello), agent.send(protocol.Promote(1))))
    return final_state(folder / "volume")


def with_two_pods(case: Case, folder: Path) -> tuple[dict[str, bytes], int]:
    volume = folder / "volume"
    first = Agent(folder / "first", volume, "first")

    class End(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, index: int, logs: Any = None) -> None:
            self.steps += 1
            if self.steps != case.ends_at:
                return
            if case.crashes:
                raise CrashError
            arrived.clear()
            first.send(protocol.HandOver())
            assert arrived.wait(60)

    def agent_of_first() -> None:
        first.wait(protocol.Hello)
        first.send(protocol.Promote(1))

    try:
        train(case, agent_of_first, End())
    except SystemExit as ended:
        assert ended.code == 82, ended.code
        handed = first.wait(protocol.HandedOver).checkpoint
        assert handed.step == case.ends_at, handed
    except CrashError:
        assert case.crashes
    store = RankStore(volume, "uid", 0, keep=3)
    left = store.peek()
    assert left is not None

    second = Agent(folder / "second", volume, "second")
    resumed: list[int] = []

    def agent_of_second() -> None:
        second.wait(protocol.Hello)
        second.send(protocol.Standby(store.volume_id()))
        assert second.wait(protocol.Ready).loaded == left
        second.send(protocol.Promote(2, left, store.volume_id()))
        resumed.append(second.wait(protocol.FirstStep).step)

    train(case, agent_of_second)
    return final_state(volume), resumed[0]


def main() -> None:
    root = Path(sys.argv[1])
    for name in sys.argv[2:]:
        case = CASES[name]
        alone = undisturbed(case, root / name / "alone")
        together, resumed_at = with_two_pods(case, root / name / "together")
        different = sorted(key for key in alone.keys() | together.keys() if alone.get(key) != together.get(key))
        print(
            "RESULT",
            json.dumps(
                {
                    "case": name,
                    "keras": keras.__version__,
                    "first": resumed_at,
                    "arrays": len(alone),
                    "different": different,
                }
            ),
        )


if __name__ == "__main__":
    main()
