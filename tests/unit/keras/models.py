"""Models that hide state in every place that Keras knows; each is made anew for each run."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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


class OwnOptimizer(keras.Model):
    """Trains with an optimizer that Keras does not know, and has no call(), as a GAN of keras.io."""

    def __init__(self) -> None:
        super().__init__()
        self.net = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
        self.own = keras.optimizers.Adam(0.01)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.net(x)[:, 0] - tf.cast(y, tf.float32)) ** 2)
        weights = self.net.trainable_weights
        self.own.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def own_optimizer() -> keras.Model:
    model = OwnOptimizer()
    model.compile()
    return model


def stateful_rnn() -> keras.Model:
    layers = [keras.layers.Reshape((8, 1)), keras.layers.LSTM(4, stateful=True), keras.layers.Dense(2, "softmax")]
    return _compiled(keras.Sequential([keras.layers.Input(batch_shape=(16, 8)), *layers]), "sgd")


class Draw(keras.layers.Layer):
    """Draws what `tf.random` offers, in the step and in a loop within it."""

    def call(self, x: Any) -> Any:
        shape = tf.shape(x)
        drawn = tf.random.normal(shape) + tf.random.uniform(shape) + tf.random.truncated_normal(shape, seed=3)
        whole = tf.random.uniform(shape, 0, 9, dtype=tf.int32) + tf.random.poisson([8], 2.0, dtype=tf.int32)
        looped = tf.map_fn(lambda row: row + tf.random.normal(tf.shape(row)), x)
        order = tf.random.shuffle(tf.range(shape[1]))
        picked = tf.random.categorical(tf.zeros([1, 3]), 8)
        scale = 0.01 * (tf.cast(whole, x.dtype) + tf.cast(picked, x.dtype) + tf.random.gamma([8], 1.5))
        return tf.nn.dropout(tf.gather(looped, order, axis=1), 0.2) + 0.1 * drawn + scale


class DrawAsKernels(keras.layers.Layer):
    """Draws only what has the same numbers from a generator as from a kernel."""

    def call(self, x: Any) -> Any:
        shape = tf.shape(x)
        drawn = tf.random.normal(shape) + tf.random.uniform(shape) + tf.random.truncated_normal(shape, seed=3)
        whole = tf.random.uniform(shape, 0, 9, dtype=tf.int32)
        return tf.nn.dropout(x + 0.1 * drawn + 0.01 * tf.cast(whole, x.dtype), 0.2)


def tensorflow_noise() -> keras.Model:
    return _compiled(keras.Sequential([keras.layers.Input((8,)), Draw(), keras.layers.Dense(2, "softmax")]))


def kernels_noise() -> keras.Model:
    return _compiled(keras.Sequential([keras.layers.Input((8,)), DrawAsKernels(), keras.layers.Dense(2, "softmax")]))


class Own(keras.layers.Layer):
    """Holds state in TensorFlow's own objects, one of them in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = {"batches": tf.Variable(0.0, trainable=False)}
        self.source = tf.random.Generator.from_seed(3)

    def call(self, x: Any) -> Any:
        self.seen["batches"].assign_add(1.0)
        return x * (1.0 + 1.0 / self.seen["batches"]) + self.source.normal(tf.shape(x))


def own_variables() -> keras.Model:
    return _compiled(keras.Sequential([keras.layers.Input((8,)), Own(), keras.layers.Dense(2, "softmax")]))


MODELS: dict[str, Callable[[], keras.Model]] = {
    maker.__name__: maker
    for maker in (
        batch_normalization,
        dropout,
        unseeded_noise,
        mixed_precision,
        moving_average,
        lazily_built,
        own_optimizer,
        stateful_rnn,
        tensorflow_noise,
        own_variables,
    )
}
