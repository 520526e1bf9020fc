"""Train a compiled Keras model so that it survives its pod.

    understudy.keras.train(model, batch, steps=20_000, save_every=100)

`batch(step, rank, ranks)` gives one batch, `(x, y)` or `(x, y, sample_weight)`, as a pure function of its arguments:
step is the number of steps completed before. It is computed ahead on a thread.

Guarantees that a run with failovers ends with the weights of one without, bit for bit, on one image, one number of
threads and one type of CPU. On a redundant pod `train` does not return before its promotion; what stands before it in
the script runs in every pod, what stands behind it at least once. Beside the files of the session it writes
`final/model.keras`.

Metrics are means since the last reset: at the end of each epoch of `steps_per_epoch` steps; without epochs, after each
`log_every` steps. Callbacks get Keras' events from the moment the pod is primary, on_train_begin and on_epoch_begin of
the epoch that goes on included; what they did to variables in these counts once, where the training or the epoch began.
See callback_state.py for what is kept of their own.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras

from understudy.keras.loop import KerasLoop
from understudy.keras.validation import Validation
from understudy.trainer.session import Session

Batch = Callable[[int, int, int], Any]


def train(
    model: keras.Model,
    batch: Batch,
    steps: int,
    *,
    save_every: int = 100,
    log_every: int = 100,
    steps_per_epoch: int | None = None,
    validation: Validation | None = None,
    validation_batch_size: int = 256,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback = (),
    seed: int | None = None,
    directory: str | os.PathLike[str] | None = None,
    fresh: bool = False,
) -> keras.Model:
    """Train `model` for `steps` steps, from the newest checkpoint on; return it, trained.

    `validation` is `(x, y)`, a tf.data.Dataset, a PyDataset, or a function that returns one of them; it is evaluated at
    the end of each epoch, arrays in batches of `validation_batch_size`. `seed` seeds Python,
    numpy and Keras, by rank, before `train` makes whatever variables the model does not have yet: weights of a model
    with an Input layer were drawn before. `directory` and `fresh` (start over) are for runs without a cluster. There a
    further call in the same script is another training, as a further `fit` is: it goes on with the model as it is, for
    `steps` steps of its own, in a folder of its own. In a cluster a script is one training: there it raises NotStarted.
    """
    loop = KerasLoop(
        model,
        batch,
        callbacks,
        steps=steps,
        log_every=log_every,
        steps_per_epoch=steps_per_epoch,
        validation=validation,
        validation_batch_size=validation_batch_size,
    )
    session = Session(
        loop.state,
        loop.step,
        metrics=loop.metrics,
        prepare=loop.prepare,
        started=loop.started,
        ended=loop.ended,
        export=loop.exports,
        facts=loop.facts,
        warm_up_always=True,
        directory=directory,
        fresh=fresh,
    )
    if seed is not None:
        keras.utils.set_random_seed(seed + session.rank)
    try:
        loop.build(session)
        for step in session.steps(steps, save_every=save_every, log_every=log_every):
            loop.after(step)
    except Exception as error:
        session.fail(error)
        raise
    finally:
        loop.close()
    return model
