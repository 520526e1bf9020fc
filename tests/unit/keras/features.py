"""Standalone Keras trainings, one function a feature, in one process.

Arguments: a folder, and names of features; without a name all of them. Prints JSON for each.
"""

import collections
import contextlib
import io
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import keras
import numpy as np
import tensorflow as tf
import understudy.keras
from models import MODELS, SEED, OwnOptimizer, batch, dropout, kernels_noise
from understudy import plain
from understudy.checkpoint import RankStore
from understudy.context import forget_finished
from understudy.failures import sentence
from understudy.keras_state import KerasState

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


class InterruptAt(keras.callbacks.Callback):
    """Hands over after this many steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGINT)


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


def failure_of(folder: Path, **options: Any) -> str:
    try:
        train(folder, **options)
    except Exception as error:  # noqa: BLE001
        return sentence(error)
    return "nothing was raised"


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


def weights(model: keras.Model) -> list[bytes]:
    return [variable.numpy().tobytes() for variable in model.variables]


def train_gives_what_fit_gives(folder: Path) -> object:
    """On the same batches, with the same seed: nothing of the model was touched before its first step."""
    makers = {name: MODELS[name] for name in ("lazily_built", "own_optimizer", "stateful_rnn", "own_variables")}
    unequal = []
    for name, make in (makers | {"kernels_noise": kernels_noise}).items():
        keras.utils.set_random_seed(SEED)
        fitted = make()
        batches = tf.data.Dataset.from_generator(
            lambda: (batch(step, 0, 1) for step in range(20)),
            output_signature=(tf.TensorSpec((16, 8), tf.float32), tf.TensorSpec((16,), tf.int64)),
        )
        fitted.fit(batches, epochs=1, steps_per_epoch=20, verbose=0)
        if weights(fitted) != weights(train(folder / name, make=make, steps_per_epoch=None, log_every=1000)):
            unequal.append(name)
    return unequal


class Alone(keras.Model):
    """Its train_step takes an array that comes alone, and its test_step, too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = keras.layers.Dense(8)

    def train_step(self, data: Any) -> dict[str, Any]:
        assert not isinstance(data, tuple)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((data - self.net(data)) ** 2)
        weights = self.net.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}

    def test_step(self, data: Any) -> dict[str, Any]:
        assert not isinstance(data, tuple)
        return {"loss": tf.reduce_mean((data - self.net(data)) ** 2)}


def alone() -> keras.Model:
    model = Alone()
    model.compile("sgd")
    return model


def said_by(folder: Path, **options: Any) -> list[str]:
    """Train, and give the lines that say that something is not exact or not saved."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(folder, **options)
    lines = (line.split(" ", 1)[1] for line in printed.getvalue().splitlines())
    return [line for line in lines if line.startswith(("not exact", "the trained model"))]


def a_batch_of_one_array_reaches_the_step_as_it_is(folder: Path) -> object:
    x, _ = VALIDATION
    model = train(folder, make=alone, batch=lambda *place: batch(*place)[0], validation=x)
    return [newest(folder).ref.step, model.net.kernel.shape[0]]


class Parts(keras.utils.PyDataset):
    """The validation's data in parts."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return tuple(array[8 * index : 8 * index + 8] for array in VALIDATION)


