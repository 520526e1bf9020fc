"""What Keras keeps outside the tensors survives a failover, and options of compile() do what they say."""

import csv

import pytest

from testbed import Testbed
from testbed.jobs import container
from testbed.kube import Object
from tests.cases import stage
from tests.cases.conftest import Note
from tests.e2e import see

pytestmark = pytest.mark.cluster

MODEL = """
    import keras
    import numpy as np
    import understudy.keras

    def batch(step, rank, ranks):
        x = np.random.default_rng((step, rank)).normal(size=(32, 4)).astype("float32")
        return x, x.sum(axis=1, keepdims=True)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    """
TENSORFLOW: Object = {"requests": {"cpu": "20m", "memory": "300Mi"}, "limits": {"memory": "1Gi"}}
EPOCHS = 3
"""Epochs between two losses."""


@pytest.mark.case(
    staged="CSVLogger on the volume and a callback that counts epochs; the primary is deleted, then killed.",
    expected="The history is whole, or the job warns.",
)
def test_csv_history(bed: Testbed, seen: Note) -> None:
    script = f"""{MODEL}
    import time
    from work import ROOT, told

    class Counter(keras.callbacks.Callback):
        epochs_seen = 0

        def on_train_batch_end(self, batch, logs=None):
            time.sleep(0.02)

        def on_epoch_end(self, epoch, logs=None):
            self.epochs_seen += 1
            print("epoch", epoch, "seen", self.epochs_seen, flush=True)
            self.model.stop_training = told("finish")

    model.compile(optimizer="sgd", loss="mse")
    callbacks = [keras.callbacks.CSVLogger(ROOT / "history.csv"), Counter()]
    understudy.keras.train(
        model, batch, steps=100_000, save_every=20, log_every=50, steps_per_epoch=50, callbacks=callbacks
    )
    """
    body = stage.job(bed, "history", script)
    container(body)["resources"] = TENSORFLOW
    bed.apply(body)
    bed.wait_settled("history")
    for grace_s in (None, 0):
        see.steps_on(bed, "history", more=50 * EPOCHS)
        term = bed.world.rank("history", 0).term + 1
        bed.delete_pod(bed.primary("history", 0).name, grace_s=grace_s)
        see.wait_failover(bed, "history", term)
        bed.wait_settled("history")
    see.steps_on(bed, "history", more=50)
    stage.tell(bed, "history", "finish")
    see.wait_phase(bed, "history", "Succeeded")
    with (stage.volume(bed, "history") / "history.csv").open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    lines = [line.text for log in bed.logs.all() for line in log.others if line.text.startswith("epoch ")]
    counted = {(int(words[1]), int(words[3])) for words in map(str.split, lines)}
    warned = [event["message"] for event in see.events(bed, "history", "NotExact")]
    seen(
        f"history.csv has each of {len(epochs)} epochs once and in order: "
        f"{'yes' if epochs == list(range(len(epochs))) else epochs}; the callback's own count went on: "
        f"{'yes' if all(count == epoch + 1 for epoch, count in counted) else sorted(counted)}; warnings: "
        f"{warned or 'none'}"
    )
    assert epochs == list(range(len(epochs)))
    assert len(epochs) >= 2 * EPOCHS
    assert all(count == epoch + 1 for epoch, count in counted)


@pytest.mark.case(
    staged="compile(steps_per_execution=10) and a training of 200 steps.",
    expected="It works, or is refused in one sentence.",
)
def test_steps_per_execution(bed: Testbed, seen: Note) -> None:
    script = f"""{MODEL}
    model.compile(optimizer="sgd", loss="mse", steps_per_execution=10)
    understudy.keras.train(model, batch, steps=200, save_every=50, log_every=50)
    print("optimizer has taken", int(model.optimizer.iterations.numpy()), "steps", flush=True)
    """
    body = stage.job(bed, "tenfold", script, redundancy=0)
    container(body)["resources"] = TENSORFLOW
    bed.apply(body)
    see.wait_phase(bed, "tenfold", "Succeeded")
    (rank,) = bed.status("tenfold").ranks
    (said,) = [line for line in bed.log_text(rank.primary).splitlines() if line.startswith("optimizer has")]
    seen(f"Succeeded; “{said}” for 200 batches")
    assert said == "optimizer has taken 200 steps"
