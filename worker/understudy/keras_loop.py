"""What happens around one training step of a Keras model: batches, metrics, epochs, validation, callbacks, export.

The step itself is the model's own `train_function`, called on one batch: what `train_on_batch` does, without resetting
the metrics and waiting for the result at each step. Reads no clock.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import tensorflow as tf
from understudy_contract.events import EventReason

from understudy.epochs import Epochs, Validation
from understudy.errors import NotStarted
from understudy.facts import visible_cores
from understudy.failures import name_failure
from understudy.keras_state import KerasState
from understudy.prefetch import Prefetcher
from understudy.session import Session

Shapes = tuple[tuple[int, ...], ...]

_BATCH_PARTS: Final = 3
"""x, y, sample_weight."""


class KerasLoop:
    """One call of `train`."""

    def __init__(
        self,
        model: keras.Model,
        batch: Callable[[int, int, int], Any],
        callbacks: Sequence[keras.callbacks.Callback],
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
        self._logs: Mapping[str, Any] = {}
        self._shapes: Shapes | None = None
        self._warned = False

    def build(self, session: Session) -> None:
        """Make all variables and the training function, from the shapes of one batch; no step is taken."""
        self._session = session
        self._rank, self._ranks = session.rank, session.ranks
        model = self._model
        data = self._get(0)
        x, y, sample_weight = data + (None,) * (_BATCH_PARTS - len(data))
        with name_failure(f"building the model {model.name!r} from a batch of {_describe(self._shapes_of(data))}"):
            # Keras has no public way that also builds metrics and optimizer; Trainer._symbolic_build, 3.12 to 3.15.
            model._symbolic_build(data_batch=(x, y, sample_weight))
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
        model.make_train_function()
        self._function = model.train_function
        model.stop_training = False
        self._epochs.attach(session)

    def step(self, index: int) -> None:
        """Take one training step."""
        assert self._function is not None
        data = self._get(index)
        shapes = self._shapes_of(data)
        odd = self._shapes is not None and shapes != self._shapes
        if odd and not self._warned:
            self._warn_of_shapes(index, shapes)
        self._shapes = self._shapes or shapes
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
        self._epochs.after(step, self._logs)

    def metrics(self) -> dict[str, float]:
        """Compute the values of a log line."""
        return {name: float(value) for name, value in self._logs.items() if getattr(value, "shape", ()) == ()}

    def prepare(self, index: int) -> None:
        """Have the batch of this step ready."""
        self._prefetch.aim(index)

    def started(self, step: int) -> None:
        """Start the callbacks: this pod is primary now."""
        self._epochs.started(step)

    def ended(self) -> None:
        """Do what `fit` does behind the last epoch, in its order: a callback may put back the best weights."""
        self._model.optimizer.finalize_variable_values(self._model.trainable_variables)  # the averages, if it keeps any
        self._epochs.ended(self.metrics() if self._logs else {})

    def export(self, path: Path) -> None:
        """Write the trained model."""
        self._model.save(path)

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

    def _get(self, index: int) -> tuple[Any, ...]:
        with name_failure(f"batch(step={index}, rank={self._rank}, ranks={self._ranks})"):
            return self._prefetch.get(index)

    def _make(self, index: int) -> tuple[Any, ...]:
        made = self._batch(index, self._rank, self._ranks)
        parts = tuple(made) if isinstance(made, (tuple, list)) else (made,)
        if not 1 <= len(parts) <= _BATCH_PARTS:
            raise ValueError(f"it returned {len(parts)} parts: return (x, y) or (x, y, sample_weight)")
        # Converted here, on the prefetching thread, rather than in the loop.
        converted: tuple[Any, ...] = keras.tree.map_structure(
            lambda part: None if part is None else tf.convert_to_tensor(part), parts
        )
        return converted

    def _shapes_of(self, data: tuple[Any, ...]) -> Shapes:
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
