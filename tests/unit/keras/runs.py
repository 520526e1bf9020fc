"""Standalone Keras trainings in one process, each as in a process of its own, and what is seen of them."""

import contextlib
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import keras
import understudy.keras
from models import SEED, batch, dropout
from understudy.checkpoint import RankStore
from understudy.trainer.context import forget_finished
from understudy.trainer.failures import sentence

VALIDATION = batch(10_000, 0, 1)


def train(folder: Path, steps: int = 20, make: Callable[[], keras.Model] = dropout, **options: Any) -> keras.Model:
    """Train as a process of its own does."""
    forget_finished()
    keras.utils.set_random_seed(SEED)
    make = options.pop("make_model", make)
    options = {"save_every": 5, "log_every": 5, "steps_per_epoch": 5, "directory": folder} | options
    return understudy.keras.train(make(), options.pop("batch", batch), steps, **options)


def newest(folder: Path) -> Any:
    return RankStore(folder, "run-1", 0, keep=3).newest()


def state(folder: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in newest(folder).tensors.items()}


class InterruptAt(keras.callbacks.Callback):
    """Hands over after this many steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGINT)


def failure_of(folder: Path, **options: Any) -> str:
    try:
        train(folder, **options)
    except Exception as error:  # noqa: BLE001
        return sentence(error)
    return "nothing was raised"


def weights(model: keras.Model) -> list[bytes]:
    return [variable.numpy().tobytes() for variable in model.variables]


def said_by(folder: Path, **options: Any) -> list[str]:
    """Train, and give the lines that say that something is not exact or not saved."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(folder, **options)
    lines = (line.split(" ", 1)[1] for line in printed.getvalue().splitlines())
    return [line for line in lines if line.startswith(("not exact", "the trained model"))]


class Losses(keras.callbacks.Callback):
    """Keeps what each validation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(logs["val_loss"])


class Crash(keras.callbacks.Callback):
    """Ends the pod after this step: what was not committed is lost."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._at = step
        self.steps = 0

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        self.steps += 1
        if self.steps == self._at:
            raise CrashError


class CrashError(Exception):
    """The end of a pod."""


def twice(folder: Path, make: Callable[[Path], Any], see: Callable[[Any, Path], Any], **options: Any) -> list[Any]:
    """Give what is seen of a callback in an undisturbed run, and after a crash at step 13 and a resume from step 10."""
    options = {"validation": VALIDATION} | options
    first = options.pop("before", None)
    before = [first()] if first else []
    alone, together = folder / "alone", folder / "together"
    for path in (alone, together):
        path.mkdir(parents=True)
    train(alone / "checkpoints", callbacks=[*before, undisturbed := make(alone)], **options)
    with contextlib.suppress(CrashError):
        train(together / "checkpoints", callbacks=[*before, make(together), Crash(13)], **options)
    train(together / "checkpoints", callbacks=[*before, resumed := make(together)], **options)
    return [see(undisturbed, alone), see(resumed, together)]


def same_twice(*arguments: Any, **options: Any) -> list[Any]:
    """Give one of the two things seen, and whether they are equal."""
    one, other = twice(*arguments, **options)
    return [one, one == other]


class Named:
    """Is an object of an ordinary class."""

    def __init__(self, name: str) -> None:
        self.name = name
