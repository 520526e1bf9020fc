"""Python values as JSON and arrays, and back: what a callback keeps in its attributes.

Knows None, bool, int, float, str, bytes, tuple, list, dict with any plain keys (OrderedDict, defaultdict and Counter,
too), set, frozenset, deque, numpy's scalars and arrays, tensors of TensorFlow, numpy's and Python's random generators,
and objects of ordinary classes whose attributes are plain. Keras' own kinds of list, dict and set, by which it tracks
attributes, count as the plain ones. An object is not made anew: what was saved is set on the object that stands in the
same place, which the script has made. So nothing that lies on a volume is ever executed, as it would be with pickle.
Functions, types, modules, loggers, locks and moments keep no state of a training, and
objects of Keras have theirs in variables, which are saved elsewhere: all of these stay as the script has made them. One
that the script's constructors do not make is an error when it is applied.

Guarantees that `apply(old, encode(value, …), …)` equals `value`, with infinities, NaN and the types of keys, and that
`encode` raises NotPlainError for anything else, with its place: `.meter.history[3] (TextIOWrapper)`. A list, dict, set,
deque or array that stands in the place already is filled, since others may hold it as well. Reads no clock.
"""

import base64
import copyreg
import datetime
import functools
import logging
import math
import random
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from understudy.checkpoint.format import is_storable

Arrays = list[NDArray[Any]]

_TAG: Final = "!"
"""Key of a dict that stands for a value which JSON does not know."""
_DEPTH_MAX: Final = 16
"""Containers in containers. An object that refers to itself ends here, too."""
_SAME: Final = "same"
"""Stands for what the script itself makes, and a checkpoint does not hold."""
_STAYS: Final = (
    keras.Variable, tf.Variable, keras.Layer, keras.Optimizer, keras.Metric, keras.Loss, tf.Module, tf.random.Generator,
    keras.callbacks.Callback, keras.random.SeedGenerator, type, ModuleType, logging.Logger,
    FunctionType, BuiltinFunctionType, MethodType, functools.partial, np.ufunc,
    type(threading.Lock()), type(threading.RLock()), datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip
_SERIES_MIN: Final = 64
"""Lists of at least so many numbers of one type become arrays: a record of each step stays small."""


class NotPlainError(Exception):
    """A value that no checkpoint can hold; the message names its place and its type."""

    def __init__(self, place: str, value: object) -> None:
        super().__init__(f"{place} ({type(value).__name__})")


def encode(value: Any, arrays: Arrays, place: str = "", depth: int = 0) -> Any:
    """Give the JSON value, and append the arrays that it refers to; raises NotPlainError."""
    if depth > _DEPTH_MAX:
        raise NotPlainError(place, value)
    value = _untracked(value)
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, PurePath):
        return {_TAG: "path", "of": str(value)}
    if isinstance(value, _STAYS) or hasattr(value, "get_concrete_function"):
        return {_TAG: _SAME, "of": type(value).__qualname__}
    if type(value) is int:
        return value if abs(value) < 1 << 53 else {_TAG: "int", "of": str(value)}
    if type(value) is float:
        return value if math.isfinite(value) else {_TAG: "float", "of": str(value)}
    if type(value) in (list, tuple, deque, set, frozenset):
        return _encode_sequence(value, arrays, place, depth)
    if isinstance(value, dict):
        return _encode_dict(value, arrays, place, depth)
    return _encode_object(value, arrays, place, depth)


def holds_same(value: Any) -> bool:
    """Say whether something in a value that was encoded stands for what the script itself makes."""
    if isinstance(value, list):
        return any(map(holds_same, value))
    return isinstance(value, dict) and (value.get(_TAG) == _SAME or any(map(holds_same, value.values())))


