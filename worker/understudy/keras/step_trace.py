"""What a training step touches, found by tracing it: its variables, and what in it nobody can repeat.

Keras knows the variables of the model, of its metrics and of `model.optimizer`. A training step may change more than
these: the optimizers of a GAN, the states of a stateful RNN, a `tf.Variable` that a layer or a closure holds, a
`tf.random.Generator`. TensorFlow knows them all, since a traced function must capture the handle of every variable that
it reads or writes. So the step is traced into a concrete function, which takes no step, and the captured variables
belong to the state of the training. `Model.fit` builds a model in the same way, by the trace of its first step, and the
trace is kept for the steps that follow: it costs no second tracing.

Guarantees that every variable that the traced graph reads or writes is found, in an order that is the same in every
process that runs the same script: the order of the graph's captures, since that of `graph.variables` differs between
processes. Names, once each, the operations whose result a resumed run cannot repeat. Does not see what Python code does
beside the graph: code that runs while the graph is traced runs once, as under `fit`. Reads no clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import tensorflow as tf

_CANNOT_REPEAT: Final = (
    (("PyFunc", "EagerPyFunc"), "calls Python code (tf.py_function or tf.numpy_function) that may keep a state"),
    (("IteratorGetNext", "IteratorGetNextAsOptional", "IteratorGetNextSync"), "draws from a tf.data iterator"),
    (("LookupTableInsertV2", "LookupTableRemoveV2", "LookupTableImportV2"), "changes a lookup table"),
    (("QueueDequeueV2", "QueueDequeueManyV2", "QueueEnqueueV2", "Unstage", "MapUnstage"), "uses a queue"),
    (
        (
            "RandomStandardNormal",
            "RandomUniform",
            "RandomUniformInt",
            "TruncatedNormal",
            "RandomGamma",
            "RandomPoisson",
            "RandomPoissonV2",
            "RandomShuffle",
            "Multinomial",
            "ParameterizedTruncatedNormal",
            "SampleDistortedBoundingBox",
            "SampleDistortedBoundingBoxV2",
            "UniformCandidateSampler",
            "LogUniformCandidateSampler",
            "LearnedUnigramCandidateSampler",
            "AllCandidateSampler",
            "FixedUnigramCandidateSampler",
            "ThreadUnsafeUnigramCandidateSampler",
        ),
        "draws random numbers from a state inside TensorFlow",
    ),
)
"""Names of operations (tensorflow/core/ops, TensorFlow 2.21) with a state that TensorFlow does not let anybody read."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What one traced function touches."""

    variables: tuple[tf.Variable, ...]
    """In the order in which the graph captured them."""
    cannot_repeat: tuple[str, ...]
    """One clause for each kind of operation that a resumed run cannot repeat: `calls Python code … (PyFunc)`."""


def trace(function: Callable[[Any], Any], data: Any) -> Trace:
    """Trace `function`, a Keras `train_function` or `test_function`, on one batch; run nothing of it.

    `data` is the batch as the function's step gets it, of tensors. Raises whatever the step raises while it is traced.
    """

    def one_step(batch: Any) -> Any:
        return function(iter((batch,)))

    graph = tf.function(one_step, autograph=False).get_concrete_function(data).graph
    by_handle = {id(variable.handle): variable for variable in graph.variables}
    captured = (by_handle.get(id(outer)) for outer, _ in graph.captures)
    return Trace(tuple(variable for variable in captured if variable is not None), tuple(_cannot_repeat(graph)))


def _cannot_repeat(graph: tf.Graph) -> Iterator[str]:
    definition = graph.as_graph_def()
    found = {node.op for node in definition.node}
    found.update(node.op for function in definition.library.function for node in function.node_def)
    for operations, what in _CANNOT_REPEAT:
        if here := sorted(found.intersection(operations)):
            yield f"{what} ({', '.join(here)})"
