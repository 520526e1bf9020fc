"""What is kept of callbacks: one function a feature."""

import collections
import contextlib
import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import keras
import numpy as np
import tensorflow as tf
from models import OwnOptimizer, batch, dropout
from runs import (
    VALIDATION,
    Crash,
    CrashError,
    Losses,
    Named,
    newest,
    said_by,
    same_twice,
    state,
    train,
    twice,
    weights,
)
from understudy.keras import plain


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
        for average, current in zip(self.shadow.averages, self.model.get_weights(), strict=True):
            average.assign(0.9 * average + 0.1 * current)


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
