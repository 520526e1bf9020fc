"""Standalone Keras trainings, one function a feature, in one process.

Arguments: a folder, and names of features; without a name all of them. Prints JSON for each.
"""

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import keras
import numpy as np
import tensorflow as tf
from callback_features import CALLBACKS
from models import batch, dropout
from runs import (
    VALIDATION,
    InterruptAt,
    failure_of,
    newest,
    state,
    train,
)
from step_features import STEPS
from understudy.keras.state import KerasState


class CountEpochs(keras.callbacks.Callback):
    """Counts what only a saved state can know after a resume."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= logs.keys()
        self.epochs.append(epoch)

    def get_state(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def set_state(self, state: dict[str, Any]) -> None:
        self.epochs = state["epochs"]


def callbacks_go_on_counting(folder: Path) -> object:
    train(folder, 10, validation=VALIDATION, callbacks=[CountEpochs()])
    second = CountEpochs()
    train(folder, 20, validation=VALIDATION, callbacks=[second])
    return second.epochs


class Worse(keras.callbacks.Callback):
    """Makes every epoch look worse than the one before."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = float(epoch)


def early_stopping_counts_across_a_resume_and_ends_the_training(folder: Path) -> object:
    def stopping() -> list[keras.callbacks.Callback]:
        return [Worse(), keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)]

    train(folder, 10, validation=VALIDATION, callbacks=stopping())
    train(folder, 100, validation=VALIDATION, callbacks=stopping())
    stopped_at = newest(folder).ref.step
    train(folder, 100, validation=VALIDATION, callbacks=stopping())
    return [stopped_at, newest(folder).ref.step]


def an_interrupted_validation_is_made_up_for(folder: Path) -> object:
    train(folder / "alone", validation=VALIDATION, callbacks=[CountEpochs()])

    def interrupting() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return VALIDATION

    interrupted_at = None
    try:
        train(folder / "twice", validation=interrupting, callbacks=[CountEpochs()])
    except KeyboardInterrupt:
        interrupted_at = newest(folder / "twice").ref.step
    second = CountEpochs()
    train(folder / "twice", validation=VALIDATION, callbacks=[second])
    return [interrupted_at, second.epochs, state(folder / "alone") == state(folder / "twice")]


class HalveRate(keras.callbacks.Callback):
    """Changes the state, and its own, as an epoch begins; what it was told in this process is not saved."""

    def __init__(self, stop_in: int | None = None) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.told: list[str] = []
        self._stop_in = stop_in

    def on_train_begin(self, logs: Any = None) -> None:
        self.told.append("train")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begun.append(epoch)
        self.told.append(f"begin {epoch}")
        self.model.optimizer.learning_rate.assign(self.model.optimizer.learning_rate * 0.5)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.told.append(f"end {epoch}")
        if epoch == self._stop_in:
            self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        return {"begun": self.begun}

    def set_state(self, state: dict[str, Any]) -> None:
        self.begun = state["begun"]


def a_resumed_callback_is_told_of_its_epoch(folder: Path) -> object:
    first, second = HalveRate(), HalveRate()
    with contextlib.suppress(KeyboardInterrupt):
        train(folder, callbacks=[first, InterruptAt(13)])
    model = train(folder, callbacks=[second])
    return [first.told, second.told, second.begun, float(model.optimizer.learning_rate)]


def a_callback_is_told_of_the_epoch_whose_validation_is_made_up_for(folder: Path) -> object:
    def interrupting() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return VALIDATION

    with contextlib.suppress(KeyboardInterrupt):
        train(folder, validation=interrupting, callbacks=[HalveRate()])
    second = HalveRate()
    train(folder, validation=VALIDATION, callbacks=[second])
    return [second.told, second.begun]


def a_training_that_has_ended_begins_no_epoch(folder: Path) -> object:
    stopped, again, extended = HalveRate(stop_in=1), HalveRate(), HalveRate()
    train(folder / "stopped", callbacks=[stopped])
    train(folder / "stopped", callbacks=[again])
    train(folder / "extended", 10, callbacks=[HalveRate()])
    train(folder / "extended", 20, callbacks=[extended])
    return [stopped.begun, again.begun, extended.begun]