def apply(old: Any, saved: Any, arrays: Sequence[NDArray[Any]], place: str = "") -> Any:
    """Give the value that was saved; `old` is what stands in its place now.

    Raises NotPlainError if `old` is not the object that the saved attributes belong to, and KeyError, IndexError,
    TypeError or ValueError for what `encode` never wrote.
    """
    if isinstance(saved, list):
        olds = old if isinstance(old, list) and len(old) == len(saved) else [None] * len(saved)
        pairs = enumerate(zip(olds, saved, strict=True))
        return _fill(old, [apply(o, part, arrays, f"{place}[{i}]") for i, (o, part) in pairs])
    if not isinstance(saved, dict):
        return saved
    if _TAG not in saved:
        by_key = old if isinstance(old, dict) else {}
        parts = {key: apply(by_key.get(key), part, arrays, f"{place}[{key!r}]") for key, part in saved.items()}
        return _fill(old, parts)
    kind = saved[_TAG]
    if kind == _SAME:
        if type(old).__qualname__ != saved["of"]:  # the script has not made the object yet
            raise NotPlainError(f"{place}: {saved['of']}, not", old)
        return old
    if kind == "path":
        return type(old)(saved["of"]) if isinstance(old, PurePath) else Path(saved["of"])
    return _fill(old, _apply_tagged(old, kind, saved, arrays, place))


def _apply_tagged(old: Any, kind: str, saved: Mapping[str, Any], arrays: Sequence[NDArray[Any]], place: str) -> Any:
    if kind in _WITH_ARRAY:
        return _WITH_ARRAY[kind](arrays[saved["at"]], saved.get("of"))
    of = saved["of"]
    if kind in _SIMPLE:
        return _SIMPLE[kind](of)
    if kind in _CONTAINERS:
        parts = apply(None, of, arrays, place)
        return deque(parts, saved["room"]) if kind == "deque" else _CONTAINERS[kind](parts)
    if kind in _DICTS:
        pairs = [(apply(None, key, arrays), apply(None, part, arrays, place)) for key, part in of]
        if kind == "defaultdict":
            return defaultdict(getattr(old, "default_factory", None), pairs)
        return _DICTS[kind](pairs)
    return _apply_object(old, kind, of, arrays, place)


def _fill(old: Any, new: Any) -> Any:
    """Put what was saved into the object that stands there, if it is of the same type: others may hold it as well."""
    if old is new or _kind(old) is not _kind(new):
        return new
    if isinstance(old, list):
        old[:] = new
    elif isinstance(old, (dict, set)):
        old.clear()
        old.update(new)
    elif isinstance(old, deque) and old.maxlen == new.maxlen:
        old.clear()
        old.extend(new)
    elif isinstance(old, np.ndarray) and (old.dtype, old.shape) == (new.dtype, new.shape) and old.flags.writeable:
        old[...] = new
    else:
        return new
    return old


def _kind(value: Any) -> type[Any]:
    """Give the type of a value: of a container in which Keras tracks an attribute, the type that it stands for."""
    if type(value).__module__.partition(".")[0] != "keras":
        return type(value)
    return next((kind for kind in (list, dict, set) if isinstance(value, kind)), type(value))


def _untracked(value: Any) -> Any:
    kind = _kind(value)
    return value if kind is type(value) else kind(value)


def _encode_sequence(value: Any, arrays: Arrays, place: str, depth: int) -> Any:
    kind = type(value).__name__
    if kind in ("list", "tuple") and (series := _as_series(value)) is not None:
        return {_TAG: "series", "of": kind, "at": _store(series, arrays)}
    if kind in ("set", "frozenset"):
        value = sorted(value, key=repr)  # the same order in every process
    parts = [encode(part, arrays, f"{place}[{i}]", depth + 1) for i, part in enumerate(value)]
    if kind == "list":
        return parts
    return {_TAG: kind, "of": parts} | ({"room": value.maxlen} if kind == "deque" else {})


def _as_series(value: Sequence[Any]) -> NDArray[Any] | None:
    if len(value) < _SERIES_MIN:
        return None
    kinds = {type(part) for part in value}
    if kinds == {float} or (kinds == {int} and all(abs(part) < 1 << 63 for part in value)):
        return np.asarray(value)
    return None


def _store(array: NDArray[Any], arrays: Arrays) -> int:
    arrays.append(np.array(array))  # a copy: it may change while it is written
    return len(arrays) - 1


