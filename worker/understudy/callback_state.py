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
from numpy.typing import NDArray

from understudy.attributes import Attributes, pack, unpack
from understudy.callback_files import measure, take_back
from understudy.plain import Arrays, NotPlainError, apply, encode

_NOT_OURS: Final = frozenset({"model", "_model", "params", "validation_data"})
"""Set by whoever runs the callbacks."""
_OF_KERAS: Final = frozenset(
    {"csv_file", "writer", "_writers", "_summary_module", "_prev_summary_state", "progbar", "monitor_op"}
)
"""Attributes of Keras' own callbacks that on_train_begin or the next event makes anew."""
_PASSING: Final = ("_start_time",)
"""Attributes with these endings are moments on the clock of one machine."""
_OFFERS: Final = (("get_state", "set_state"), ("state", "load_state"))


class CallbackState:
    """The state of one callback."""

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        """Take the callback as the script's constructor has made it."""
        self._callback = callback
        self._offer = next((names for names in _OFFERS if _offers(callback, names)), None)
        self._attributes = Attributes(callback, self._is_left_out) if self._offer is None else None

    def read(self) -> tuple[dict[str, Any], Arrays]:
        """Give JSON values, and the arrays that they refer to by number; measure the callback's files, too."""
        values: dict[str, Any] = {}
        arrays: Arrays = []
        if self._offer is not None:
            offered = getattr(self._callback, self._offer[0])()
            place = f"{type(self._callback).__name__}.{self._offer[0]}()"
            try:
                values["state"] = pack(encode(offered, arrays, place), arrays)
            except NotPlainError as error:
                raise TypeError(
                    f"no checkpoint can hold {error}, which is a callback's state: give plain data"
                ) from None
        elif self._attributes is not None:
            values["attributes"], arrays = self._attributes.read()
        if measured := measure(self._callback):
            values["files"] = measured
        return values, arrays

    def prepare(self, values: Mapping[str, Any]) -> list[str]:
        """Take back the callback's files before it begins anew; give a sentence for each loss."""
        return take_back(self._callback, values.get("files", {}))

    def write(self, values: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> list[str]:
        """Take over what `read` gave, after the callback has begun; name what could not be restored."""
        if self._offer is not None:
            if "state" in values:
                offered = apply(None, unpack(values["state"], arrays), arrays)
                getattr(self._callback, self._offer[1])(offered)
            return []
        return self._attributes.write(values.get("attributes", {}), arrays) if self._attributes is not None else []

    def note_changes(self) -> None:
        """Remember which attributes on_train_begin has changed: they are saved from now on, whatever they come to."""
        if self._attributes is not None:
            self._attributes.read()

    @property
    def lost(self) -> list[str]:
        """Name the attributes that no checkpoint can hold, as they were met: `Meter.file (TextIOWrapper)`."""
        if self._attributes is None or type(self._callback).__module__.partition(".")[0] == "keras":
            return []
        return list(self._attributes.lost)

    def _is_left_out(self, name: str, value: Any) -> bool:
        if name == "min_delta" and hasattr(self._callback, "monitor_op"):
            return True  # Keras changes its sign when it chooses monitor_op, which it does anew in each process
        return name in _NOT_OURS or name in _OF_KERAS or name.endswith(_PASSING)


def _offers(callback: keras.callbacks.Callback, names: tuple[str, str]) -> bool:
    return all(inspect.ismethod(getattr(callback, name, None)) for name in names)