class Losses(keras.callbacks.Callback):
    """Keeps what each validation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(logs["val_loss"])


def validation_takes_what_fit_takes(folder: Path) -> object:
    seen = []
    dataset = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(8)
    kinds = {"arrays": VALIDATION, "dataset": dataset, "parts": Parts(1), "function": lambda: dataset}
    for name, validation in kinds.items():
        losses = Losses()
        train(folder / name, validation=validation, validation_batch_size=8, callbacks=losses)
        seen.append(losses.seen)
    return [len(seen[0]), all(losses == seen[0] for losses in seen)]


def wrong_validations_are_refused_before_the_first_step(folder: Path) -> object:
    dataset = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(8)
    wrong = [dataset.repeat(), iter(dataset), (part for part in [VALIDATION]), 3, (*VALIDATION, None, None)]
    said = [failure_of(folder / str(number), validation=validation) for number, validation in enumerate(wrong)]
    return [said, [path.name for path in folder.glob("*/run-1")]]


def a_batch_that_is_no_pure_function_is_told(folder: Path) -> object:
    source = iter(range(10_000))
    return [said_by(folder / "iterator", batch=lambda *_: batch(next(source), 0, 1)), said_by(folder / "pure")]


class Foreign(keras.layers.Layer):
    """Calls Python, draws with an operation that has no substitute, and holds a variable that cannot be saved."""

    def __init__(self) -> None:
        super().__init__()
        self.label = tf.Variable("none", trainable=False)
        self.count = 0

    def call(self, x: Any) -> Any:
        self.label.assign("seen")
        counted = tf.ensure_shape(tf.py_function(self._counted, [x], tf.float32), x.shape)
        return counted + 0.0 * tf.cast(_sampled(), tf.float32)

    def _counted(self, x: Any) -> Any:
        self.count += 1
        return x


def _sampled() -> Any:
    return tf.random.uniform_candidate_sampler([[1]], 1, 1, unique=True, range_max=5)[0][0]


def what_cannot_be_repeated_is_told_before_the_first_step(folder: Path) -> object:
    def foreign() -> keras.Model:
        model = keras.Sequential([keras.layers.Input((8,)), Foreign(), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        return model

    return said_by(folder, make=foreign, batch=lambda *place: (batch(*place)[0], np.zeros((16, 2), np.float32)))


def a_step_that_only_runs_eagerly_is_trained(folder: Path) -> object:
    class Eager(OwnOptimizer):
        def train_step(self, data: Any) -> dict[str, Any]:
            x, _ = data
            assert float(x[0, 0].numpy()) < 100  # no graph has this
            return super().train_step(data)

        def call(self, x: Any) -> Any:
            return self.net(x)

    def eager() -> keras.Model:
        model = Eager()
        model.compile(run_eagerly=True)
        model.own.build(model.net.trainable_variables)
        return model

    told = said_by(folder / "alone", make=eager)
    with contextlib.suppress(KeyboardInterrupt):
        train(folder / "twice", make=eager, callbacks=InterruptAt(13))
    train(folder / "twice", make=eager)
    return [told, state(folder / "alone") == state(folder / "twice")]


class Called(keras.Model):
    """A subclassed model without get_config: Keras saves no such model whole."""

    def __init__(self, net: keras.Model) -> None:
        super().__init__()
        self.net = net

    def call(self, x: Any) -> Any:
        return self.net(x)


def a_model_that_cannot_be_saved_whole_is_saved_as_weights(folder: Path) -> object:
    def called() -> keras.Model:
        model = Called(keras.layers.Dense(2, "softmax"))
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    told = said_by(folder, make=called)
    [path] = folder.glob("run-1/rank-0/*/final/*")
    fresh = called()
    fresh(VALIDATION[0])
    fresh.load_weights(path)
    saved = {name: array for name, array in newest(folder).tensors.items() if name.startswith("model/")}
    return [told, path.name, all(map(np.array_equal, fresh.net.get_weights(), saved.values()))]


class NoWeights(OwnOptimizer):
    """Cannot be saved at all."""

    def get_config(self) -> Any:
        raise NotImplementedError("no config today")

    def save_weights(self, *_: Any, **__: Any) -> None:
        raise TypeError("no weights today")


def a_model_that_cannot_be_saved_at_all_completes_its_training(folder: Path) -> object:
    def unsaved() -> keras.Model:
        model = NoWeights()
        model.compile()
        return model

    told = said_by(folder, make=unsaved)
    return [len(told), newest(folder).ref.step, [path.name for path in folder.glob("run-1/rank-0/*/final/*")]]


def a_further_training_of_a_script_is_another(folder: Path) -> object:
    """The script is killed in its second training, and started again."""

    def script(*callbacks: keras.callbacks.Callback) -> list[bytes]:
        model = train(folder, 20)
        model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
        options = {"save_every": 5, "directory": folder}
        understudy.keras.train(model, batch, 30, callbacks=[*callbacks], **options)
        return weights(model)

    def start() -> list[int]:
        return [RankStore(folder, uid, 0, keep=3).newest().ref.step for uid in ("run-1", "run-1/training-2")]

    with contextlib.suppress(KeyboardInterrupt):
        script(InterruptAt(17))
    interrupted = start()
    resumed = script()
    folder = folder.with_name("undisturbed")
    return [interrupted, resumed == script(), start()]


def a_learning_rate_that_the_script_changes_is_told(folder: Path) -> object:
    def at(rate: float) -> Callable[[], keras.Model]:
        def make() -> keras.Model:
            model = dropout()
            model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
            return model

        return make

    said_by(folder, make=at(0.5), steps=10)
    return [said_by(folder, make=at(0.5), steps=15), said_by(folder, make=at(0.25), steps=20)]


def a_checkpoint_of_an_earlier_release_is_taken(folder: Path) -> object:
    """It holds only what Keras knows."""
    taken = KerasState.tensors

    def known_to_keras(self: KerasState) -> Any:
        return {name: array for name, array in taken(self).items() if not name.startswith(("touched/", "held/"))}

    KerasState.tensors = known_to_keras  # type: ignore[method-assign]
    said_by(folder, make=MODELS["own_optimizer"], steps=10)
    KerasState.tensors = taken  # type: ignore[method-assign]
    return said_by(folder, make=MODELS["own_optimizer"])


class Tally(keras.callbacks.Callback):
    """Keeps a variable of TensorFlow, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.tallies = [tf.Variable(0, dtype=tf.int64)]

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        self.tallies[0].assign_add(1)


