"""Epochs of a Keras training: metrics and their resets, validation, the events of callbacks.

Guarantees that resets, validation and callbacks happen at steps fixed by the arguments, whatever pod takes the step,
and that an epoch whose validation was interrupted by a hand-over is validated by the successor. Reads no clock.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from understudy.checkpoint import as_json
from understudy.keras.state import KerasState
from understudy.keras.step_random import StepRandom
from understudy.keras.step_trace import Trace, trace
from understudy.keras.validation import Validation, ValidationData
from understudy.trainer.failures import name_failure
from understudy.trainer.log import say
from understudy.trainer.session import Session


class Epochs:
    """The epochs of one call of `train`; without `steps_per_epoch` the whole training is one."""

    def __init__(
        self,
        model: keras.Model,
        state: KerasState,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        steps: int,
        log_every: int,
        steps_per_epoch: int | None,
        validation: Validation | None,
        validation_batch_size: int,
    ) -> None:
        """Keep the arguments of `train`."""
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch is {steps_per_epoch}: use a positive number, or None for one long epoch")
        self._model = model
        self._state = state
        self._steps = steps
        self._window = steps_per_epoch or log_every
        self._steps_per_epoch = steps_per_epoch
        self._length = steps_per_epoch or max(steps, 1)
        self._validation = None if validation is None else ValidationData(validation, validation_batch_size)
        self._session: Session | None = None
        self._random: StepRandom | None = None
        self._not_exact: Callable[[str], None] = lambda sentence: None
        self._callbacks: keras.callbacks.CallbackList | None = None
        self._has_callbacks = bool(callbacks)
        self._given = callbacks

    def attach(self, session: Session, random: StepRandom, not_exact: Callable[[str], None]) -> None:
        """Take the session that runs the steps, the sources of a validation's random numbers, and `NotExact`."""
        self._session = session
        self._random = random
        self._not_exact = not_exact

    def trace_validation(self, batch: Any) -> Trace | None:
        """Trace what a validation touches: on its own first batch, or on `batch` where a function will give its data.

        The trace serves the first validation as well. Returns None where there is no validation, and where a function
        gives the data and the model has Keras' own test_step: that one touches nothing which a training step does not.
        """
        if self._validation is None:
            return None
        if self._validation.is_deferred:
            if type(self._model).test_step is keras.Model.test_step:
                return None
        else:
            batch = self._validation.shape_of_batches(batch)
            self._tell_of_data()
        assert self._random is not None
        self._model.make_test_function(force=True)
        with name_failure("the validation"), self._random.serving():
            return trace(self._model.test_function, batch)

    def started(self, step: int) -> None:
        """Tell the callbacks that training begins, or goes on; finish an epoch that was left half finished."""
        assert self._session is not None
        if self._has_callbacks:
            self._callbacks = keras.callbacks.CallbackList(
                [*self._given, _InOrder()],
                model=self._model,
                epochs=-(-self._steps // self._length),
                steps=self._length,
                verbose=0,
            )
        if step == 0:
            self._begin_training()
            self._state.restore_callbacks()
        else:
            self._resume_training()
        self._stop_if_asked()
        if self._state.epoch_logs is not None:
            self._finish_epoch(step)
        elif self._state.epoch != step // self._length and step < self._steps and not self._session.stopped:
            self._begin_epoch(step // self._length)
        self._stop_if_asked()

    def before(self, index: int) -> None:
        """Tell the callbacks that a batch begins. Silent in a warm-up."""
        if self._callbacks is not None:
            self._callbacks.on_train_batch_begin(index % self._length)

    def after(self, step: int, logs: Mapping[str, Any]) -> None:
        """Do what is due after `step` completed steps. A stop ends the epoch, as in `fit`."""
        assert self._session is not None
        if self._callbacks is not None:
            self._callbacks.on_train_batch_end((step - 1) % self._length, dict(logs))
            # Before the validation: a checkpoint that is saved during it has to say that the training ends here.
            self._stop_if_asked()
        if step % self._length == 0 or step == self._steps or self._session.stopped:
            self._state.epoch_logs = scalars(logs)
            self._model.reset_metrics()
            self._finish_epoch(step)
        elif self._steps_per_epoch is None and step % self._window == 0:
            self._model.reset_metrics()
        self._stop_if_asked()

    def ended(self, logs: dict[str, float]) -> None:
        """Tell the callbacks that training is over."""
        if self._callbacks is not None:
            with name_failure("a callback's on_train_end"):
                self._callbacks.on_train_end(logs)

    def _stop_if_asked(self) -> None:
        assert self._session is not None
        if self._model.stop_training:
            self._session.stop()

    def _begin_training(self) -> None:
        if self._callbacks is not None:
            with name_failure("a callback's on_train_begin"):
                self._callbacks.on_train_begin()

    def _resume_training(self) -> None:
        """Tell the callbacks where training goes on, for what they keep in this process alone.

        What they did to the state as this training and this epoch began, a learning rate that they set for instance, is
        in the checkpoint: the state that was restored is restored again, theirs included.
        """
        if self._callbacks is None:
            self._state.restore_callbacks()
            return
        restored = self._state.tensors()
        self._state.prepare_callbacks()
        self._begin_training()
        self._state.restore_callbacks()
        if self._state.epoch is not None:
            self._callbacks.on_epoch_begin(self._state.epoch)
        self._state.load(restored)
        self._state.restore_attributes()
        self._state.restore_callbacks()

    def _begin_epoch(self, epoch: int) -> None:
        self._state.epoch = epoch
        if self._callbacks is not None:
            self._callbacks.on_epoch_begin(epoch)

    def _finish_epoch(self, step: int) -> None:
        assert self._session is not None
        with self._session.busy():  # callbacks and the validation's data are not ours to hurry
            self._end_epoch(step)

    def _end_epoch(self, step: int) -> None:
        assert self._session is not None
        epoch = (step - 1) // self._length
        logs = dict(self._state.epoch_logs or {})
        if self._validation is not None:
            validated = self._validate()
            logs |= {f"val_{name}": value for name, value in validated.items()}
            values = "".join(f" {name} {value:.4g}" for name, value in validated.items())
            say(f"validation at step {step}/{self._steps}{values}")
        if self._callbacks is not None:
            with name_failure(f"a callback's on_epoch_end({epoch})"):
                self._callbacks.on_epoch_end(epoch, logs)
        self._state.epoch = self._state.epoch_logs = None
        self._stop_if_asked()
        if step < self._steps and not self._session.stopped:
            self._begin_epoch(step // self._length)  # the next; or this one, if its stop does not hold for a later job

    def _tell_of_data(self) -> None:
        """Say once what of the validation's data a resumed run cannot repeat."""
        assert self._validation is not None
        if clauses := self._validation.cannot_repeat():
            self._not_exact(
                f"the validation dataset {'; it '.join(clauses)}. After a failover the metrics of a validation may "
                "differ, and so may what callbacks do by them"
            )

    def _validate(self) -> dict[str, float]:
        assert self._session is not None and self._validation is not None and self._random is not None
        model = self._model
        model.make_test_function()
        model.stop_evaluating = False
        before, extra = self._state.tensors(), as_json(self._state.extra())
        deferred = self._validation.is_deferred
        told = self._callbacks or keras.callbacks.CallbackList([], model=model)
        logs: Mapping[str, Any] = {}
        with name_failure("the validation"):
            told.on_test_begin()
            for number, part in enumerate(self._validation.batches()):
                if self._session.must_stop:
                    # Neither half its metrics nor what callbacks did for it is saved: the successor validates again.
                    self._state.load(before)
                    self._state.load_extra(extra)
                    self._state.restore_callbacks()
                    self._session.poll()
                told.on_test_batch_begin(number)
                with self._session.busy():  # a sign of life
                    logs = model.test_function(iter((part,)))
                told.on_test_batch_end(number, dict(logs))
                if model.stop_evaluating:
                    break
            values = scalars(logs)
            told.on_test_end(values)
        if deferred:  # a function has given the data only now
            self._tell_of_data()
        model.reset_metrics()
        return values


class _InOrder(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Lets Keras call the callbacks of batches in the loop's own thread.

    Where no callback has methods of these names, Keras calls the older on_batch_end in another thread, some time later:
    a stop that it asks for (TerminateOnNaN) would then end the training at another step in each run.
    """

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Do nothing, in order."""

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Do nothing, in order."""


def scalars(logs: Mapping[str, Any]) -> dict[str, float]:
    """Give the numbers of a step's result, those in dicts within it as well, as `fit` does; others are left out."""
    found: dict[str, float] = {}
    for name, value in logs.items():
        if isinstance(value, Mapping):
            found |= scalars(value)
        elif getattr(value, "shape", ()) == ():
            with contextlib.suppress(TypeError, ValueError):
                found[name] = float(value)
    return found
