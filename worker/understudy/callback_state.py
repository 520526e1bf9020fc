"""What survives of a Keras callback: its own `get_state`/`set_state` if it has them, else what Keras' callbacks count.

Keras' callbacks offer no state; those that count between epochs are known here by their class names and public
attributes. Others start anew on a promoted pod.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

_COUNTED: Final[Mapping[str, tuple[str, ...]]] = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best",),
}


_FLOAT: Final = "float"


def read_callback(callback: keras.callbacks.Callback) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Give a callback's JSON values, and its arrays (EarlyStopping's best weights)."""
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return {"state": callback.get_state()}, []
    counted: dict[str, Any] = {}
    for kind in type(callback).__mro__:
        for name in _COUNTED.get(kind.__name__, ()):
            if hasattr(callback, name):
                counted[name] = _plain(getattr(callback, name))
    weights = getattr(callback, "best_weights", None)
    return {"counted": counted}, [np.asarray(array) for array in weights] if weights is not None else []


def write_callback(
    callback: keras.callbacks.Callback, values: Mapping[str, Any], arrays: Sequence[NDArray[Any]]
) -> None:
    """Take over what `read_callback` gave."""
    if "state" in values and hasattr(callback, "set_state"):
        callback.set_state(values["state"])
    for name, value in values.get("counted", {}).items():
        setattr(callback, name, float(value[_FLOAT]) if isinstance(value, dict) else value)
    if arrays:
        callback.best_weights = list(arrays)


def _plain(value: Any) -> Any:
    # Neither numpy's and TensorFlow's scalars nor infinities are JSON values.
    value = value.item() if hasattr(value, "item") else float(value) if hasattr(value, "numpy") else value
    return {_FLOAT: str(value)} if isinstance(value, float) and not math.isfinite(value) else value
