"""Variables that a Keras object holds in its attributes, at any depth, whether Keras tracks them or not.

The trace of a step finds what the step itself touches (step_trace.py). A callback, or a method of the model that a
callback calls, may change variables beside the step: they are found here, by a walk through attributes. The walk enters
lists, tuples, dicts, objects of Keras and TensorFlow that own variables, and objects of ordinary classes (plain.py).

Guarantees an order that is the same in every process that runs the same script: that of the attributes. Does not find
what only a closure or a module's global name holds. Reads no clock.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import keras
import tensorflow as tf

from understudy.keras.plain import is_ordinary

_OWNERS: Final = (
    keras.Layer,
    keras.Optimizer,
    keras.Metric,
    keras.Loss,
    keras.callbacks.Callback,
    keras.random.SeedGenerator,
    keras.optimizers.schedules.LearningRateSchedule,
    tf.Module,
    tf.random.Generator,
)


@dataclass(frozen=True, eq=False, slots=True)
class Held:
    """A variable of TensorFlow, and the name that a person knows it by."""

    variable: tf.Variable
    path: str

    @classmethod
    def of(cls, variable: keras.Variable | tf.Variable) -> "Held":
        """Take a variable of Keras or of TensorFlow."""
        if isinstance(variable, keras.Variable):
            return cls(variable.value, variable.path)
        return cls(variable, variable.name)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Give the variable's shape."""
        return tuple(self.variable.shape)


def held_variables(roots: Iterable[object]) -> list[keras.Variable | tf.Variable]:
    """List the variables that `roots` hold, each once."""
    return list(_walk(list(roots), set()))


def _walk(found: object, seen: set[int]) -> Iterator[keras.Variable | tf.Variable]:
    if isinstance(found, (keras.Variable, tf.Variable)):
        if id(found) not in seen:
            seen.add(id(found))
            yield found
        return
    if isinstance(found, dict):
        inside: Iterable[object] = found.values()
    elif isinstance(found, (list, tuple, deque)):
        inside = found
    elif isinstance(found, _OWNERS) or is_ordinary(found):
        inside = vars(found).values()
    else:
        return
    if id(found) in seen:
        return
    seen.add(id(found))
    for part in list(inside):
        yield from _walk(part, seen)
