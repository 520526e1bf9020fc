"""The attributes of one object that have changed since it was first seen, as plain data (plain.py), and back.

Of a callback and of a model, this is what a resumed run would lose. What nothing has changed stays the script's: a
constructor's argument that the script sets anew counts from the next start on. An attribute that has changed once is
saved from then on, whatever it comes to. Reads no clock.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from understudy.keras.plain import Arrays, NotPlainError, apply, encode, holds_same

_JSON_MAX_BYTES: Final = 1 << 16
_PACKED: Final = "!packed"
"""Key of a dict that names the array in which a JSON value lies."""

_Encoded = tuple[Any, Arrays]


class Attributes:
    """Those of one object."""

    def __init__(
        self, owner: object, is_left_out: Callable[[str, Any], bool], *, largest_bytes: float = float("inf")
    ) -> None:
        """Take the object as it is now.

        `is_left_out(name, value)` picks the attributes that are not looked at; arrays of more than `largest_bytes` are
        not saved.
        """
        self._owner = owner
        self._is_left_out = is_left_out
        self._largest_bytes = largest_bytes
        self.lost: dict[str, object] = {}
        """Values that no checkpoint can hold, by place and type, as they were met: `Meter.file (TextIOWrapper)`."""
        self._made = self._encoded()
        self.lost.clear()  # the script may replace them before the training begins
        self._changed: set[str] = set()

    def read(self) -> tuple[dict[str, Any], Arrays]:
        """Give those that have changed: JSON values, and the arrays that they refer to by number."""
        values: dict[str, Any] = {}
        arrays: Arrays = []
        for name, (value, own) in self._encoded().items():
            if name in self._changed or not _equal((value, own), self._made.get(name)):
                self._changed.add(name)
                packed = pack(value, own)
                values[name] = {"value": packed, "arrays": [len(arrays), len(own)]}
                arrays.extend(own)
        return values, arrays

    def write(self, values: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> list[str]:
        """Take over what `read` gave; name what could not be restored."""
        lost = []
        for name, saved in values.items():
            first, count = saved["arrays"]
            own = arrays[first : first + count]
            lost.extend(self._set(name, unpack(saved["value"], own), own))
        return lost

    def reset(self, but: Mapping[str, Any]) -> list[str]:
        """Put all others than `but` back to what they were at first, and remove those that were not there.

        Attributes that hold layers or variables stay, since those cannot be made a second time. Names what could not be
        put back.
        """
        lost = []
        for name, (value, own) in self._encoded().items():
            if name in but or holds_same(value) or _equal((value, own), self._made.get(name)):
                continue
            if name in self._made:
                lost.extend(self._set(name, *self._made[name]))
            else:
                delattr(self._owner, name)
        return lost

    def _set(self, name: str, value: Any, arrays: Sequence[NDArray[Any]]) -> list[str]:
        old = getattr(self._owner, name, None)
        try:
            new = apply(old, value, arrays, f".{name}")
        except NotPlainError as error:
            return [f"{type(self._owner).__name__}{error}"]
        if new is not old:
            setattr(self._owner, name, new)
        return []

    def _encoded(self) -> dict[str, _Encoded]:
        encoded: dict[str, _Encoded] = {}
        for name, value in list(vars(self._owner).items()):
            if self._is_left_out(name, value):
                continue
            arrays: Arrays = []
            try:
                if _size_bytes(value) > self._largest_bytes:
                    raise NotPlainError(f".{name}", value)
                encoded[name] = encode(value, arrays, f".{name}"), arrays
            except NotPlainError as error:
                self.lost[f"{type(self._owner).__name__}{error}"] = value
        return encoded


def _size_bytes(value: object) -> int:
    if isinstance(value, tf.Tensor):
        return int(value.dtype.size * (value.shape.num_elements() or 0))
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _equal(one: _Encoded, other: _Encoded | None) -> bool:
    if other is None or one[0] != other[0] or len(one[1]) != len(other[1]):
        return False
    pairs = zip(one[1], other[1], strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in pairs)


def pack(value: Any, arrays: Arrays) -> Any:
    """Put a long JSON value into an array: the manifest, which every reader parses, stays small."""
    text = msgspec.json.encode(value)
    if len(text) <= _JSON_MAX_BYTES:
        return value
    arrays.append(np.frombuffer(text, np.uint8))
    return {_PACKED: len(arrays) - 1}


def unpack(value: Any, arrays: Sequence[NDArray[Any]]) -> Any:
    """Give the JSON value that `pack` took."""
    if isinstance(value, dict) and value.keys() == {_PACKED}:
        return msgspec.json.decode(arrays[value[_PACKED]].tobytes())
    return value