def a_variable_of_a_callback_is_kept(folder: Path) -> object:
    with contextlib.suppress(KeyboardInterrupt):
        train(folder, callbacks=[Tally(), InterruptAt(13)])
    train(folder, callbacks=[second := Tally()])
    return int(second.tallies[0].numpy())


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


def csv_logger_keeps_each_row_once(folder: Path) -> object:
    def see(_: Any, path: Path) -> list[str]:
        return (path / "history.csv").read_text().splitlines()

    rows, same = same_twice(folder, lambda path: keras.callbacks.CSVLogger(path / "history.csv"), see)
    return [[row.split(",")[0] for row in rows], same]


def history_has_every_epoch(folder: Path) -> object:
    seen, same = same_twice(folder, lambda _: keras.callbacks.History(), lambda it, _: [it.epoch, it.history])
    return [seen[0], same]


def early_stopping_goes_on(folder: Path) -> object:
    def see(it: Any, _: Path) -> list[Any]:
        return [it.wait, it.best, it.best_epoch, it.stopped_epoch, [array.tobytes().hex() for array in it.best_weights]]

    def make(_: Path) -> Any:
        return keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True)

    return same_twice(folder, make, see)[1]


def reduce_rate_on_plateau_goes_on(folder: Path) -> object:
    def make(_: Path) -> Any:
        return keras.callbacks.ReduceLROnPlateau("loss", mode="max", patience=1, min_delta=9.0, cooldown=1)

    def see(it: Any, _: Path) -> list[Any]:
        return [it.wait, it.best, it.cooldown_counter, float(it.model.optimizer.learning_rate)]

    return same_twice(folder, make, see, steps=30)


def model_checkpoint_goes_on(folder: Path) -> object:
    def by_steps(path: Path) -> Any:
        return keras.callbacks.ModelCheckpoint(path / "at-{epoch}.weights.h5", save_freq=7, save_weights_only=True)

    def the_best(path: Path) -> Any:
        return keras.callbacks.ModelCheckpoint(path / "best.keras", "val_loss", save_best_only=True)

    def see(it: Any, path: Path) -> list[Any]:
        files = sorted(file.name for file in path.glob("*.*5")) + sorted(file.name for file in path.glob("*.keras"))
        return [it._batches_seen_since_last_saving, it.best, files]

    return [same_twice(folder / "steps", by_steps, see), same_twice(folder / "best", the_best, see)[1]]