def a_made_up_validation_ends_the_training_where_it_would_have_ended(folder: Path) -> object:
    def interrupting() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return VALIDATION

    alone = train(folder / "alone", validation=VALIDATION, callbacks=[HalveRate(stop_in=0)])
    with contextlib.suppress(KeyboardInterrupt):
        train(folder / "twice", validation=interrupting, callbacks=[HalveRate(stop_in=0)])
    interrupted_at = newest(folder / "twice").ref.step
    twice = train(folder / "twice", validation=VALIDATION, callbacks=[HalveRate(stop_in=0)])
    ended_at = [newest(folder / name).ref.step for name in ("alone", "twice")]
    same = all(map(np.array_equal, alone.get_weights(), twice.get_weights()))
    return [interrupted_at, ended_at, same]


class StopAtOnce(keras.callbacks.Callback):
    """Has nothing to train."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.model.stop_training = True


def a_callback_can_end_a_training_before_its_first_step(folder: Path) -> object:
    rate = HalveRate()
    train(folder, callbacks=[StopAtOnce(), rate])
    return [newest(folder).ref.step, rate.begun]


def the_trained_model_can_be_loaded(folder: Path) -> object:
    model = train(folder)
    [path] = folder.glob("run-1/rank-0/*/final/model.keras")
    x, _ = VALIDATION
    return bool(np.array_equal(keras.models.load_model(path).predict(x, verbose=0), model.predict(x, verbose=0)))


class ToldOfTests(keras.callbacks.Callback):
    """Spoils the weights for the time of a validation, and remembers what it was told of it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self._kept: Any = None

    def on_test_begin(self, logs: Any = None) -> None:
        self.told.append("begin")
        self._kept = self.model.get_weights()
        self.model.set_weights([np.zeros_like(weights) for weights in self._kept])

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.told.append(f"batch {batch}")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        assert "loss" in logs

    def on_test_end(self, logs: Any = None) -> None:
        assert "accuracy" in logs
        self.told.append("end")
        self.model.set_weights(self._kept)

    def get_state(self) -> dict[str, Any]:
        return {"told": self.told}

    def set_state(self, state: dict[str, Any]) -> None:
        self.told = state["told"]


def a_callback_is_told_of_a_validation_and_what_it_changes_for_it_is_not_saved(folder: Path) -> object:
    alone = ToldOfTests()
    train(folder / "alone", 5, validation=VALIDATION, validation_batch_size=8, callbacks=[alone])

    class InterruptTest(keras.callbacks.Callback):
        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    twice, options = folder / "twice", {"validation": VALIDATION, "validation_batch_size": 8}
    with contextlib.suppress(KeyboardInterrupt):
        train(twice, 5, callbacks=[interrupted := ToldOfTests(), InterruptTest()], **options)
    told = list(interrupted.told)
    train(twice, 5, callbacks=[second := ToldOfTests()], **options)
    return [alone.told, told, second.told, state(folder / "alone") == state(twice)]


