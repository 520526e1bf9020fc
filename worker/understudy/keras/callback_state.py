"""What survives of a Keras callback: its own state if it offers one, else whatever of its attributes is plain data.

A callback offers its state by `get_state()` and `set_state(state)`, or by `state()` and `load_state(state)`, of plain
data (plain.py). Of any other callback, Keras' own among them, those attributes are saved that have changed since the
constructor made them: counters, records, best values, best weights. What the constructor set and nothing changed stays
the script's: a new patience counts from the next start on.

A callback may hold others and forward to them what it is told: each of these has a state of its own, too, if it is
there by the end of on_train_begin. One that offers its state answers for those that it holds.

A successor's callbacks begin as in `fit` (on_train_begin resets most of them), then get the saved values. Files that
Keras' callbacks append to are cut to the checkpoint (callback_files.py). Attributes that cannot be saved are named,
once, before the first step; of Keras' own callbacks none needs to be. Reads no clock.
"""

import inspect
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import keras
from numpy.typing import NDArray

from understudy.keras.attributes import Attributes, pack, unpack
from understudy.keras.callback_files import measure, take_back
from understudy.keras.plain import Arrays, NotPlainError, apply, encode, is_ordinary

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
    """The state of one callback, and of those that it holds."""

    def __init__(self, callback: keras.callbacks.Callback, known: set[int]) -> None:
        """Take the callback as the script's constructor has made it.

        `known` has the identities of all that have a state already: each callback has one, whoever holds it.
        """
        known.add(id(callback))
        self._known = known
        self._callback = callback
        self._offer = next((names for names in _OFFERS if _offers(callback, names)), None)
        self._attributes = Attributes(callback, self._is_left_out) if self._offer is None else None
        self._prepared = False
        """Its files have been taken back, where that was needed."""
        self._inner: list[CallbackState] = []
        self._find_inner()

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
        for state in self._inner:
            inner, own = state.read()
            values.setdefault("inner", []).append({"values": inner, "arrays": [len(arrays), len(own)]})
            arrays.extend(own)
        return values, arrays

    def prepare(self, values: Mapping[str, Any]) -> list[str]:
        """Take back the callback's files before it begins anew; give a sentence for each loss."""
        self._prepared = True
        lost = take_back(self._callback, values.get("files", {}))
        for state, saved in zip(self._inner, values.get("inner", ()), strict=False):
            lost.extend(state.prepare(saved["values"]))
        return lost

    def write(self, values: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> list[str]:
        """Take over what `read` gave, after the callback has begun; name what could not be restored."""
        lost: list[str] = []
        if self._attributes is not None:
            lost = self._attributes.write(values.get("attributes", {}), arrays)
        elif self._offer is not None and "state" in values:
            offered = apply(None, unpack(values["state"], arrays), arrays)
            getattr(self._callback, self._offer[1])(offered)
        if "files" in values and not self._prepared:
            lost.append(f"the files of {type(self._callback).__name__}: make it before training begins")
        for state, saved in zip(self._inner, values.get("inner", ()), strict=False):
            first, count = saved["arrays"]
            lost.extend(state.write(saved["values"], arrays[first : first + count]))
        return lost

    def note_changes(self) -> None:
        """Take in what on_train_begin has made, and remember what it has changed: that is saved from now on."""
        self._find_inner()
        if self._attributes is not None:
            self._attributes.read()
        for state in self._inner:
            state.note_changes()

    @property
    def lost(self) -> list[str]:
        """Name the attributes that no checkpoint can hold, as they were met: `Meter.file (TextIOWrapper)`."""
        inner = [place for state in self._inner for place in state.lost]
        if self._attributes is None or type(self._callback).__module__.partition(".")[0] == "keras":
            return inner
        return [*self._attributes.lost, *inner]

    def _find_inner(self) -> None:
        for callback in _held(self._callback, set()):
            if id(callback) not in self._known:
                self._inner.append(CallbackState(callback, self._known))

    def _is_left_out(self, name: str, value: Any) -> bool:
        if name == "min_delta" and hasattr(self._callback, "monitor_op"):
            return True  # Keras changes its sign when it chooses monitor_op, which it does anew in each process
        return name in _NOT_OURS or name in _OF_KERAS or name.endswith(_PASSING)


def _held(holder: object, seen: set[int]) -> Iterator[keras.callbacks.Callback]:
    """List the callbacks within an object, itself included, in the same order in every process."""
    if id(holder) in seen:
        return
    seen.add(id(holder))
    if isinstance(holder, keras.callbacks.Callback):
        yield holder
        if any(_offers(holder, names) for names in _OFFERS):
            return
        inside: Iterable[object] = [value for name, value in vars(holder).items() if name not in _NOT_OURS]
    elif isinstance(holder, dict):
        inside = holder.values()
    elif isinstance(holder, (list, tuple, deque)):
        inside = holder
    elif is_ordinary(holder):
        inside = vars(holder).values()
    else:
        return
    for part in list(inside):
        yield from _held(part, seen)


def _offers(callback: keras.callbacks.Callback, names: tuple[str, str]) -> bool:
    return all(inspect.ismethod(getattr(callback, name, None)) for name in names)