def schedules_go_on(folder: Path) -> object:
    def make(_: Path) -> Any:
        return keras.callbacks.LearningRateScheduler(lambda _, rate: rate * 0.5)

    return same_twice(folder, make, lambda it, _: float(it.model.optimizer.learning_rate))[1]


def averages_are_swapped_as_in_an_undisturbed_run(folder: Path) -> object:
    def averaging() -> keras.Model:
        model = dropout()
        optimizer = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def see(it: Any, _: Path) -> list[Any]:
        return [it._ema_weights_in_model, [part.hex() for part in weights(it.model)]]

    def same(on_epoch: bool) -> Any:
        swap = keras.callbacks.SwapEMAWeights
        return same_twice(folder / str(on_epoch), lambda _: swap(on_epoch), see, make_model=averaging)[1]

    return [same(False), same(True)]


def nan_ends_a_resumed_training(folder: Path) -> object:
    def poisoned(step: int, rank: int, ranks: int) -> Any:
        x, y = batch(step, rank, ranks)
        return x, y, np.full(len(x), np.nan if step == 16 else 1.0, np.float32)

    twice(folder, lambda _: keras.callbacks.TerminateOnNaN(), lambda *_: None, batch=poisoned)
    return [newest(folder / name / "checkpoints").ref.step for name in ("alone", "together")]


def backup_and_restore_is_left_out(folder: Path) -> object:
    backup = keras.callbacks.BackupAndRestore(folder / "backup")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(folder / "checkpoints", callbacks=[backup])
    return ["BackupAndRestore is left out" in printed.getvalue(), (folder / "backup").exists()]


