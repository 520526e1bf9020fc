"""TrainingJobs for end-to-end tests: numpy trainers, their scripts delivered by a ConfigMap."""

from pathlib import Path
from typing import Any

from testbed import Testbed, storage
from testbed.jobs import WORKER_IMAGE
from testbed.kube import Object

TRAINERS = Path(__file__).resolve().parent / "trainers"
CONFIG_MAP = "trainers"
SHARED: Object = {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteMany"]}}}
"""A claim that several nodes can mount, so that a redundant pod stands on another node."""
PINNED: Object = {"volumeClaimTemplate": {"spec": {"storageClassName": "pinned"}}}
"""A claim whose volume is of one node, where all pods have to stand. What is asked of the local cluster's default class
does not matter: every node can mount its volumes."""


def deliver_scripts(testbed: Testbed) -> None:
    """Put the scripts into the namespace."""
    scripts = {path.name: path.read_text() for path in (*sorted(TRAINERS.glob("*.py")), storage.SOURCE)}
    path = f"/api/v1/namespaces/{testbed.namespace}/configmaps"
    testbed.kube.create(path, {"metadata": {"name": CONFIG_MAP}, "data": scripts})


def job(
    name: str,
    *,
    script: str = "train.py",
    config_map: str = CONFIG_MAP,
    arguments: dict[str, Any] | None = None,
    image: str = WORKER_IMAGE,
    lease_s: int = 15,
    hand_over_s: int = 10,
    checkpoint: Object | None = None,
    trainer: Object | None = None,
    beside: Object | None = None,
    **spec: Any,
) -> Object:
    """Build a job of one of the scripts in a ConfigMap; its lease outlasts a machine that is short of CPU for a while.

    `save_every=9` becomes `--save-every=9`; `trainer` amends the container, `beside` the rest of the pod's spec.
    """
    words = [f"--{key.replace('_', '-')}={value}" for key, value in (arguments or {}).items()]
    container: Object = {
        "name": "trainer",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", f"/code/{script}", *words],
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}, "limits": {"memory": "512Mi"}},
        "volumeMounts": [{"name": "code", "mountPath": "/code", "readOnly": True}],
        **(trainer or {}),
    }
    volumes = [{"name": "code", "configMap": {"name": config_map}}]
    return {
        "apiVersion": "understudy.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "template": {"spec": {"containers": [container], "volumes": volumes, **(beside or {})}},
            "checkpoint": SHARED if checkpoint is None else checkpoint,
            "failover": {"leaseDurationSeconds": lease_s, "handOverSeconds": hand_over_s},
            **spec,
        },
    }


def finish(testbed: Testbed, name: str, rank: int | None = None) -> None:
    """Tell a job of train.py, or one rank of it, to end its training with the step that it is at."""
    file = "finish" if rank is None else f"finish-{rank}"
    (testbed.cluster.volume_folder(testbed.namespace, f"{name}-checkpoints") / file).touch()
