"""Trainers as real processes, and the agent's end of their socket."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import pytest
from understudy import protocol
from understudy.counters import Counters
from understudy_contract.names import Env

HERE = Path(__file__).parent
PATIENCE_S = 60.0
"""Far above what anything here takes: a hang becomes a failure, a slow machine does not."""

M = TypeVar("M")


@dataclass
class Trainer:
    """One trainer process, and the agent's connection to it."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    lines: BinaryIO
    counters: Path
    output: Path
    """Where its output goes: a file never makes it wait, as a pipe that nobody empties would."""
    log: list[protocol.FromTrainer]

    def send(self, message: protocol.FromAgent) -> None:
        self.connection.sendall(protocol.encode(message))

    def receive(self) -> protocol.FromTrainer | None:
        line = next(self.lines, None)
        if line is None:
            return None
        message = protocol.decode_from_trainer(line)
        self.log.append(message)
        return message

    def until(self, kind: type[M], where: Callable[[M], bool] = lambda _: True) -> M:
        """Read on to the first message of this kind."""
        while (message := self.receive()) is not None:
            if isinstance(message, kind) and where(message):
                return message
        raise AssertionError(f"the trainer ended without {kind.__name__}; it said {self.log}\n{self.end()[1]}")

    def end(self) -> tuple[int, str]:
        """Wait for its end; give the exit code and the output."""
        while self.receive() is not None:
            pass
        return self.process.wait(timeout=PATIENCE_S), self.output.read_text()

    def said(self, kind: type[M]) -> list[M]:
        return [message for message in self.log if isinstance(message, kind)]

    @property
    def step(self) -> int:
        with Counters(self.counters) as counters:
            return counters.step


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    return path


@pytest.fixture
def start(tmp_path: Path, volume: Path) -> Iterator[Callable[..., Trainer]]:
    """Start `numpy_trainer.py` beside an agent's socket, up to its Hello."""
    trainers: list[Trainer] = []

    def start_one(
        *arguments: str,
        pod: str,
        root: Path = volume,
        keep: int = 3,
        environment: Mapping[str, str] | None = None,
        script: str = "numpy_trainer.py",
    ) -> Trainer:
        run = tmp_path / f"run-{len(trainers)}"
        run.mkdir()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(run / "socket"))
            server.listen(1)
            variables = os.environ | {
                Env.JOB: "job",
                Env.JOB_UID: "uid-of-job",
                Env.RANK: "0",
                Env.RANKS: "2",
                Env.POD_UID: pod,
                Env.KEEP: str(keep),
                Env.CHECKPOINT_DIR: str(root),
                Env.SOCKET: str(run / "socket"),
                Env.COUNTERS: str(run / "counters"),
                **(environment or {}),
            }
            with (run / "output").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, str(HERE / script), *arguments],
                    env=variables,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            server.settimeout(PATIENCE_S)
            connection, _ = server.accept()
        connection.settimeout(PATIENCE_S)
        trainer = Trainer(process, connection, connection.makefile("rb"), run / "counters", run / "output", [])
        trainers.append(trainer)
        trainer.until(protocol.Hello)
        return trainer

    yield start_one
    for trainer in trainers:
        if trainer.process.poll() is None:
            trainer.process.kill()
        trainer.process.wait()
        trainer.lines.close()
        trainer.connection.close()
