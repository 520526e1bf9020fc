"""The sample, on TensorFlow and real images: it survives faults on a volume of one node, and its result is the same."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from understudy_contract.status import Condition

from testbed import Testbed, faults, measure
from testbed import jobs as samples
from testbed.kube import Object
from tests.e2e import see

pytestmark = [pytest.mark.cluster, pytest.mark.tensorflow]

STEPS = 1500
ACCURACY = 0.97
TRAINED_WITHIN_S = 600
LOADS = """
import keras, numpy, sys
model = keras.saving.load_model(sys.argv[1])
print(model.predict(numpy.zeros((1, 8, 8, 1), "float32"), verbose=0).shape)
"""


def sample(name: str, redundancy: int) -> Object:
    """The sample with one rank, fewer steps, and a volume that is bound to one node."""
    body = samples.digits(name, ranks=1, steps=STEPS, log_every=1)
    body["spec"]["redundancy"] = redundancy
    body["spec"]["failover"]["leaseDurationSeconds"] = 15  # nobody here falls silent, on a machine that may be crowded
    body["spec"]["checkpoint"]["volumeClaimTemplate"]["spec"]["storageClassName"] = "pinned"
    return body


@dataclass(frozen=True, slots=True)
class Outcome:
    """Two runs of the sample that have ended."""

    bed: Testbed
    lost: tuple[measure.Failover, ...]
    """What was done to `digits`; nothing was done to `calm`."""
    nodes: frozenset[str]
    """Where the pods of `digits` stood."""
    tolerance: Condition
    """Condition NodeFaultTolerant while it trained."""


@pytest.fixture(scope="module")
def outcome(module_bed: Testbed) -> Outcome:
    """`digits` loses its trainer, and later its pod; then `calm` runs undisturbed."""
    bed = module_bed
    bed.apply(sample("digits", 1))
    lost = []
    for fault in (faults.KILL_TRAINER, faults.DELETE):
        bed.wait_settled("digits")
        bed.wait_until(
            lambda: bed.world.leases["digits-0"].floor_step > 0, timeout_s=see.WAIT_S, what="the first checkpoint"
        )
        lost.append(measure.failover(bed, "digits", 0, fault))
    nodes = frozenset(pod.node for pod in bed.world.pods.values())
    tolerance = see.condition(bed, "digits", "NodeFaultTolerant")
    bed.apply(sample("calm", 0))
    for job in ("digits", "calm"):
        see.wait_phase(bed, job, "Succeeded", timeout_s=TRAINED_WITHIN_S)
    return Outcome(bed, tuple(lost), nodes, tolerance)


def log_of(outcome: Outcome, job: str) -> str:
    """The log of the pod that completed a job."""
    return outcome.bed.log_text(outcome.bed.status(job).ranks[0].primary)


def test_the_sample_survives_the_loss_of_its_trainer_and_of_its_pod(outcome: Outcome) -> None:
    killed, deleted = outcome.lost
    assert (killed.cause, deleted.cause) == ("ProcessExited", "PodDeleted")
    assert not killed.cold
    assert not deleted.cold
    assert 0 <= killed.lost_steps <= 101, "at most a save interval; the step that it died in may be counted"
    assert deleted.lost_steps == 0
    assert outcome.bed.status("digits").failover_count == 2


def test_on_a_volume_of_one_node_all_its_pods_stand_there(outcome: Outcome) -> None:
    assert len(outcome.nodes) == 1
    assert (outcome.tolerance.status, outcome.tolerance.reason) == ("False", "ReadWriteOnce")
    assert "Use a ReadWriteMany volume to survive it" in outcome.tolerance.message


def test_its_final_weights_are_those_of_an_undisturbed_run_bit_for_bit(outcome: Outcome) -> None:
    disturbed, calm = (see.newest(see.rank_folder(outcome.bed, job)) for job in ("digits", "calm"))
    assert (disturbed.step, calm.step) == (STEPS, STEPS)
    assert (disturbed.term, calm.term) == (3, 1)
    assert disturbed.tensors == calm.tensors
    assert disturbed.state == calm.state


def test_it_reads_digits_that_it_has_never_seen(outcome: Outcome) -> None:
    told = [re.search(r"test accuracy ([\d.]+)", log_of(outcome, job)) for job in ("digits", "calm")]
    accuracies = [float(found[1]) for found in told if found]
    assert len(accuracies) == 2
    assert accuracies[0] == accuracies[1] >= ACCURACY


def test_the_trained_model_lies_where_the_status_says_and_keras_loads_it(outcome: Outcome) -> None:
    volume = outcome.bed.cluster.volume_folder(outcome.bed.namespace, "digits-checkpoints")
    model: Path = volume / outcome.bed.status("digits").ranks[0].model
    assert model.name == "model.keras"
    done = subprocess.run([sys.executable, "-c", LOADS, model], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["(1, 10)"], done.stderr