def tensorboard_goes_on_in_one_curve(folder: Path) -> object:
    def see(it: Any, path: Path) -> list[Any]:
        curves: dict[str, list[int]] = {}
        for file in sorted(path.glob("log/**/events*")):
            for record in tf.data.TFRecordDataset(str(file)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    curves.setdefault(f"{file.parent.name} {value.tag}", []).append(event.step)
        return [it._global_train_batch, {tag: steps for tag, steps in curves.items() if not tag.endswith(" keras")}]

    def make(path: Path) -> Any:
        return keras.callbacks.TensorBoard(path / "log", update_freq=1, write_graph=False)

    [batches, curves], same = same_twice(folder, make, see)
    return [batches, curves["train epoch_loss"], curves["train batch_loss"], curves["validation epoch_loss"], same]


class Meter:
    """An object of a user's own, in an attribute."""

    def __init__(self) -> None:
        self.total = 0.0
        self.seen: set[int] = set()


class Keeps(keras.callbacks.Callback):
    """Keeps plain data, in shapes that JSON does not know, and draws from generators of its own."""

    def __init__(self, window: int = 5) -> None:
        super().__init__()
        self.window = window
        self.meter = Meter()
        self.recent: Any = collections.deque(maxlen=window)
        self.by_epoch: dict[int, tuple[float, ...]] = {}
        self.counts: Any = collections.Counter()
        self.worst = float("-inf")
        self.sums = np.zeros(3)
        self.losses: list[float] = []
        self.source = np.random.default_rng(3)
        self.python = random.Random(4)
        self.drawn: list[float] = []

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        loss = float(logs["loss"])
        self.meter.total += loss
        self.meter.seen.add(index)
        self.recent.append(loss)
        self.counts[index % 2] += 1
        self.worst = max(self.worst, loss)
        self.sums += [index, loss, 1]
        self.losses.append(loss)
        self.drawn.append(self.source.random() + self.python.random() + float(tf.random.normal([])))
        self.drawn.append(random.random() + float(np.random.random()))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.by_epoch[epoch] = (logs["loss"], logs["accuracy"])


def a_callback_of_ones_own_keeps_its_attributes(folder: Path) -> object:
    def see(it: Any, _: Path) -> list[Any]:
        values = [it.recent, it.by_epoch, it.counts, it.worst, it.sums, it.losses, it.meter.total, it.meter.seen]
        return [*map(repr, values), type(it.recent).__name__, it.drawn]

    seen, same = same_twice(folder, lambda _: Keeps(), see, steps=90)
    return [seen[6][:5], len(seen[-1]), same]


def what_the_script_sets_anew_is_the_scripts(folder: Path) -> object:
    with contextlib.suppress(CrashError):
        train(folder, callbacks=[Keeps(window=5), Crash(13)])
    train(folder, callbacks=[second := Keeps(window=7)])
    return [second.window, len(second.losses)]


class Stateful(keras.callbacks.Callback):
    """Offers its state."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self.file = open(os.devnull)  # noqa: SIM115, PTH123

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._count += 1

    def state(self) -> dict[str, int]:
        return {"count": self._count}

    def load_state(self, state: dict[str, int]) -> None:
        self._count = state["count"]


class Opens(keras.callbacks.Callback):
    """Keeps an open file."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.file = open(os.devnull)  # noqa: SIM115, PTH123


def what_a_callback_cannot_keep_is_told(folder: Path) -> object:
    counts = same_twice(folder / "offered", lambda _: Stateful(), lambda it, _: it._count)
    kept = said_by(folder / "kept", callbacks=[Stateful(), Keeps()])
    return [counts, said_by(folder / "told", callbacks=[Opens()]), kept]


def a_lost_file_of_a_callback_is_told(folder: Path) -> object:
    def logger() -> Any:
        folder.mkdir(exist_ok=True)
        return keras.callbacks.CSVLogger(folder / "history.csv")

    with contextlib.suppress(CrashError):
        train(folder / "checkpoints", callbacks=[logger(), Crash(13)])
    (folder / "history.csv").unlink()
    return said_by(folder / "checkpoints", callbacks=[logger()])


class Named:
    """Is an object of an ordinary class."""

    def __init__(self, name: str) -> None:
        self.name = name


def plain_values_come_back_and_others_are_named(folder: Path) -> object:
    del folder
    values: list[Any] = [
        None, True, -3, 1 << 70, 1.5, float("inf"), float("-inf"), "text", b"\0bytes", (1, (2.0, "x")), [1, [2]],
        list(range(100)), tuple(map(float, range(100))), {"a": 1, "!": 2}, {1: "one", (2, 3): [4]}, {3, 1},
        frozenset("ab"),
        collections.deque([1, 2], maxlen=3), collections.Counter("aab"), collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, {"a": [1]}),
    ]  # fmt: skip
    unequal = []
    for value in values:
        arrays: list[Any] = []
        saved = json.loads(json.dumps(plain.encode(value, arrays)))
        old = collections.defaultdict(list) if isinstance(value, collections.defaultdict) else None
        found = plain.apply(old, saved, arrays)
        if found != value or type(found) is not type(value):
            unequal.append([repr(value), repr(found)])
    arrays = []
    array = np.array([[1, 2]], np.int16)
    parts = {"array": array, "scalar": np.float32(0.1), "tensor": tf.constant([1.0]), "nan": float("nan")}
    back = plain.apply(None, json.loads(json.dumps(plain.encode(parts, arrays))), arrays)
    array[0] = 0  # what was saved was a copy
    kept = [back["array"].tolist(), str(back["array"].dtype), float(back["scalar"]), back["tensor"].numpy().tolist()]
    named, mine = Named("saved"), Named("mine")
    same = plain.apply(mine, plain.encode(named, []), []) is mine and mine.name == "saved"
    loop: list[Any] = []
    loop.append(loop)
    wrong = [{"a": [0, open(os.devnull)]}, loop, np.array(["text"]), {"b": iter(())}]  # noqa: SIM115, PTH123
    said = []
    for value in wrong:
        try:
            plain.encode(value, [], ".x")
        except plain.NotPlainError as error:
            said.append(str(error))
    return [unequal, kept, same, said[0], said[2], said[3], len(said)]


