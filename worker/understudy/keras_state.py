"""The State of a compiled Keras model: every variable that a training step reads, whoever owns it.

Model (weights, BatchNormalization's statistics, the seed generators of its layers), optimizer (slots, iterations,
learning rate, averages, loss scale), metrics, and Keras' GLOBAL seed generator, from which a random layer without a
seed draws.

Arrays are named by group and by the order in which the variables were first seen, since Keras' own names depend on what
else the process has made before: the same script gives the same order in every pod. A variable that appears only with
the first step is appended; one of a metric starts at its reset value, any other is refused, since nobody could know its
value. Reads no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from understudy.callback_state import read_callback, write_callback
from understudy.errors import NotStarted
from understudy.state import State, Tensors

_CALLBACKS: Final = "callback"


class KerasState(State):
    """Variables of one model, and the state of its callbacks."""

    def __init__(self, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Take a model that is compiled; it may be built later."""
        self._model = model
        self._callbacks = callbacks
        self._known: dict[str, list[keras.Variable]] = {}
        self._callback_arrays: dict[str, NDArray[Any]] = {}
        self._callback_values: list[dict[str, Any]] = []
        self._active = False
        self.epoch_logs: dict[str, float] | None = None
        """The training metrics of an epoch whose validation is still to be done."""
        self.epoch: int | None = None
        """The epoch that has begun and not ended: what its callbacks did to the state then is part of the state."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Snapshot all variables. TensorFlow shares the memory until a step writes: then IT copies, not this call."""
        arrays = {name: np.asarray(variable.value.read_value()) for name, variable in self._variables().items()}
        return arrays | (self._callbacks_now()[1] if self._active else self._callback_arrays)

    def load(self, tensors: Tensors) -> None:
        """Assign all variables; variables of metrics that the snapshot lacks are reset."""
        mine = self._variables()
        own = {name: array for name, array in tensors.items() if not name.startswith(_CALLBACKS)}
        self._callback_arrays = {name: array for name, array in tensors.items() if name.startswith(_CALLBACKS)}
        self._require_same_model(mine, own)
        if mine.keys() - own.keys():
            self._model.reset_metrics()
        for name, array in own.items():
            mine[name].assign(array)

    def extra(self) -> dict[str, Any]:
        """Give the callbacks' values, the epoch, and what is left to do of it."""
        values = self._callbacks_now()[0] if self._active else self._callback_values
        return {"callbacks": values, "epoch": self.epoch, "epochLogs": self.epoch_logs}

    def load_extra(self, extra: Mapping[str, Any]) -> None:
        """Keep the callbacks' values until `restore_callbacks`."""
        self._callback_values = list(extra.get("callbacks", ()))
        self.epoch = extra.get("epoch")
        self.epoch_logs = extra.get("epochLogs")

    def restore_callbacks(self) -> None:
        """Give the callbacks their state back: after on_train_begin, which resets it. From now on theirs is saved."""
        self._active = True
        for number, (callback, values) in enumerate(zip(self._callbacks, self._callback_values, strict=False)):
            prefix = f"{_CALLBACKS}/{number}/"
            arrays = [array for name, array in sorted(self._callback_arrays.items()) if name.startswith(prefix)]
            write_callback(callback, deepcopy(values), arrays)  # a callback may change them, and be given them again

    def _callbacks_now(self) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
        values: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        for number, callback in enumerate(self._callbacks):
            value, weights = read_callback(callback)
            values.append(value)
            arrays |= {f"{_CALLBACKS}/{number}/{i:05d}": array for i, array in enumerate(weights)}
        return values, arrays

    def _variables(self) -> dict[str, keras.Variable]:
        seen: set[int] = set()
        for group, variables in self._groups():
            known = self._known.setdefault(group, [])
            seen.update(map(id, known))
            for variable in variables:
                if id(variable) not in seen:
                    seen.add(id(variable))
                    known.append(variable)
        return {
            f"{group}/{i:05d}": variable for group, known in self._known.items() for i, variable in enumerate(known)
        }

    def _groups(self) -> Iterable[tuple[str, Iterable[keras.Variable]]]:
        yield "model", self._model.variables
        optimizer = self._model.optimizer
        yield "optimizer", optimizer.variables
        if (inner := getattr(optimizer, "inner_optimizer", None)) is not None:
            yield "inner", inner.variables
        yield "metrics", self._model.metrics_variables
        yield "seed", [global_seed_state()]

    def _require_same_model(self, mine: Mapping[str, keras.Variable], own: Tensors) -> None:
        late = sorted(name for name in mine.keys() - own.keys() if not name.startswith("metrics/"))
        if late:
            variable = mine[late[0]]
            raise NotStarted(
                f"the variable {variable.path} {tuple(variable.shape)} is not in the checkpoint: it appeared only with "
                "the first training step, or the model was changed. Create it in build(), or train the changed model "
                "as a new job (standalone: fresh=True)"
            )
        for name, array in own.items():
            if name not in mine or tuple(mine[name].shape) != array.shape:
                here = f"{mine[name].path} {tuple(mine[name].shape)}" if name in mine else "nothing"
                raise NotStarted(
                    f"the checkpoint's {name} {array.shape} does not fit this model, which has {here} there: the model "
                    "was changed. Train it as a new job (standalone: fresh=True)"
                )


def global_seed_state() -> keras.Variable:
    """Give the state of Keras' global seed generator, made now if nobody has drawn from it yet."""
    # Keras offers no public way; keras.src.random.seed_generator:global_seed_generator, 3.12 to 3.15.
    from keras.src.random.seed_generator import global_seed_generator

    return global_seed_generator().state
