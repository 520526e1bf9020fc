"""What survives of a Keras callback: its own state if it offers one, else whatever of its attributes is plain data.

A callback offers its state by `get_state()` and `set_state(state)`, or by `state()` and `load_state(state)`, of plain
data (plain.py). Of any other callback, Keras' own among them, those attributes are saved that have changed since the
constructor made them: counters, records, best values, best weights. What the constructor set and nothing changed stays
the script's: a new patience counts from the next start on.

A successor's callbacks begin as in `fit` (on_train_begin resets most of them), then get the saved values. Files that
Keras' callbacks append to are cut to the checkpoint (callback_files.py). Attributes that cannot be saved are named,
once, before the first step; of Keras' own callbacks none needs to be. Reads no clock.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import keras
import msgspec
import numpy as np
from numpy.typing import NDArray

from understudy.keras.callback_files import measure, take_back
from understudy.keras.plain import Arrays, NotPlainError, apply, encode

_NOT_OURS: Final = frozenset({"model", "_model", "params", "validation_data"})
"""Set by whoever runs the callbacks."""
_OF_KERAS: Final = frozenset(
    {"csv_file", "writer", "_writers", "_summary_module", "_prev_summary_state", "progbar", "monitor_op"}
)
"""Attributes of Keras' own callbacks that on_train_begin or the next event makes anew."""
_PASSING: Final = ("_start_time",)
"""Attributes with these endings are moments on the clock of one machine."""
_OFFERS: Final = (("get_state", "set_state"), ("state", "load_state"))

_JSON_MAX_BYTES: Final = 1 << 16
_PACKED: Final = "!packed"
"""Key of a dict that names the array in which a JSON value lies."""

_Encoded = tuple[Any, Arrays]


class CallbackState:
    """The state of one callback."""

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        """Take the callback as the script's constructor has made it."""
        self._callback = callback
        self._offer = next((names for names in _OFFERS if _offers(callback, names)), None)
        self._made = self._attributes() if self._offer is None else {}
        self._changed: set[str] = set()
        """Attributes that have had another value since."""
        self.lost: list[str] = []
        """Attributes that could not be saved, as they were met."""

    def read(self, *, files: bool = True) -> tuple[dict[str, Any], Arrays]:
        """Give JSON values, and the arrays that they refer to by number; `files` measures the callback's files, too."""
        values: dict[str, Any] = {}
        arrays: Arrays = []
        if self._offer is not None:
            offered = getattr(self._callback, self._offer[0])()
            place = f"{type(self._callback).__name__}.{self._offer[0]}()"
            try:
                values["state"] = _packed(encode(offered, arrays, place), arrays)
            except NotPlainError as error:
                raise TypeError(
                    f"no checkpoint can hold {error}, which is a callback's state: give plain data"
                ) from None
        else:
            values["attributes"] = {}
            for name, (value, own) in self._attributes(self.lost).items():
                if name in self._changed or not _equal((value, own), self._made.get(name)):
                    self._changed.add(name)
                    packed = _packed(value, own)
                    values["attributes"][name] = {"value": packed, "arrays": [len(arrays), len(own)]}
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
                offered = apply(None, _unpacked(values["state"], arrays), arrays)
                getattr(self._callback, self._offer[1])(offered)
            return []
        lost = []
        for name, saved in values.get("attributes", {}).items():
            first, count = saved["arrays"]
            own, old = arrays[first : first + count], getattr(self._callback, name, None)
            try:
                setattr(self._callback, name, apply(old, _unpacked(saved["value"], own), own, f".{name}"))
            except NotPlainError as error:
                lost.append(f"{type(self._callback).__name__}{error}")
        return lost

    def note_changes(self) -> None:
        """Remember which attributes on_train_begin has changed: they are saved from now on, whatever they come to."""
        if self._offer is None:
            self.read(files=False)

    def unsaved(self) -> list[str]:
        """Name the attributes that no checkpoint can hold: `Meter.file (TextIOWrapper)`."""
        if self._offer is not None:
            return []
        self._attributes(self.lost)
        return self.lost

    @property
    def _is_keras_own(self) -> bool:
        return type(self._callback).__module__.partition(".")[0] == "keras"

    def _attributes(self, lost: list[str] | None = None) -> dict[str, _Encoded]:
        encoded: dict[str, _Encoded] = {}
        for name, value in list(vars(self._callback).items()):
            if name in _NOT_OURS or name in _OF_KERAS or name.endswith(_PASSING):
                continue
            if name == "min_delta" and hasattr(self._callback, "monitor_op"):
                continue  # Keras changes its sign when it chooses monitor_op, which it does anew in each process
            arrays: Arrays = []
            try:
                encoded[name] = encode(value, arrays, f".{name}"), arrays
            except NotPlainError as error:
                sentence = f"{type(self._callback).__name__}{error}"
                if lost is not None and sentence not in lost and not self._is_keras_own:
                    lost.append(sentence)
        return encoded


def _offers(callback: keras.callbacks.Callback, names: tuple[str, str]) -> bool:
    return all(inspect.ismethod(getattr(callback, name, None)) for name in names)


def _equal(one: _Encoded, other: _Encoded | None) -> bool:
    if other is None or one[0] != other[0] or len(one[1]) != len(other[1]):
        return False
    pairs = zip(one[1], other[1], strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in pairs)


def _packed(value: Any, arrays: Arrays) -> Any:
    """Put a long JSON value into an array: the manifest, which every reader parses, stays small."""
    text = msgspec.json.encode(value)
    if len(text) <= _JSON_MAX_BYTES:
        return value
    arrays.append(np.frombuffer(text, np.uint8))
    return {_PACKED: len(arrays) - 1}


def _unpacked(value: Any, arrays: Sequence[NDArray[Any]]) -> Any:
    if isinstance(value, dict) and value.keys() == {_PACKED}:
        return msgspec.json.decode(arrays[value[_PACKED]].tobytes())
    return value