class Table(keras.callbacks.Callback):
    """Puts losses of its own into the logs, one for each epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["val_loss"] = (1.0, 1.00002, 1.00004, 1.00006, 1.00007, 1.00008, 1.00008, 1.00009)[epoch]


def plateaus_and_stops_count_alike_with_their_defaults(folder: Path) -> object:
    """Keras negates min_delta when it chooses how to compare, once in each process."""

    def run(name: str, make: Callable[[], Any], *seen: str) -> Any:
        def see(it: Any, _: Path) -> list[Any]:
            return [float(it.model.optimizer.learning_rate), *(getattr(it, attribute) for attribute in seen)]

        return same_twice(folder / name, lambda _: make(), see, before=Table, steps=40)

    plateau = keras.callbacks.ReduceLROnPlateau
    stop = keras.callbacks.EarlyStopping
    return [
        run("plateau", lambda: plateau(patience=3, mode="min"), "wait", "best")[1],
        run("stop", lambda: stop(patience=3, min_delta=0.5, mode="min"), "wait", "stopped_epoch")[1],
    ]


class Ema(keras.callbacks.Callback):
    """Keeps averages in variables that it makes as training begins, in an object of its own, and counts steps down."""

    def __init__(self) -> None:
        super().__init__()
        self.shadow: Any = Named("average")
        self.left = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.shadow.averages = [tf.Variable(weights) for weights in self.model.get_weights()]
        self.left = 13

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        self.left = max(0, self.left - 1)
        for average, weights in zip(self.shadow.averages, self.model.get_weights(), strict=True):
            average.assign(0.9 * average + 0.1 * weights)


def variables_that_a_callback_makes_as_training_begins_are_kept(folder: Path) -> object:
    def see(it: Any, _: Path) -> list[Any]:
        return [it.left, [average.numpy().tobytes().hex() for average in it.shadow.averages]]

    seen, same = same_twice(folder, lambda _: Ema(), see)
    return [seen[0], same]


class Odd(keras.callbacks.Callback):
    """Keeps what checkpoints do not take by themselves, and a list that the script holds as well."""

    def __init__(self, record: list[float]) -> None:
        super().__init__()
        self.record = record
        self.path: Any = None
        self.many: list[Any] = []
        self.later: Any = None

    def on_train_batch_end(self, index: int, logs: Any = None) -> None:
        self.record.append(float(tf.random.get_global_generator().normal([])))
        self.path = Path(f"step-{len(self.record)}")
        self.many = [{"number": number} for number in range(9000)]
        self.later = np.array([1j]) if len(self.record) == 7 else self.later


def odd_attributes_are_kept_or_told(folder: Path) -> object:
    records: list[list[float]] = []

    def make(_: Path) -> Any:
        tf.random.set_global_generator(tf.random.Generator.from_seed(3))
        records.append([])
        return Odd(records[-1])

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        seen, same = same_twice(folder, make, lambda it, _: [it.record, str(it.path), len(it.many)])
    told = "no checkpoint can hold Odd.later (ndarray)" in printed.getvalue()
    return [seen[1:], same, len(records[0]), records[2] == records[0], told]


class Best(keras.callbacks.Callback):
    """Offers a state with values that JSON does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.best = {0: float("inf")}

    def state(self) -> Any:
        return {"best": self.best, "array": np.arange(3)}

    def load_state(self, state: Any) -> None:
        assert state["array"].tolist() == [0, 1, 2]
        self.best = state["best"]


def an_offered_state_is_plain_data_not_json_alone(folder: Path) -> object:
    return same_twice(folder, lambda _: Best(), lambda it, _: repr(it.best))


class NestedLogs(OwnOptimizer):
    """Gives its parts of the loss in a dict."""

    def train_step(self, data: Any) -> dict[str, Any]:
        loss = super().train_step(data)["loss"]
        return {"loss": loss, "parts": {"half": loss / 2}}


def logs_in_dicts_are_logged(folder: Path) -> object:
    def nested() -> keras.Model:
        model = NestedLogs()
        model.compile()
        return model

    history = keras.callbacks.History()
    train(folder, make=nested, callbacks=history)
    return sorted(history.history)


class Float32Only(OwnOptimizer):
    """Validates in a step that takes no other type."""

    def test_step(self, data: Any) -> dict[str, Any]:
        x, _ = data
        return {"loss": tf.reduce_sum(x + tf.ones(1, tf.float32))}


