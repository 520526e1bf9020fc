"""TrainingJobs to measure with: the sample, and a small one that needs no TensorFlow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml
from understudy_contract.names import API_VERSION, KIND, TRAINER_CONTAINER

from localcluster.paths import CHECKOUT
from testbed.kube import Object

SAMPLE: Final[Path] = CHECKOUT / "manifests" / "samples" / "digits.yaml"
WORKER_IMAGE: Final = "understudy-worker:dev"

COUNTING: Final = """
import sys, time
import numpy as np
from understudy import Session, State

class Counter(State):
    def __init__(self):
        self.value = np.zeros(1000)
    def tensors(self):
        return {"value": self.value.copy()}
    def load(self, tensors):
        self.value = np.array(tensors["value"])

def step(index):
    time.sleep(float(sys.argv[2]))   # the work
    state.value += np.random.default_rng(index).random(1000)

state = Counter()
for _ in Session(state, step).steps(int(sys.argv[1]), save_every=int(sys.argv[3]), log_every=int(sys.argv[4])):
    pass
print("sum", state.value.sum().hex(), flush=True)
"""
"""A trainer that adds random numbers; its last line tells any two results apart, to the last bit."""


def digits(name: str = "digits", *, ranks: int | None = None, **arguments: int | str) -> Object:
    """Return the sample with other arguments for its script: `log_every=1` becomes `--log-every=1`."""
    body: Object = yaml.safe_load(SAMPLE.read_text())
    body["metadata"]["name"] = name
    if ranks is not None:
        body["spec"]["ranks"] = ranks
    trainer = container(body)
    trainer["args"] = with_arguments(trainer["args"], {k.replace("_", "-"): str(v) for k, v in arguments.items()})
    return body


def container(body: Object) -> Object:
    """Return the container `trainer` of a manifest."""
    found: Object = next(c for c in body["spec"]["template"]["spec"]["containers"] if c["name"] == TRAINER_CONTAINER)
    return found


def argument(body: Object, name: str) -> int:
    """Return the value of the trainer's argument `--name=value`."""
    words: list[str] = container(body)["args"]
    return int(next(word for word in words if word.startswith(f"--{name}=")).partition("=")[2])


def with_arguments(words: list[str], wanted: Mapping[str, str]) -> list[str]:
    """Replace or append `--name=value` words."""
    kept = [word for word in words if word.removeprefix("--").partition("=")[0] not in wanted]
    return [*kept, *(f"--{name}={value}" for name, value in wanted.items())]


def counting(
    name: str,
    *,
    steps: int = 1_000_000,
    step_s: float = 0.05,
    save_every: int = 20,
    log_every: int = 1,
    ranks: int = 1,
    redundancy: int = 1,
    lease_s: int = 3,
) -> Object:
    """Return a job of a small numpy trainer, which starts in a second."""
    trainer = {
        "name": TRAINER_CONTAINER,
        "image": WORKER_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", COUNTING],
        "args": [str(steps), str(step_s), str(save_every), str(log_every)],
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}, "limits": {"memory": "512Mi"}},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {
            "ranks": ranks,
            "redundancy": redundancy,
            "template": {"spec": {"containers": [trainer]}},
            "failover": {"leaseDurationSeconds": lease_s, "handOverSeconds": 10},
        },
    }
