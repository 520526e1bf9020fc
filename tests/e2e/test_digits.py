"""The sample, on TensorFlow and real images: it survives faults on a volume of one node, and its result is the same."""

import pytest

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
    body["spec"]["checkpoint"]["volumeClaimTemplate"]["spec"]["storageClassName"] = "pinned"
    return body


@pytest.fixture(scope="module")
def trained(module_bed: Testbed) -> Testbed:
    """Two runs of the sample to their end: `digits` loses its trainer and then its pod, `calm` loses nothing."""
    bed = module_bed
    bed.apply(sample("digits", 1))
    bed.wait_settled("digits")
    bed.lost = [measure.failover(bed, "digits", 0, faults.KILL_TRAINER)]  # type: ignore[attr-defined]
    bed.wait_settled("digits")
    bed.lost.append(measure.failover(bed, "digits", 0, faults.DELETE))  # type: ignore[attr-defined]
    bed.apply(sample("calm", 0))
    for job in ("digits", "calm"):
        see.wait_phase(bed, job, "Succeeded", timeout_s=TRAINED_WITHIN_S)
    return bed
