"""The random generators that a whole process shares: Python's `random` and numpy's `numpy.random`.

Code in the loop's body, in a step or in a callback may draw from them, so their states belong to the state of a
training: a session saves them with each checkpoint and restores them with it. Guarantees that what is drawn in the
loop's thread after a restore is what would have been drawn after the save. Does not guarantee it where other threads
draw from them as well. Keras' and TensorFlow's generators are keras_state.py's. Reads no clock.
"""

import base64
import random
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_WORDS: Final = 624
"""32-bit words of the Mersenne Twister's state; both generators are one."""


def read() -> dict[str, Any]:
    """Give both states as JSON values."""
    _, internal, gauss = random.getstate()
    own: dict[str, Any] = np.random.get_state(legacy=False)
    found = {"python": {"words": _pack(internal[:_WORDS]), "at": internal[_WORDS], "gauss": gauss}}
    if own["bit_generator"] == "MT19937":  # another one may be set by numpy.random.set_bit_generator
        state = own["state"]
        found["numpy"] = {
            "words": _pack(state["key"]),
            "at": int(state["pos"]),
            "gauss": float(own["gauss"]) if own["has_gauss"] else None,
        }
    return found


def write(saved: Mapping[str, Any]) -> None:
    """Put both generators into the states that `read` gave; one that it did not give stays as it is."""
    if (python := saved.get("python")) is not None:
        words = tuple(int(word) for word in _unpack(python["words"]))
        random.setstate((3, (*words, int(python["at"])), python["gauss"]))
    if (own := saved.get("numpy")) is not None and np.random.get_state(legacy=False)["bit_generator"] == "MT19937":
        gauss = own["gauss"]
        np.random.set_state(("MT19937", _unpack(own["words"]), int(own["at"]), int(gauss is not None), gauss or 0.0))


def _pack(words: Any) -> str:
    return base64.b64encode(np.asarray(words, "<u4").tobytes()).decode()


def _unpack(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(base64.b64decode(text), "<u4")[:_WORDS].astype(np.uint32)
