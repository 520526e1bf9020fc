"""Random numbers of `tf.random.*` in a training step, drawn so that a resumed run draws them as well.

`tf.random.normal` and its like draw from a state inside the kernel of each operation. Nobody can read that state, so
nobody can save it, and a resumed run would draw other numbers. TensorFlow has a source that can be saved: a
`tf.random.Generator`, whose state is a variable. While a step is traced or run by this package, the functions behind
`tf.random.*` draw from generators instead, one for each operation. The step's graph captures their variables like any
other, so they are saved and restored with the training's state (step_trace.py).

Where there is a seed (`keras.utils.set_random_seed`, `tf.random.set_seed`, or one of the operation), a generator starts
where the kernel would have started, since both use the Philox algorithm: normal, uniform and truncated normal numbers
are those that `fit` draws, bit for bit. The numbers of gamma, Poisson and categorical distributions and of shuffles
have the distribution that was asked for, but are not those of `fit`. Without any seed they start from the system's
entropy, once for a training: the state is restored with everything else. TensorFlow orders operations on one variable
as the program does, also in loops and branches, so a draw is the same in every run.

Guarantees nothing for operations that are not listed in `_DRAWS`: they draw from their kernels as before, and
step_trace.py names them. Other threads, and code outside of `StepRandom.serving`, draw as before. Reads no clock.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

import tensorflow as tf

_here: Final = threading.local()

_Key = tuple[int, int, int, int]
"""Two seeds, the number of loops and branches around the operation, and a running number."""

_EAGER: Final[_Key] = (0, 0, 0, -1)
"""The one generator of steps that run eagerly: their operations have no identity from one step to the next."""

_INT64: Final = 1 << 63
_TINY: Final = 1e-38
"""Above zero, so that its logarithm is a number."""
_NO_GLOBAL_SEED: Final = 87654321
"""TensorFlow's value for the global seed where the script sets none (DEFAULT_GRAPH_SEED, framework/random_seed.py)."""


