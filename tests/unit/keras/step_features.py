"""What a training step, its data and its export may be: one function a feature."""

import contextlib
import os
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
from runs import (
    VALIDATION,
    InterruptAt,
    Losses,
    failure_of,
    newest,
    said_by,
    state,
    train,
    weights,
)
from understudy.checkpoint import RankStore
from understudy.keras.state import KerasState


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


def a_variable_that_cannot_be_saved_is_named_once(folder: Path) -> object:
    """However many checkpoints are made."""
    del folder
    model = keras.Sequential([keras.layers.Input((8,)), Foreign(), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    kept = KerasState(model, ())
    kept.touch([])
    for _ in range(3):
        kept.tensors()
    return [held.path for held in kept.unsaved]


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


STEPS = (
    a_variable_that_cannot_be_saved_is_named_once,
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
)
