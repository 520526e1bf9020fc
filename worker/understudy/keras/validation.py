"""The data that a training is validated on, as `fit` takes it: arrays, a tf.data.Dataset, a PyDataset, or a function.

Guarantees that each validation reads all of the data from its beginning, in batches of the structure that `fit` would
hand to `test_step`, and that data which cannot be read twice, or never ends, is refused before the first step. A
function is called once, at the first validation; what it returns is checked then. Reads no clock.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from understudy.errors import NotStarted

_PARTS: Final = 3
"""x, y, sample_weight."""


class ValidationData:
    """What `validation` of `understudy.keras.train` was given."""

    def __init__(self, given: Any, batch_size: int) -> None:
        """Take the argument; raises NotStarted for what is no data. `batch_size` is that of arrays, in rows."""
        self._given = given
        self._batch_size = batch_size
        if not self.is_deferred:
            self._check()

    @property
    def is_deferred(self) -> bool:
        """Say whether the data is not known yet: a function gives it."""
        return callable(self._given) and not isinstance(self._given, (tf.data.Dataset, keras.utils.PyDataset))

    def shape_of_batches(self, otherwise: Any) -> Any:
        """Give a batch to trace with; of a Dataset its specification, since reading a shuffled one changes the next."""
        if isinstance(self._given, tf.data.Dataset):
            return self._given.element_spec
        return next(self.batches(), otherwise)

    def batches(self) -> Iterator[Any]:
        """Read the data once, from its beginning."""
        if self.is_deferred:
            self._given = self._given()
            self._check()
        data = self._given
        if isinstance(data, tf.data.Dataset):
            yield from data
        elif isinstance(data, keras.utils.PyDataset):
            yield from (_parts(data[index]) for index in range(len(data)))
        else:
            parts = keras.tree.map_structure(_as_floatx, _parts(data))
            rows = len(keras.tree.flatten(parts)[0])
            for start in range(0, rows, self._batch_size):
                end = start + self._batch_size
                yield keras.tree.map_structure(lambda array, at=start, to=end: array[at:to], parts)

    def _check(self) -> None:
        data = self._given
        if isinstance(data, tf.data.Dataset):
            if data.cardinality() == tf.data.INFINITE_CARDINALITY:
                raise NotStarted(
                    "the validation dataset never ends, so no validation would: remove its repeat(), or use take(n)"
                )
        elif isinstance(data, keras.utils.PyDataset):
            if data.num_batches is None:
                raise NotStarted("the validation PyDataset never ends: give it a length (__len__)")
        elif isinstance(data, Iterator) or (isinstance(data, Iterable) and not hasattr(data, "__len__")):
            raise NotStarted(
                f"validation is a {type(data).__name__}, which can be read only once: give (x, y), a tf.data.Dataset, "
                "or a function that returns one of them"
            )
        elif isinstance(data, (tuple, list)) and not 1 <= len(data) <= _PARTS:
            raise NotStarted(f"validation has {len(data)} parts: give (x, y) or (x, y, sample_weight)")
        elif not all(hasattr(part, "__getitem__") and hasattr(part, "__len__") for part in keras.tree.flatten(data)):
            raise NotStarted(
                f"validation is a {type(data).__name__}: give (x, y) of arrays, a tf.data.Dataset, a PyDataset, or a "
                "function that returns one of them"
            )


def _as_floatx(array: Any) -> Any:
    """Give arrays of floating-point numbers Keras' own type, as `fit` does."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        return array.astype(keras.config.floatx(), copy=False)
    if isinstance(array, tf.Tensor) and array.dtype.is_floating:
        return tf.cast(array, keras.config.floatx())
    return array


def _parts(data: Any) -> Any:
    """Give a batch the structure that `fit` gives it: an x alone is no tuple."""
    if not isinstance(data, (tuple, list)):
        return data
    parts = tuple(data)
    while len(parts) > 1 and parts[-1] is None:
        parts = parts[:-1]
    return parts[0] if len(parts) == 1 and not isinstance(parts[0], (tuple, list)) else parts


Validation = tuple[Any, ...] | tf.data.Dataset | keras.utils.PyDataset | Callable[[], Any]
