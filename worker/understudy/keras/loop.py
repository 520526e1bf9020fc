"""What happens around one training step of a Keras model: batches, metrics, epochs, validation, callbacks, export.

The step itself is the model's own `train_function`, called on one batch: what `train_on_batch` does, without resetting
the metrics and waiting for the result at each step. Reads no clock.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from understudy_contract.events import EventReason

from understudy.errors import NotStarted
from understudy.keras.epochs import Epochs, scalars
from understudy.keras.state import KerasState
from understudy.keras.step_random import StepRandom
from understudy.keras.step_trace import Trace, trace
from understudy.keras.validation import Validation
from understudy.trainer.facts import visible_cores
from understudy.trainer.failures import name_failure
from understudy.trainer.log import say
from understudy.trainer.prefetch import Prefetcher
from understudy.trainer.session import Export, Session
from understudy.trainer.state import unequal

Shapes = tuple[tuple[int, ...], ...]

_PYTHON: Final = (bool, int, float, str, type(None), list, dict, set)
"""Types of attributes that an eager step may change."""
_BATCH_PARTS: Final = 3
"""x, y, sample_weight."""


class KerasLoop:
    """One call of `train`."""

    def __init__(
        self,
        model: keras.Model,
        batch: Callable[[int, int, int], Any],
        callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback,
        *,
        steps: int,
        log_every: int,
        steps_per_epoch: int | None,
        validation: Validation | None,
        validation_batch_size: int,
    ) -> None:
        """Check the arguments; build nothing yet."""
        if keras.backend.backend() != "tensorflow":
            raise NotStarted(f"understudy.keras trains on TensorFlow; set KERAS_BACKEND, now {keras.backend.backend()}")
        if not model.compiled:
            raise NotStarted(f"the model {model.name!r} is not compiled: call model.compile(optimizer=…, loss=…) first")
        if not callable(batch):
            raise TypeError(
                f"batch is a {type(batch).__name__}; it must be a function batch(step, rank, ranks) → (x, y): "
                "a promoted pod goes on at any step, so data must be addressed by step. For arrays: draw the indices "
                "with numpy.random.default_rng((seed, rank, epoch)).permutation(len(x))"
            )
        callbacks = _without_backup(callbacks)
        self.state = KerasState(model, callbacks)
        self._model = model
        self._batch = batch
        self._steps = steps
        self._prefetch = Prefetcher(self._make, limit=steps)
        self._epochs = Epochs(
            model,
            self.state,
            callbacks,
            steps=steps,
            log_every=log_every,
            steps_per_epoch=steps_per_epoch,
            validation=validation,
            validation_batch_size=validation_batch_size,
        )
        self._rank, self._ranks = 0, 1
        self._session: Session | None = None
        self._function: Callable[[Any], Any] | None = None
        self._random = StepRandom()
        self._untraced = ""
        self._unsaved: set[str] = set()
        self._generators = 0
        self._logs: Mapping[str, Any] = {}
        self._shapes: Shapes | None = None
        self._warned = False

    def build(self, session: Session) -> None:
        """Make all variables and the training function by tracing the step on one batch, as `fit` does; take no step.

        Says by NotExact, before any step, what a resumed run would not repeat.
        """
        self._session = session
        self._rank, self._ranks = session.rank, session.ranks
        model = self._model
        data = self._get(0)
        self._epochs.attach(session, self._random)
        with name_failure(f"building the model {model.name!r} from a batch of {_describe(self._shapes_of(data))}"):
            model.make_train_function(force=True)  # one that was traced before draws from its kernels
            touched = self._trace(data)
        validation = self._epochs.trace_validation(data)
        self._function = model.train_function
        model.stop_training = False
        traces = [found for found in (touched, validation) if found is not None]
        self.state.touch(traces, self._random.eager_state, self._random.global_state)
        self._generators = self._random.count
        self._say_what_cannot_repeat(data, traces)

    def _trace(self, data: Any) -> Trace | None:
        """Trace the step. A model that runs eagerly may have a step that cannot be traced: it is built by a call.

        Attributes that the eager step's Python code has changed while it was traced get their values back.
        """
        model = self._model
        if not model.run_eagerly:
            with self._random.serving():
                return trace(model.train_function, data)
        self._untraced = "its training step runs eagerly, so that its Python code may keep a state of its own"
        before = {name: copy(value) for name, value in vars(model).items() if type(value) in _PYTHON}
        try:
            with self._random.serving():
                return trace(model.train_function, data)
        except Exception as error:  # noqa: BLE001 - whatever the user's step raises when it is traced
            self._untraced += f", and cannot be traced ({type(error).__name__})"
        finally:
            for name, value in before.items():
                setattr(model, name, value)
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        model(x)
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return None

    def _say_what_cannot_repeat(self, data: Any, traces: Sequence[Trace]) -> None:
        clauses = list(dict.fromkeys(clause for found in traces for clause in found.cannot_repeat))
        if clauses:
            self._not_exact(f"the step of the model {self._model.name!r} " + "; it ".join(clauses))
        if self._untraced:
            self._not_exact(f"of the model {self._model.name!r} only variables are saved, and {self._untraced}")
        if self.state.unsaved:
            names = ", ".join(f"{held.path} ({held.variable.dtype.name})" for held in self.state.unsaved)
            self._not_exact(f"no checkpoint can hold variables of this type: {names}")
        if not _same(data, self._get(0)):
            self._not_exact(
                "batch(step=0) returned other data when it was called a second time; batch must be a pure function of "
                "its arguments: it may be called several times for a step, and not at all for others. Address the data "
                "by step, for example with numpy.random.default_rng((seed, rank, step))"
            )

    def _say_unsaved(self, places: Sequence[str]) -> None:
        self._unsaved.update(places)
        self._not_exact(
            f"no checkpoint can hold {', '.join(places)} of the callbacks; give these callbacks state() and "
            "load_state(state), which return and take plain data, or keep plain data in their attributes"
        )

    def _not_exact(self, sentence: str) -> None:
        assert self._session is not None
        self._session.notice(
            EventReason.NOT_EXACT, f"not exact, a run that is resumed may give another result: {sentence}"
        )

    def step(self, index: int) -> None:
        """Take one training step."""
        assert self._function is not None
        data = self._get(index)
        shapes = self._shapes_of(data)
        odd = self._shapes is not None and shapes != self._shapes
        if odd and not self._warned:
            self._warn_of_shapes(index, shapes)
        self._shapes = self._shapes or shapes
        with self._random.serving():
            self._epochs.before(index)
            if odd:
                with name_failure(
                    f"the model, trained on batches of {_describe(self._shapes or ())}, "
                    f"on batch(step={index}) of {_describe(shapes)}"
                ):
                    self._logs = self._function(iter((data,)))
            else:
                self._logs = self._function(iter((data,)))

    def after(self, step: int) -> None:
        """Do what is due after `step` completed steps."""
        with self._random.serving():
            self._epochs.after(step, self._logs)
        if self._random.count > self._generators:
            self._generators = self._random.count
            self._not_exact("the step drew random numbers for batches of another shape by operations of its own")
        if unsaved := self.state.unsaved_since(self._unsaved):
            self._say_unsaved(unsaved)

    def metrics(self) -> dict[str, float]:
        """Compute the values of a log line."""
        return scalars(self._logs)

    def prepare(self, index: int) -> None:
        """Have the batch of this step ready."""
        self._prefetch.aim(index)

    def started(self, step: int) -> None:
        """Start the callbacks: this pod is primary now."""
        if self.state.absent:
            self._not_exact(
                f"the checkpoint of step {step} does not hold {', '.join(self.state.absent[:5])}: it was written by an "
                "earlier release. These variables go on from their first values"
            )
        if (rates := self.state.changed_rate) is not None:
            self._not_exact(
                f"the script sets the learning rate {rates[1]:.6g}, but this training began with {rates[0]:.6g} and "
                "goes on with the value in its checkpoint. To change the rate of a training that has begun, use a "
                "callback, such as keras.callbacks.LearningRateScheduler"
            )
        with self._random.serving():
            self._epochs.started(step)
        if lost := self.state.lost:
            self._not_exact(f"not all that the callbacks kept could be restored: {'; '.join(lost)}")
        if unsaved := self.state.unsaved_of_callbacks():
            self._say_unsaved(unsaved)

    def ended(self) -> None:
        """Do what `fit` does behind the last epoch, in its order: a callback may put back the best weights."""
        optimizer = self._model.optimizer
        if isinstance(optimizer, keras.Optimizer):
            optimizer.finalize_variable_values(self._model.trainable_variables)  # the averages, if it keeps any
        with self._random.serving():
            self._epochs.ended(self.metrics() if self._logs else {})

    @property
    def exports(self) -> tuple[Export, ...]:
        """Ways to save the trained model, the best first: not every model can be saved whole."""
        return (
            Export("model.keras", self._model.save),
            Export("model.weights.h5", self._model.save_weights),
        )

    def facts(self) -> dict[str, str]:
        """Say what TensorFlow computes with."""
        config = tf.config.threading
        intra = config.get_intra_op_parallelism_threads() or os.environ.get("TF_NUM_INTRAOP_THREADS") or visible_cores()
        inter = config.get_inter_op_parallelism_threads() or os.environ.get("TF_NUM_INTEROP_THREADS") or visible_cores()
        return {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "intra_op_threads": str(intra),
            "inter_op_threads": str(inter),
        }

    def close(self) -> None:
        """End the prefetching."""
        self._prefetch.close()

    def _get(self, index: int) -> Any:
        with name_failure(f"batch(step={index}, rank={self._rank}, ranks={self._ranks})"):
            return self._prefetch.get(index)

    def _make(self, index: int) -> Any:
        """Make one batch, with the structure that `fit` hands to train_step: an array alone stays alone."""
        made = self._batch(index, self._rank, self._ranks)
        if isinstance(made, (tuple, list)):
            made = tuple(made)
            if not 1 <= len(made) <= _BATCH_PARTS:
                raise ValueError(f"it returned {len(made)} parts: return (x, y) or (x, y, sample_weight)")
        return keras.tree.map_structure(_as_tensor, made)  # on the prefetching thread, rather than in the loop

    def _shapes_of(self, data: Any) -> Shapes:
        return tuple(tuple(part.shape) for part in keras.tree.flatten(data) if part is not None)

    def _warn_of_shapes(self, index: int, shapes: Shapes) -> None:
        self._warned = True
        assert self._session is not None
        text = (
            f"batch(step={index}) has {_describe(shapes)} where earlier batches had {_describe(self._shapes or ())}: "
            "TensorFlow traces the model anew for it, which can take as long as a first step; drop or pad odd batches"
        )
        self._session.notice(EventReason.BATCH_SHAPE_CHANGED, text)


def _describe(shapes: Shapes) -> str:
    return "shapes " + ", ".join("×".join(map(str, shape)) or "scalar" for shape in shapes)


def _without_backup(
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback,
) -> list[keras.callbacks.Callback]:
    """Leave BackupAndRestore out: it would load a backup of its own over the checkpoint."""
    given = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else list(callbacks)
    kept = [callback for callback in given if not isinstance(callback, keras.callbacks.BackupAndRestore)]
    if len(kept) < len(given):
        say("the callback BackupAndRestore is left out: understudy's checkpoints do what it is for")
    return kept


def _same(one: Any, other: Any) -> bool:
    """Say whether two batches have the same structure, types, shapes and bits."""
    try:
        keras.tree.assert_same_structure(one, other)
    except (ValueError, TypeError):
        return False
    return not unequal(_numbered(one), _numbered(other))


def _numbered(data: Any) -> dict[str, Any]:
    parts = tf.nest.flatten(data, expand_composites=True)
    return {str(i): np.asarray(part) for i, part in enumerate(parts) if part is not None}


def _as_tensor(part: Any) -> Any:
    if part is None or isinstance(part, (tf.RaggedTensor, tf.SparseTensor)):
        return part
    return tf.convert_to_tensor(part)
