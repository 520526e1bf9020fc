"""What survives of a Keras callback: its own state if it offers one, else whatever of its attributes is plain data.

A callback offers its state by `get_state()` and `set_state(state)`, or by `state()` and `load_state(state)`, of JSON
values. Of any other callback, Keras' own among them, those attributes are saved that differ from what the script's
constructor made of them: counters, records, best values, best weights (plain.py says of what types). What the
constructor set and nothing changed stays the script's: a new patience counts from the next start on.

A successor's callbacks begin as in `fit` (on_train_begin resets most of them), then get the saved values. Files that
Keras' callbacks append to are cut to the checkpoint (callback_files.py). Attributes that cannot be saved are named,
once, before the first step; of Keras' own callbacks none needs to be. Reads no clock.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from understudy.callback_files import measure, take_back
from understudy.plain import Arrays, NotPlainError, apply, encode

_NOT_OURS: Final = frozenset({"model", "_model", "params", "validation_data"})
"""Set by whoever runs the callbacks."""
_OF_KERAS: Final = frozenset({"csv_file", "writer", "_writers", "_summary_module", "_prev_summary_state", "progbar"})
"""Attributes of Keras' own callbacks that on_train_begin or the next event makes anew."""
_PASSING: Final = ("_start_time",)
"""Attributes with these endings are moments on the clock of one machine."""
_OFFERS: Final = (("get_state", "set_state"), ("state", "load_state"))

_Encoded = tuple[Any, Arrays]


class CallbackState:
    """The state of one callback."""

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        """Take the callback as the script's constructor has made it."""
        self._callback = callback
        self._offer = next((names for names in _OFFERS if _offers(callback, names)), None)
        self._made = self._attributes() if self._offer is None else {}

    def read(self, *, files: bool = True) -> tuple[dict[str, Any], Arrays]:
        """Give JSON values, and the arrays that they refer to by number; `files` measures the callback's files, too."""
        values: dict[str, Any] = {}
        arrays: Arrays = []
        if self._offer is not None:
            values["state"] = getattr(self._callback, self._offer[0])()
        else:
            values["attributes"] = {}
            for name, (value, own) in self._attributes().items():
                if not _equal((value, own), self._made.get(name)):
                    values["attributes"][name] = {"value": value, "arrays": [len(arrays), len(own)]}
                    arrays.extend(own)
        if files and (measured := measure(self._callback)):
            values["files"] = measured
        return values, arrays

    def prepare(self, values: Mapping[str, Any]) -> list[str]:
        """Take back the callback's files before it begins anew; give a sentence for each loss."""
        return take_back(self._callback, values.get("files", {}))

    def write(self, values: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> list[str]:
        """Take over what `read` gave, after the callback has begun; name what could not be restored."""
        if self._offer is not None:
            if "state" in values:
                getattr(self._callback, self._offer[1])(values["state"])
            return []
        lost = []
        for name, saved in values.get("attributes", {}).items():
            first, count = saved["arrays"]
            own, old = arrays[first : first + count], getattr(self._callback, name, None)
            try:
                setattr(self._callback, name, apply(old, saved["value"], own, f".{name}"))
            except NotPlainError as error:
                lost.append(f"{type(self._callback).__name__}{error}")
        return lost

    def unsaved(self) -> list[str]:
        """Name the attributes that no checkpoint can hold: `Meter.file (TextIOWrapper)`."""
        if self._offer is not None or type(self._callback).__module__.partition(".")[0] == "keras":
            return []
        lost: list[str] = []
        self._attributes(lost)
        return lost

    def _attributes(self, lost: list[str] | None = None) -> dict[str, _Encoded]:
        encoded: dict[str, _Encoded] = {}
        for name, value in list(vars(self._callback).items()):
            if name in _NOT_OURS or name in _OF_KERAS or name.endswith(_PASSING):
                continue
            arrays: Arrays = []
            try:
                encoded[name] = encode(value, arrays, f".{name}"), arrays
            except NotPlainError as error:
                if lost is not None:
                    lost.append(f"{type(self._callback).__name__}{error}")
        return encoded


def _offers(callback: keras.callbacks.Callback, names: tuple[str, str]) -> bool:
    return all(inspect.ismethod(getattr(callback, name, None)) for name in names)


def _equal(one: _Encoded, other: _Encoded | None) -> bool:
    if other is None or one[0] != other[0] or len(one[1]) != len(other[1]):
        return False
    pairs = zip(one[1], other[1], strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in pairs)
