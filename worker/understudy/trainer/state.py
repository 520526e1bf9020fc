"""What a session saves and restores: the State of a training, and the checks that a restored one is equal.

A State gives ALL that its step function changes, as named arrays: what is left out differs after a failover. Reads no
clock, touches no file.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.errors import NotStarted

Tensors = Mapping[str, NDArray[Any]]


class State(Protocol):
    """The state of a training. Subclass it, or give an object with the same methods."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Snapshot all arrays under stable names; later steps must not change what was returned."""
        ...

    def load(self, tensors: Tensors) -> None:
        """Take over a snapshot; raise ValueError naming an array that does not fit."""
        ...

    def extra(self) -> dict[str, Any]:
        """Give what else must survive, as JSON values; it is copied at once."""
        return {}

    def load_extra(self, extra: Mapping[str, Any]) -> None:
        """Take over what `extra` gave."""
        del extra  # without a body a type checker would take it for abstract


def unequal(expected: Tensors, found: Tensors) -> list[str]:
    """Name the arrays of `expected` that `found` lacks or holds with other bits, dtype or shape."""
    return [name for name, array in expected.items() if name not in found or not _same_bits(array, found[name])]


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:  # strings: they have no bits of their own in the array
        return bool(np.array_equal(one, other))
    # Bits, not values: NaN equals itself, and 0.0 differs from -0.0.
    return bool(np.array_equal(_bits(one), _bits(other)))


def _bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def require_equal(expected: Tensors, found: Tensors, what: str) -> None:
    """Raise NotStarted, naming the arrays, unless `found` holds all of `expected` bit for bit."""
    if wrong := unequal(expected, found):
        names = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise NotStarted(
            f"{what}: {names} differ from what was loaded, so a failover would change the result. "
            "Let the state's load() restore everything that its tensors() returns"
        )
