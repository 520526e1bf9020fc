"""Train a small convolutional network on the 1,797 handwritten digits of scikit-learn, so that it survives its pod.

    python examples/digits/train.py                    # on a laptop: checkpoints in ./checkpoints/train
    kubectl apply -f manifests/samples/digits.yaml     # the same script in a cluster

Each rank trains a model of its own. The order of the data is a pure function of (seed, rank, step).
"""

import argparse
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

SEED = 17
TEST_IMAGES, VALIDATION_IMAGES = 360, 180


def load_digits() -> Arrays:
    """Load the images, (1797, 8, 8, 1) float32 in 0…1, and labels, (1797,) int64.

    Reads the file that scikit-learn ships without importing scikit-learn, which takes longer than all the rest.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the digits are shipped with scikit-learn: pip install scikit-learn")
    table = np.loadtxt(Path(found.submodule_search_locations[0]) / "datasets/data/digits.csv.gz", delimiter=",")
    return (table[:, :-1].reshape(-1, 8, 8, 1) / 16).astype(np.float32), table[:, -1].astype(np.int64)


def split(images: Arrays) -> tuple[Arrays, Arrays, Arrays]:
    """Split into training, validation and test sets: always the same ones."""
    x, y = images
    order = np.random.default_rng(SEED).permutation(len(x))
    test, validation, training = np.split(order, [TEST_IMAGES, TEST_IMAGES + VALIDATION_IMAGES])
    return (x[training], y[training]), (x[validation], y[validation]), (x[test], y[test])


class Batches:
    """Batches of a training set, shuffled again for each pass over it."""

    def __init__(self, data: Arrays, batch_size: int, seed: int) -> None:
        self._x, self._y = data
        self._size = min(batch_size, len(self._x))
        self._per_pass = len(self._x) // self._size
        self._order = functools.lru_cache(maxsize=2)(
            lambda rank, pass_: np.random.default_rng((seed, rank, pass_)).permutation(len(self._x))
        )

    def __call__(self, step: int, rank: int, ranks: int) -> Arrays:
        """Give the batch of one step: a pure function of the arguments."""
        pass_, place = divmod(step, self._per_pass)
        chosen = self._order(rank, pass_)[place * self._size : (place + 1) * self._size]
        return self._x[chosen], self._y[chosen]


def main() -> None:
    """Train, then say how well the model does on images that it has never seen."""
    parser = argparse.ArgumentParser(description="Train a small network on handwritten digits.")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--save-every", type=int, default=100, help="steps between two checkpoints")
    parser.add_argument("--log-every", type=int, default=100, help="steps between two lines")
    parser.add_argument("--validate-every", type=int, default=500, help="steps between two validations")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--directory", default=None, help="checkpoints of a run without a cluster")
    parser.add_argument("--fresh", action="store_true", help="start over, without a cluster")
    args = parser.parse_args()

    import keras
    import understudy.keras

    training, validation, test = split(load_digits())
    rank = int(os.environ.get("UNDERSTUDY_RANK", "0"))
    keras.utils.set_random_seed(args.seed + rank)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.25),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    understudy.keras.train(
        model,
        Batches(training, args.batch_size, args.seed),
        steps=args.steps,
        save_every=args.save_every,
        log_every=args.log_every,
        steps_per_epoch=args.validate_every,
        validation=validation,
        directory=args.directory,
        fresh=args.fresh,
    )
    result = model.evaluate(*test, verbose=0, return_dict=True)
    print(f"test accuracy {result['accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
