"""Python attributes of a model and of its layers, which an eager step or a callback may change: `self.phase += 1`.

Keras' own attributes are left out: those that a method of a class of Keras or TensorFlow assigns, read from its code.
So are those that hold only what is saved elsewhere (variables, layers, optimizers, metrics). What remains is the
script's, and is saved once it has changed since the model was built (attributes.py).

Guarantees that after `write` every plain attribute is what it was at the checkpoint: one that had not changed by then
gets the value back that it had when the model was built. A graph step changes such attributes while it is traced
only, which happens before that. Does not save arrays of more than 64 MiB, which would be copied and compared with each
checkpoint: a model holds such data, and seldom changes them. Does not see what the step's code keeps in names of a
module or a closure. Reads no clock.
"""

import dis
import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final

import keras
import tensorflow as tf
from numpy.typing import NDArray

from understudy.keras.attributes import Attributes

_FRAMEWORKS: Final = frozenset({"keras", "tensorflow"})
_LARGEST_BYTES: Final = 64 << 20


class ModelState:
    """The attributes of one model, and of the layers in it."""

    def __init__(self, model: keras.Model) -> None:
        """Take the model as it is now."""
        self._parts = [
            Attributes(layer, functools.partial(_is_left_out, type(layer)), largest_bytes=_LARGEST_BYTES)
            for layer in _walk(model, set())
        ]
        self.note_unsaved()

    def read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Give the values that have changed, by the number of their layer, and the arrays that they refer to."""
        values: dict[str, Any] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for number, part in enumerate(self._parts):
            changed, own = part.read()
            if changed:
                values[str(number)] = changed
                arrays |= {f"{number}/{i:05d}": array for i, array in enumerate(own)}
        return values, arrays

    def write(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> list[str]:
        """Take over what `read` gave, and put back what it did not give; name what could not be restored."""
        lost: list[str] = []
        for number, part in enumerate(self._parts):
            changed = values.get(str(number), {})
            lost.extend(part.reset(but=changed))
            own = [array for name, array in sorted(arrays.items()) if name.startswith(f"{number}/")]
            lost.extend(part.write(changed, own))
        return lost

    def unsaved(self, *, known: bool = False) -> list[str]:
        """Name what no checkpoint can hold and was put there since; `known` names as well what was there at first."""
        return [place for place, value in self._lost().items() if known or self._known.get(place) is not value]

    def note_unsaved(self) -> None:
        """Count what callbacks have put there as training began as known: they do so in each process."""
        self.read()
        self._known = self._lost()

    def _lost(self) -> dict[str, object]:
        return {place: value for part in self._parts for place, value in part.lost.items()}


def _walk(found: object, seen: set[int]) -> Iterator[keras.Layer]:
    """List a model and the layers that it holds, each once, in the same order in every process."""
    if isinstance(found, keras.Layer):
        inside: Iterable[object] = vars(found).values()
    elif isinstance(found, dict):
        inside = found.values()
    elif isinstance(found, (list, tuple)):
        inside = found
    else:
        return
    if id(found) in seen:
        return
    seen.add(id(found))
    if isinstance(found, keras.Layer):
        yield found
    for part in list(inside):
        yield from _walk(part, seen)


def _is_left_out(kind: type, name: str, value: Any) -> bool:
    if isinstance(value, keras.callbacks.Callback) or (isinstance(value, tf.Tensor) and not hasattr(value, "numpy")):
        return True  # a tensor of a graph is a remnant of its tracing
    return any(name in _assigned_by(base) for base in kind.__mro__)


@functools.cache
def _assigned_by(kind: type) -> frozenset[str]:
    """Give the names of the attributes that the methods of a class of Keras or TensorFlow assign."""
    if kind.__module__.partition(".")[0] not in _FRAMEWORKS:
        return frozenset()
    names: set[str] = set()
    for member in vars(kind).values():
        methods = (member.fget, member.fset) if isinstance(member, property) else (getattr(member, "__func__", member),)
        for method in filter(callable, methods):
            function = inspect.unwrap(method)
            if isinstance(function, FunctionType):
                names.update(i.argval for i in dis.get_instructions(function) if i.opname == "STORE_ATTR")
    return frozenset(names)
