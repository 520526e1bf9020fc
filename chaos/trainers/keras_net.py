"""A small convolutional network with dropout, on data made up from the step's number. As net.py, it ends at `finish`.

Dropout draws from a generator whose state is part of the checkpoint; Adam has moments and a step counter: whatever a
failover forgets of these shows in the final weights.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import understudy.keras
from storage import spoil_fsync  # type: ignore[import-not-found]  # beside it in the ConfigMap
from understudy_contract.names import CHECKPOINT_DIR, Env

CLASSES = 4
BATCH = 16
LOOK_EVERY = 10
VOLUME = Path(os.environ.get(Env.CHECKPOINT_DIR, CHECKPOINT_DIR))
FINISH = VOLUME / "finish"


class Finish(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Ends the training when it is told to; waits in each step, for the work that a larger network would do."""

    def __init__(self, pace_s: float) -> None:
        super().__init__()
        self._pace_s = pace_s

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        time.sleep(self._pace_s)
        done = batch + 1
        if done % LOOK_EVERY == 0 and FINISH.exists() and done >= int(FINISH.read_text()):
            self.model.stop_training = True


def batch(step: int, rank: int, ranks: int) -> tuple[object, object]:
    """Make pictures of noise whose class is where they are brightest."""
    draw = np.random.default_rng((13, rank, step))
    labels = draw.integers(0, CLASSES, BATCH)
    pictures = draw.random((BATCH, 8, 8, 1), dtype=np.float32)
    for picture, label in zip(pictures, labels, strict=True):
        picture[2 * label : 2 * label + 2] += 0.5
    return pictures, labels


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100_000_000)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--log-every", type=int, default=1)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--fsync", type=float, default=0.0)
    args = parser.parse_args()
    spoil_fsync(VOLUME, slow_s=args.fsync)
    keras.utils.set_random_seed(17)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Dropout(0.25),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    understudy.keras.train(
        model,
        batch,
        steps=args.steps,
        save_every=args.save_every,
        log_every=args.log_every,
        callbacks=[Finish(args.pace)],
    )


if __name__ == "__main__":
    main()