class StopAfter(keras.callbacks.Callback):
    """Ends the training amid an epoch."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps
        self.ended: list[Any] = []

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        self._left -= 1
        if not self._left:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.ended.append([epoch, "val_loss" in logs])


def a_stop_amid_an_epoch_ends_the_epoch(folder: Path) -> object:
    alone, second = StopAfter(7), StopAfter(100)
    train(folder / "alone", validation=VALIDATION, callbacks=[alone])

    def interrupting() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return VALIDATION

    options = {"steps_per_epoch": 10}
    with contextlib.suppress(KeyboardInterrupt):
        train(folder / "twice", validation=interrupting, callbacks=[StopAfter(7)], **options)
    train(folder / "twice", validation=VALIDATION, callbacks=[second], **options)
    return [newest(folder / "alone").ref.step, alone.ended, newest(folder / "twice").ref.step, second.ended]


class PutBack(keras.callbacks.Callback):
    """Puts back other weights at the very end, as an early stopping may."""

    def on_train_end(self, logs: Any = None) -> None:
        self.model.set_weights([np.ones_like(weights) for weights in self.model.get_weights()])


def exported(folder: Path) -> list[Any]:
    [path] = folder.glob("run-1/rank-0/*/final/model.keras")
    weights: list[Any] = keras.models.load_model(path).get_weights()
    return weights


def the_exported_model_is_the_one_that_fit_gives(folder: Path) -> object:
    def averaging() -> keras.Model:
        model = dropout()
        inner = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
        model.compile(keras.optimizers.LossScaleOptimizer(inner), "sparse_categorical_crossentropy")
        return model

    model = train(folder / "average", make=averaging)
    averages = [variable.numpy() for variable in model.optimizer.inner_optimizer._model_variables_moving_average]
    averaged = all(map(np.array_equal, exported(folder / "average"), averages))
    trained = [array for name, array in newest(folder / "average").tensors.items() if name.startswith("model/")]
    moved = not any(np.array_equal(average, array) for average in averages for array in trained)
    train(folder / "put back", make=averaging, callbacks=[PutBack()])
    return [averaged, moved, all((weights == 1).all() for weights in exported(folder / "put back"))]


class ReadAtEnd(keras.callbacks.Callback):
    """Reads a file that the pod before this one had."""

    def on_train_end(self, logs: Any = None) -> None:
        Path("/nowhere/notes").read_text()


def a_callback_that_fails_at_the_end_is_named(folder: Path) -> object:
    return [failure_of(folder, callbacks=[ReadAtEnd()]), newest(folder).ref.step]


def a_batch_that_raises_is_named(folder: Path) -> object:
    def raising(step: int, rank: int, ranks: int) -> Any:
        if step == 7:
            raise ValueError("no more data")
        return batch(step, rank, ranks)

    return [failure_of(folder, batch=raising), newest(folder).ref.step]


def odd_batches_are_trained_on(folder: Path) -> object:
    def odd(step: int, rank: int, ranks: int) -> Any:
        x, y = batch(step, rank, ranks)
        return (x[:3], y[:3]) if step >= 7 else (x, y)

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(folder, batch=odd)
    said = [line.split(" ", 1)[1] for line in printed.getvalue().splitlines() if "traces the model anew" in line]
    return [newest(folder).ref.step, said]


def a_batch_that_does_not_fit_the_model_is_named(folder: Path) -> object:
    def odd(step: int, rank: int, ranks: int) -> Any:
        x, y = batch(step, rank, ranks)
        return (x[:, :5], y) if step == 7 else (x, y)

    return failure_of(folder, batch=odd)


def a_snapshot_is_not_changed_by_later_steps(folder: Path) -> object:
    model = dropout()
    model.train_on_batch(*batch(0, 0, 1))
    snapshot = KerasState(model, ()).tensors()
    before = {name: array.tobytes() for name, array in snapshot.items()}
    for step in range(1, 5):
        model.train_on_batch(*batch(step, 0, 1))
    after = KerasState(model, ()).tensors()
    kept = all(array.tobytes() == before[name] for name, array in snapshot.items())
    return [kept, any(array.tobytes() != before[name] for name, array in after.items())]


def a_changed_model_is_refused(folder: Path) -> object:
    train(folder)

    def wider() -> keras.Model:
        model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(32), keras.layers.Dense(2)])
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        return model

    return failure_of(folder, make=wider)


def wrong_arguments_are_explained(folder: Path) -> object:
    data = tf.data.Dataset.from_tensors(VALIDATION)
    return [
        failure_of(folder, batch=data),
        failure_of(folder, make=lambda: keras.Sequential([keras.layers.Dense(2)])),
    ]


FEATURES = (
    callbacks_go_on_counting,
    early_stopping_counts_across_a_resume_and_ends_the_training,
    an_interrupted_validation_is_made_up_for,
    a_resumed_callback_is_told_of_its_epoch,
    a_callback_is_told_of_the_epoch_whose_validation_is_made_up_for,
    a_training_that_has_ended_begins_no_epoch,
    a_made_up_validation_ends_the_training_where_it_would_have_ended,
    a_callback_can_end_a_training_before_its_first_step,
    the_trained_model_can_be_loaded,
    a_callback_is_told_of_a_validation_and_what_it_changes_for_it_is_not_saved,
    a_stop_amid_an_epoch_ends_the_epoch,
    the_exported_model_is_the_one_that_fit_gives,
    a_callback_that_fails_at_the_end_is_named,
    a_batch_that_raises_is_named,
    odd_batches_are_trained_on,
    a_batch_that_does_not_fit_the_model_is_named,
    a_snapshot_is_not_changed_by_later_steps,
    a_changed_model_is_refused,
    wrong_arguments_are_explained,
    *STEPS,
    *CALLBACKS,
)


def main() -> None:
    chosen = sys.argv[2:]
    for feature in FEATURES:
        if chosen and feature.__name__ not in chosen:
            continue
        print("FEATURE", feature.__name__, flush=True)
        result = feature(Path(sys.argv[1]) / feature.__name__)
        print("RESULT", json.dumps({"feature": feature.__name__, "result": result}), flush=True)


if __name__ == "__main__":
    main()