def _encode_dict(value: dict[Any, Any], arrays: Arrays, place: str, depth: int) -> Any:
    if type(value) is dict and all(type(key) is str for key in value) and _TAG not in value:
        return {key: encode(part, arrays, f"{place}[{key!r}]", depth + 1) for key, part in value.items()}
    if type(value).__name__ not in _DICTS:
        raise NotPlainError(place, value)
    pairs = [
        [encode(key, arrays, place, depth + 1), encode(part, arrays, f"{place}[{key!r}]", depth + 1)]
        for key, part in value.items()
    ]
    return {_TAG: type(value).__name__, "of": pairs}


def _encode_object(value: Any, arrays: Arrays, place: str, depth: int) -> Any:
    if type(value) is bytes:
        return {_TAG: "bytes", "of": base64.b64encode(value).decode()}
    if isinstance(value, (np.ndarray, np.generic)):
        if not is_storable(value.dtype):
            raise NotPlainError(place, value)
        return {_TAG: "array" if isinstance(value, np.ndarray) else "scalar", "at": _store(np.asarray(value), arrays)}
    if isinstance(value, tf.Tensor) and hasattr(value, "numpy") and is_storable(value.dtype.as_numpy_dtype):
        return {_TAG: "tensor", "at": _store(value.numpy(), arrays)}
    if isinstance(value, np.random.Generator):
        return {_TAG: "numpy.Generator", "of": encode(value.bit_generator.state, arrays, place, depth + 1)}
    if isinstance(value, np.random.RandomState):
        return {_TAG: "numpy.RandomState", "of": encode(value.get_state(legacy=False), arrays, place, depth + 1)}
    if type(value) is random.Random:
        return {_TAG: "random.Random", "of": encode(value.getstate(), arrays, place, depth + 1)}
    if not is_ordinary(value):
        raise NotPlainError(place, value)
    attributes = {name: encode(part, arrays, f"{place}.{name}", depth + 1) for name, part in vars(value).items()}
    return {_TAG: f"object {type(value).__qualname__}", "of": attributes}


def is_ordinary(value: object) -> bool:
    """Say whether the attributes are all that there is of an object: pickle would save just these."""
    kind = type(value)
    if kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__reduce__ is not object.__reduce__:
        return False
    if hasattr(kind, "__setstate__") or not hasattr(value, "__dict__"):
        return False
    try:
        reduced = value.__reduce_ex__(2)
    except TypeError:  # an open file, a socket, a generator
        return False
    if isinstance(reduced, str) or reduced[0] is not copyreg.__newobj__ or reduced[1] != (kind,):  # type: ignore[attr-defined]
        return False
    _, _, state, *more = (*reduced, None)
    return (state is None or isinstance(state, dict)) and not any(part is not None for part in more)


def _apply_object(old: Any, kind: str, of: Any, arrays: Sequence[NDArray[Any]], place: str) -> Any:
    if kind == "numpy.Generator" and isinstance(old, np.random.Generator):
        old.bit_generator.state = apply(None, of, arrays, place)
    elif kind == "numpy.RandomState" and isinstance(old, np.random.RandomState):
        old.set_state(apply(None, of, arrays, place))
    elif kind == "random.Random" and type(old) is random.Random:
        old.setstate(apply(None, of, arrays, place))
    elif kind == f"object {type(old).__qualname__}" and isinstance(of, Mapping) and hasattr(old, "__dict__"):
        for name, part in of.items():
            setattr(old, name, apply(getattr(old, name, None), part, arrays, f"{place}.{name}"))
    else:
        raise NotPlainError(place, old)
    return old


_CONTAINERS: Final[dict[str, Callable[[Any], Any]]] = {
    "list": list, "tuple": tuple, "deque": deque, "set": set, "frozenset": frozenset,
}  # fmt: skip
_DICTS: Final[dict[str, Callable[[Any], Any]]] = {
    "dict": dict, "OrderedDict": OrderedDict, "Counter": lambda pairs: Counter(dict(pairs)), "defaultdict": dict,
}  # fmt: skip
_SIMPLE: Final[dict[str, Callable[[Any], Any]]] = {"int": int, "float": float, "bytes": base64.b64decode}
_WITH_ARRAY: Final[dict[str, Callable[[NDArray[Any], Any], Any]]] = {
    "array": lambda array, _: array,
    "scalar": lambda array, _: array[()],
    "tensor": lambda array, _: tf.constant(array),
    "series": lambda array, kind: _CONTAINERS[kind](array.tolist()),
}
