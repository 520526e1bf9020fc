"""The State of a compiled Keras model: every variable that a training step reads or writes, whoever owns it.

Keras knows the variables of the model (weights, BatchNormalization's statistics, the seed generators of its layers), of
the optimizer (slots, iterations, learning rate, averages, loss scale), of the metrics, and its GLOBAL seed generator,
from which a random layer without a seed draws. The trace of the step knows the others that the step captures
(step_trace.py): a second optimizer, states of a stateful RNN, a `tf.Variable` or a `tf.random.Generator` that a layer
or a closure holds. `held.py` finds those that only callbacks or methods of the model change.

Arrays are named by group and by the order in which the variables were first seen, since Keras' own names depend on what
else the process has made before: the same script gives the same order in every pod. A variable that appears only with
the first step is appended; one of a metric starts at its reset value, any other is refused, since nobody could know its
value. A variable of a type that a checkpoint cannot hold (a string) is left out, and named in `unsaved`. Beside the
variables, the state has what callbacks (callback_state.py) and the model (model_state.py) keep in Python attributes.

The attributes are read once for each checkpoint: `extra` gives the values that belong to the arrays which the call of
`tensors` before it gave. `load` takes the arrays of attributes, `load_extra` then applies them. Reads no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from understudy.checkpoint.format import is_storable
from understudy.errors import NotStarted
from understudy.keras.callback_state import CallbackState
from understudy.keras.held import Held, held_variables
from understudy.keras.model_state import ModelState
from understudy.keras.step_trace import Trace
from understudy.trainer.state import State, Tensors

_CALLBACKS: Final = "callback"
_ATTRIBUTES: Final = "attribute"
_TOUCHED: Final = "touched"
_HELD: Final = "held"
"""Groups of arrays: of callbacks, of Python attributes; of variables that traces found, and that attributes hold."""


class KerasState(State):
    """Variables of one model, and the state of its callbacks."""

    def __init__(self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Take a model that is compiled; it may be built later."""
        self._model = model
        self._callbacks = callbacks
        self._known: dict[str, list[Held]] = {}
        self._touched: list[tf.Variable] = []
        self._held: list[keras.Variable | tf.Variable] = []
        self._rate: float | None = None
        """The learning rate that this script has set."""
        self._first_rate: float | None = None
        """The one that the script had set when the training began."""
        self.unsaved: list[Held] = []
        """Variables of a type that no checkpoint can hold."""
        self.absent: tuple[str, ...] = ()
        """Paths of variables that the checkpoint lacks which was loaded last: an earlier release did not know them."""
        self._callback_arrays: dict[str, NDArray[Any]] = {}
        known = {id(callback) for callback in callbacks}
        self._callback_states = [CallbackState(callback, known) for callback in callbacks]
        self._callback_values: list[dict[str, Any]] = []
        self._attributes = ModelState(model)
        self._attribute_arrays: dict[str, NDArray[Any]] = {}
        self._attribute_values: dict[str, Any] = {}
        self._applied = True
        """The attributes that were loaded have been applied."""
        self._read: tuple[list[dict[str, Any]], dict[str, Any]] | None = None
        """The values that belong to the arrays which `tensors` gave last."""
        self._pending: dict[str, NDArray[Any]] = {}
        """Arrays of variables that are still to be made."""
        self.lost: list[str] = []
        """Sentences about what of the callbacks could not be restored."""
        self._active = False
        self.epoch_logs: dict[str, float] | None = None
        """The training metrics of an epoch whose validation is still to be done."""
        self.epoch: int | None = None
        """The epoch that has begun and not ended: what its callbacks did to the state then is part of the state."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Snapshot all variables. TensorFlow shares the memory until a step writes: then IT copies, not this call."""
        arrays = {name: np.asarray(held.variable.read_value()) for name, held in self.variables().items()}
        arrays |= {name: array for name, array in self._pending.items() if name not in arrays}
        callbacks, attributes = self._callback_values, self._attribute_values
        of_callbacks, of_attributes = self._callback_arrays, self._attribute_arrays
        if self._active:
            callbacks, of_callbacks = self._callbacks_now()
        if self._applied:
            attributes, of_attributes = self._attributes_now()
        self._read = callbacks, attributes
        return arrays | of_callbacks | of_attributes

    def load(self, tensors: Tensors) -> None:
        """Assign all variables; variables of metrics that the snapshot lacks are reset."""
        mine = self.variables()
        self._callback_arrays = _group(tensors, _CALLBACKS)
        self._attribute_arrays = _group(tensors, _ATTRIBUTES)
        own = {n: array for n, array in tensors.items() if n not in {*self._callback_arrays, *self._attribute_arrays}}
        self._applied, self._read = False, None
        self._require_same_model(mine, own)
        if mine.keys() - own.keys():
            self._model.reset_metrics()
        self._pending = {name: array for name, array in own.items() if name not in mine}
        for name, array in own.items():
            if name in mine:
                mine[name].variable.assign(array)

    def extra(self) -> dict[str, Any]:
        """Give the callbacks' values, the epoch, and what is left to do of it."""
        if self._read is None:
            self.tensors()
            assert self._read is not None
        (callbacks, attributes), self._read = self._read, None
        rate = {} if self._first_rate is None else {"learningRate": self._first_rate}
        return {
            "callbacks": callbacks,
            "attributes": attributes,
            "epoch": self.epoch,
            "epochLogs": self.epoch_logs,
            **rate,
        }

    def load_extra(self, extra: Mapping[str, Any]) -> None:
        """Keep the callbacks' values until `restore_callbacks`."""
        self._callback_values = list(extra.get("callbacks", ()))
        self._attribute_values = extra.get("attributes", {})
        self.restore_attributes()
        self.epoch = extra.get("epoch")
        self.epoch_logs = extra.get("epochLogs")
        self._first_rate = extra.get("learningRate", self._first_rate)

    @property
    def changed_rate(self) -> tuple[float, float] | None:
        """The learning rates that the script set when the training began, and now; None where they are the same."""
        if self._first_rate is None or self._rate is None or self._first_rate == self._rate:
            return None
        return self._first_rate, self._rate

    def restore_attributes(self) -> None:
        """Give the model's attributes the values back that were loaded last."""
        prefix = len(_ATTRIBUTES) + 1
        arrays = {name[prefix:]: array for name, array in self._attribute_arrays.items()}
        lost = self._attributes.write(deepcopy(self._attribute_values), arrays)
        self.lost.extend(place for place in lost if place not in self.lost)
        self._applied, self._read = True, None

    def prepare_callbacks(self) -> None:
        """Take the files of the callbacks back to the checkpoint: before on_train_begin, which opens them."""
        for state, values in zip(self._callback_states, self._callback_values, strict=False):
            self.lost.extend(state.prepare(values))

    def restore_callbacks(self) -> None:
        """Give the callbacks their state back: after on_train_begin, which resets it. From now on theirs is saved."""
        self._active, self._read = True, None
        mine = self.variables()
        for name in self._pending.keys() & mine.keys():
            mine[name].variable.assign(self._pending.pop(name))
        for state in self._callback_states:
            state.note_changes()
        lost: list[str] = []
        for number, (state, values) in enumerate(zip(self._callback_states, self._callback_values, strict=False)):
            prefix = f"{_CALLBACKS}/{number}/"
            arrays = [array for name, array in sorted(self._callback_arrays.items()) if name.startswith(prefix)]
            # A copy: a callback may change what it is given, and the same values may be loaded a second time.
            lost.extend(state.write(deepcopy(values), arrays))
        self.lost.extend(place for place in lost if place not in self.lost)

    def unsaved_of_callbacks(self) -> list[str]:
        """Name the attributes of callbacks that no checkpoint can hold, as saves have met them."""
        return [place for state in self._callback_states for place in state.lost]

    def unsaved_of_model(self, *, known: bool = False) -> list[str]:
        """Name those of the model that were set since it was built; `known` names as well those that it had then."""
        return self._attributes.unsaved(known=known)

    def note_unsaved_of_model(self) -> None:
        """Count what callbacks have set as training began as had then."""
        self._attributes.note_unsaved()

    def _callbacks_now(self) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
        values: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        for number, state in enumerate(self._callback_states):
            value, own = state.read()
            values.append(value)
            arrays |= {f"{_CALLBACKS}/{number}/{i:05d}": array for i, array in enumerate(own)}
        return values, arrays

    def _attributes_now(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        values, arrays = self._attributes.read()
        return values, {f"{_ATTRIBUTES}/{name}": array for name, array in arrays.items()}

    def touch(self, traces: Iterable[Trace], *more: tf.Variable) -> None:
        """Take in what the traced steps touch, what the model and the callbacks hold, and `more`: once, when built."""
        for traced in traces:
            self._touched.extend(traced.variables)
        self._held = held_variables([self._model, *self._callbacks, *more])
        self._attributes = ModelState(self._model)  # building has made layers, and has set what each process sets
        self._first_rate = self._rate = _learning_rate(self._model.optimizer)
        self.variables()

    def variables(self) -> dict[str, Held]:
        """Give all variables that are saved, by the names of their arrays."""
        seen: set[int] = set()
        for group, variables in self._groups():
            known = self._known.setdefault(group, [])
            seen.update(id(held.variable) for held in known)
            for held in map(Held.of, variables):
                if id(held.variable) in seen:
                    continue
                seen.add(id(held.variable))
                if is_storable(held.variable.dtype.as_numpy_dtype):
                    known.append(held)
                elif all(held.variable is not other.variable for other in self.unsaved):
                    self.unsaved.append(held)
        return {f"{group}/{i:05d}": held for group, known in self._known.items() for i, held in enumerate(known)}

    def _groups(self) -> Iterable[tuple[str, Iterable[keras.Variable | tf.Variable]]]:
        yield "model", self._model.variables
        optimizer = self._model.optimizer
        yield "optimizer", optimizer.variables if optimizer is not None else ()
        if (inner := getattr(optimizer, "inner_optimizer", None)) is not None:
            yield "inner", inner.variables
        yield "metrics", self._model.metrics_variables
        yield "seed", [global_seed_state()]
        yield _TOUCHED, self._touched
        yield _HELD, self._held
        if self._active:  # what callbacks have made since
            yield _HELD, held_variables(self._callbacks)

    def _require_same_model(self, mine: Mapping[str, Held], own: Tensors) -> None:
        late = sorted(name for name in mine.keys() - own.keys() if not name.startswith("metrics/"))
        # A checkpoint of an earlier release holds only the variables that Keras knows, and none of the others.
        old = not any(name.startswith((f"{_TOUCHED}/", f"{_HELD}/")) for name in own)
        self.absent = tuple(mine[name].path for name in late) if old else ()
        if late and not (old and all(name.startswith((f"{_TOUCHED}/", f"{_HELD}/")) for name in late)):
            held = mine[late[0]]
            raise NotStarted(
                f"the variable {held.path} {held.shape} is not in the checkpoint: it appeared only with "
                "the first training step, or the model was changed. Create it in build(), or train the changed model "
                "as a new job (standalone: fresh=True)"
            )
        for name, array in own.items():
            if name not in mine and name.startswith(f"{_HELD}/"):
                continue  # a callback makes it in on_train_begin
            if name not in mine or mine[name].shape != array.shape:
                here = f"{mine[name].path} {mine[name].shape}" if name in mine else "nothing"
                raise NotStarted(
                    f"the checkpoint's {name} {array.shape} does not fit this model, which has {here} there: the model "
                    "was changed. Train it as a new job (standalone: fresh=True)"
                )


def _group(tensors: Tensors, group: str) -> dict[str, NDArray[Any]]:
    return {name: array for name, array in tensors.items() if name.startswith(f"{group}/")}


def _learning_rate(optimizer: keras.Optimizer | None) -> float | None:
    """Give the learning rate if it is a number, which a checkpoint holds; a schedule is the script's own."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.get_config().get("learning_rate") if optimizer is not None else None
    return rate if isinstance(rate, float) else None


def global_seed_state() -> keras.Variable:
    """Give the state of Keras' global seed generator, made now if nobody has drawn from it yet."""
    # Keras offers no public way; keras.src.random.seed_generator:global_seed_generator, 3.12 to 3.15.
    from keras.src.random.seed_generator import global_seed_generator

    return global_seed_generator().state