class StepRandom:
    """The sources of random numbers of one training's steps."""

    def __init__(self) -> None:
        """Start from TensorFlow's global seed, if the script has set it."""
        self._generators: dict[_Key, tf.random.Generator] = {}
        self._met: WeakKeyDictionary[tf.Graph, Counter[tuple[int, int]]] = WeakKeyDictionary()

    @property
    def global_state(self) -> tf.Variable:
        """The state of `tf.random.get_global_generator()`.

        TensorFlow makes that generator from the system's entropy at its first use, whatever its global seed is. A
        script that has set this seed and not yet used the generator gets one that starts from it: two runs are alike.
        """
        from tensorflow.python.ops import stateful_random_ops  # there is no public way to ask whether it is there

        seed, _ = tf.compat.v1.get_seed(0)
        if getattr(stateful_random_ops, "global_generator", True) is None and seed != _NO_GLOBAL_SEED:
            tf.random.set_global_generator(_make_generator(seed % _INT64, 1))
        return tf.random.get_global_generator().state

    @property
    def count(self) -> int:
        """How many operations have a generator by now."""
        return len(self._generators)

    @property
    def eager_state(self) -> tf.Variable:
        """The state of what an eager step or a callback draws, outside of graphs: no trace finds it."""
        return self._generator(_EAGER).state

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let `tf.random.*` of this thread draw from here while the block traces or runs a step."""
        with _served_by(self):
            yield

    def generator_for(self, seed: int, seed2: int) -> tf.random.Generator:
        """Give the generator of the operation with these two seeds, as TensorFlow gives them to its kernel.

        TensorFlow numbers the operations of each graph in order: so an operation has the same seeds in every trace of a
        step, and in every process. Where several of a graph have the same seeds, their order tells them apart. A loop's
        body is a graph of its own: two loops may share a generator, which gives each draw numbers of its own, too.
        """
        if not tf.inside_function():
            return self._generator(_EAGER)  # TensorFlow draws new seeds for each call
        graph = tf.compat.v1.get_default_graph()
        met = self._met.setdefault(graph, Counter())
        key = (seed, seed2, _control_flow_around(graph), met[seed, seed2])
        met[seed, seed2] += 1
        return self._generator(key)

    def _generator(self, key: _Key) -> tf.random.Generator:
        if key not in self._generators:
            seed, seed2, *_ = key
            if key == _EAGER:  # with a seed of its own the call leaves TensorFlow's count of operations as it is
                seed, _ = tf.compat.v1.get_seed(0)
                seed = 0 if seed == _NO_GLOBAL_SEED else seed
            if seed == seed2 == 0:  # TensorFlow's sign for: without a seed
                seed, seed2 = (int.from_bytes(os.urandom(7), "big") for _ in range(2))
            self._generators[key] = _make_generator(seed % _INT64, seed2 % _INT64)
        return self._generators[key]


def _control_flow_around(graph: tf.Graph) -> int:
    around = 0
    while (outer := getattr(graph, "outer_graph", None)) is not None:
        around += type(graph).__name__ != "FuncGraph"  # WhileBodyFuncGraph, CondBranchFuncGraph and the like
        graph = outer
    return around


def _make_generator(seed: int, seed2: int) -> tf.random.Generator:
    """Make a generator that starts as a kernel with these seeds does: key `seed`, the counter's upper half `seed2`.

    A function that is being traced may make no variable, once it has been traced before. So the variable is made by a
    thread of its own, which traces nothing.
    """
    made: list[tf.Variable] = []
    maker = threading.Thread(target=lambda: made.append(tf.Variable([0, seed2, seed], dtype=tf.int64, trainable=False)))
    maker.start()
    maker.join()
    return tf.random.Generator.from_state(made[0], "philox")


@contextmanager
def _served_by(random: StepRandom | None) -> Iterator[None]:
    before = getattr(_here, "random", None)
    _here.random = random
    try:
        yield
    finally:
        _here.random = before


def _serve(kernel: Callable[..., Any], draw: Callable[..., Any]) -> Callable[..., Any]:
    def drawn(
        *arguments: Any, seed: int | None = 0, seed2: int | None = 0, name: str | None = None, **more: Any
    ) -> Any:
        random: StepRandom | None = getattr(_here, "random", None)
        if random is None:
            return kernel(*arguments, seed=seed, seed2=seed2, name=name, **more)
        with _served_by(None):  # what the draw itself is made of draws as usual
            return draw(random.generator_for(seed or 0, seed2 or 0), *arguments, **more)

    return drawn


# One function for each kernel, with the kernel's own arguments (tensorflow/python/ops/gen_random_ops.py) but its seeds.


def _normal(generator: tf.random.Generator, shape: Any, dtype: Any) -> Any:
    return generator.normal(shape, dtype=dtype)


def _uniform(generator: tf.random.Generator, shape: Any, dtype: Any) -> Any:
    return generator.uniform(shape, dtype=dtype)


def _integers(generator: tf.random.Generator, shape: Any, minval: Any, maxval: Any) -> Any:
    low = tf.convert_to_tensor(minval)
    return generator.uniform(shape, low, maxval, dtype=low.dtype)


def _truncated(generator: tf.random.Generator, shape: Any, dtype: Any) -> Any:
    return generator.truncated_normal(shape, dtype=dtype)


def _gamma(generator: tf.random.Generator, shape: Any, alpha: Any) -> Any:
    alpha = tf.convert_to_tensor(alpha)
    return tf.random.stateless_gamma(_whole(shape, alpha), _seed(generator), alpha, dtype=alpha.dtype)


def _poisson(generator: tf.random.Generator, shape: Any, rate: Any, dtype: Any = tf.int64) -> Any:
    rate = tf.convert_to_tensor(rate)
    return tf.random.stateless_poisson(_whole(shape, rate), _seed(generator), rate, dtype=dtype)


def _categorical(generator: tf.random.Generator, logits: Any, num_samples: Any, output_dtype: Any = tf.int64) -> Any:
    # By Gumbel noise: TensorFlow's own stateless operation cannot be compiled (jit_compile).
    logits = tf.cast(logits, tf.float32)
    shape = tf.stack([tf.shape(logits)[0], num_samples, tf.shape(logits)[1]])
    noise = -tf.math.log(-tf.math.log(generator.uniform(shape, minval=_TINY, maxval=1.0)))
    return tf.argmax(logits[:, tf.newaxis, :] + noise, axis=2, output_type=output_dtype)


def _shuffle(generator: tf.random.Generator, value: Any) -> Any:
    # By sorting random numbers: as above.
    value = tf.convert_to_tensor(value)
    return tf.gather(value, tf.argsort(generator.uniform_full_int([tf.shape(value)[0]], dtype=tf.int64)))


def _seed(generator: tf.random.Generator) -> Any:
    return generator.make_seeds(1)[:, 0]


def _whole(shape: Any, parameter: Any) -> Any:
    # The kernels draw `shape` numbers for each element of the parameter; the functions want the shape of all.
    return tf.concat([tf.cast(shape, tf.int32), tf.shape(parameter)], axis=0)


_DRAWS: Final[Mapping[str, Callable[..., Any]]] = {
    "random_standard_normal": _normal,
    "random_uniform": _uniform,
    "random_uniform_int": _integers,
    "truncated_normal": _truncated,
    "random_gamma": _gamma,
    "random_poisson_v2": _poisson,
    "multinomial": _categorical,
    "random_shuffle": _shuffle,
}


def _install() -> None:
    """Put these functions where `tf.random.*` looks for its kernels: TensorFlow has no public place for them.

    A release of TensorFlow without that place keeps its kernels, and step_trace.py says what cannot be repeated.
    """
    from tensorflow.python.ops import gen_random_ops

    for name, draw in _DRAWS.items():
        if (kernel := getattr(gen_random_ops, name, None)) is not None:
            setattr(gen_random_ops, name, _serve(kernel, draw))


_install()
