"""Models that hide state in every place that Keras knows; each is made anew for each run."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

SEED = 5


def batch(step: int, rank: int, ranks: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng((SEED, rank, step))
    x = random.normal(size=(16, 8)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int64)


class Noise(keras.layers.Layer):
    """Draws from Keras' global seed generator."""

    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.1, dtype=x.dtype) if training else x


def _compiled(model: keras.Model, optimizer: Any = "adam") -> keras.Model:
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _dense(*layers: Any, dtype: Any = None, built: bool = True) -> keras.Model:
    stack = [keras.layers.Dense(16, activation="relu", dtype=dtype), *layers]
    head = keras.layers.Dense(2, activation="softmax", dtype="float32")
    return keras.Sequential([*([keras.layers.Input((8,))] if built else []), *stack, head])


def batch_normalization() -> keras.Model:
    return _compiled(_dense(keras.layers.BatchNormalization()))


def dropout() -> keras.Model:
    return _compiled(_dense(keras.layers.Dropout(0.3)))


def unseeded_noise() -> keras.Model:
    return _compiled(_dense(Noise()))


def mixed_precision() -> keras.Model:
    return _compiled(_dense(dtype="mixed_float16"), keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()))


def moving_average() -> keras.Model:
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7)
    return _compiled(_dense(), optimizer)


def lazily_built() -> keras.Model:
    return _compiled(_dense(keras.layers.Dropout(0.2), keras.layers.BatchNormalization(), built=False))


MODELS: dict[str, Callable[[], keras.Model]] = {
    maker.__name__: maker
    for maker in (batch_normalization, dropout, unseeded_noise, mixed_precision, moving_average, lazily_built)
}