def arrays_of_float64_are_validated_as_fit_does(folder: Path) -> object:
    def strict() -> keras.Model:
        model = Float32Only()
        model.compile()
        return model

    x, y = VALIDATION
    train(folder, make=strict, validation=(x.astype(np.float64), y), callbacks=(losses := Losses()))
    return len(losses.seen)


class Shuffle(keras.layers.Layer):
    """Draws what has no compiled operation of its own."""

    def call(self, x: Any) -> Any:
        picked = tf.random.categorical(tf.zeros([1, 4]), 8)
        return tf.random.shuffle(x) + 0.01 * tf.cast(picked, x.dtype)


def a_compiled_step_draws_shuffles_and_categories(folder: Path) -> object:
    def compiled() -> keras.Model:
        model = keras.Sequential([keras.layers.Input((8,)), Shuffle(), keras.layers.Dense(2, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=True)
        return model

    with contextlib.suppress(CrashError):
        train(folder / "twice", make=compiled, callbacks=[Crash(13)])
    train(folder / "alone", make=compiled)
    train(folder / "twice", make=compiled)
    return state(folder / "alone") == state(folder / "twice")


def nothing_is_told_of_keras_own_callbacks(folder: Path) -> object:
    def own() -> list[keras.callbacks.Callback]:
        return [
            keras.callbacks.CSVLogger(folder / "history.csv"),
            keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
            keras.callbacks.History(),
            keras.callbacks.LearningRateScheduler(lambda _, rate: rate * 0.9),
            keras.callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True),
            keras.callbacks.ReduceLROnPlateau("loss", patience=1),
            keras.callbacks.TensorBoard(folder / "log", write_graph=False),
            keras.callbacks.TerminateOnNaN(),
        ]

    folder.mkdir(parents=True)
    with contextlib.suppress(CrashError):
        train(folder / "checkpoints", validation=VALIDATION, callbacks=[*own(), Crash(13)])
    return said_by(folder / "checkpoints", validation=VALIDATION, callbacks=own())


CALLBACKS = (
    nothing_is_told_of_keras_own_callbacks,
    plateaus_and_stops_count_alike_with_their_defaults,
    variables_that_a_callback_makes_as_training_begins_are_kept,
    odd_attributes_are_kept_or_told,
    an_offered_state_is_plain_data_not_json_alone,
    logs_in_dicts_are_logged,
    arrays_of_float64_are_validated_as_fit_does,
    a_compiled_step_draws_shuffles_and_categories,
    plain_values_come_back_and_others_are_named,
    csv_logger_keeps_each_row_once,
    history_has_every_epoch,
    early_stopping_goes_on,
    reduce_rate_on_plateau_goes_on,
    model_checkpoint_goes_on,
    schedules_go_on,
    averages_are_swapped_as_in_an_undisturbed_run,
    nan_ends_a_resumed_training,
    backup_and_restore_is_left_out,
    tensorboard_goes_on_in_one_curve,
    a_callback_of_ones_own_keeps_its_attributes,
    what_the_script_sets_anew_is_the_scripts,
    what_a_callback_cannot_keep_is_told,
    a_lost_file_of_a_callback_is_told,
)

FEATURES = (
    *CALLBACKS,
    train_gives_what_fit_gives,
    a_batch_of_one_array_reaches_the_step_as_it_is,
    validation_takes_what_fit_takes,
    wrong_validations_are_refused_before_the_first_step,
    a_batch_that_is_no_pure_function_is_told,
    what_cannot_be_repeated_is_told_before_the_first_step,
    a_step_that_only_runs_eagerly_is_trained,
    a_model_that_cannot_be_saved_whole_is_saved_as_weights,
    a_model_that_cannot_be_saved_at_all_completes_its_training,
    a_further_training_of_a_script_is_another,
    a_learning_rate_that_the_script_changes_is_told,
    a_checkpoint_of_an_earlier_release_is_taken,
    a_variable_of_a_callback_is_kept,
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
