"""The four trainings that are to be broken, and when they are whole again.

Three nodes' worth of shape: one rank with one redundant pod, two ranks, a rank with two redundant pods, and a Keras
model. Volumes can be mounted by all nodes and have a file system of their own, so that they can be filled up.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from understudy_contract.names import TRAINER_CONTAINER

from chaos.draw import pick
from chaos.target import FileId, Target
from localcluster import Cluster
from localcluster.storage import TMPFS_SIZE
from testbed import Testbed, TestbedError, operator, storage
from testbed.jobs import WORKER_IMAGE
from testbed.kube import Object, parse_time
from testbed.pods import Pod

TRAINERS: Final = Path(__file__).resolve().parent / "trainers"
CONFIG_MAP: Final = "trainers"
VOLUME_SIZE: Final = "64Mi"
"""A hundred times what a job keeps."""
LEASE_S: Final = 6
"""Twice what the samples have: this machine is crowded, and a primary that is late by a lease is a lost one."""
PROGRESS_S: Final = 10
HAND_OVER_S: Final = 10
SAVE_EVERY: Final = 50
PACE_S: Final = 0.04
FSYNC_S: Final = 1.0
"""On a volume that is slow: a commit takes longer, then, than what is trained between two."""
FINISH_STEPS: Final = 200
"""Eight seconds: a rank's step is as old as its last renewal."""
PRIORITY: Final = "chaos-training"
GUEST_PRIORITY: Final = "chaos-guest"
PRIORITIES: Final = {PRIORITY: -10, GUEST_PRIORITY: 10}
PRIORITY_CLASSES: Final = "/apis/scheduling.k8s.io/v1/priorityclasses"
SHAPES: Final[dict[str, tuple[str, int, int]]] = {
    "solo": ("net.py", 1, 1),
    "pair": ("net.py", 2, 1),
    "trio": ("net.py", 1, 2),
    "keras": ("keras_net.py", 1, 1),
}
"""Script, ranks and redundancy of each job."""
LEASES: Final = sum(ranks * (1 + redundancy) for _, ranks, redundancy in SHAPES.values())
TARGETS: Final = tuple(Target(name, rank) for name, (_, ranks, _) in SHAPES.items() for rank in range(ranks))
FAILOVER_WITHIN_S: Final = 240
LOGS_WITHIN_S: Final = 60
WHOLE_WITHIN_S: Final = 420
"""Several starts of TensorFlow on a machine that does other things as well; a job that needs longer is lost."""


def claim_name(job: str) -> str:
    """Name a job's claim."""
    return f"{job}-volume"


def manifest(name: str, shape: str, *, redundancy: int, arguments: dict[str, int | float]) -> Object:
    """Build a job with one of the shapes."""
    script, ranks, _ = SHAPES[shape]
    words = [f"--{key.replace('_', '-')}={value}" for key, value in arguments.items()]
    # One thread each: a run with failovers then has the weights of one without.
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    container: Object = {
        "name": TRAINER_CONTAINER,
        "image": WORKER_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", f"/code/{script}", *words],
        "env": [{"name": thread, "value": "1"} for thread in threads],
        "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}, "limits": {"memory": "1536Mi"}},
        "volumeMounts": [{"name": "code", "mountPath": "/code", "readOnly": True}],
    }
    return {
        "apiVersion": "understudy.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "ranks": ranks,
            "redundancy": redundancy,
            "template": {
                "spec": {
                    "containers": [container],
                    "volumes": [{"name": "code", "configMap": {"name": CONFIG_MAP}}],
                    "priorityClassName": PRIORITY,
                }
            },
            "checkpoint": {"claimName": claim_name(name)},
            "failover": {
                "leaseDurationSeconds": LEASE_S,
                "progressDeadlineSeconds": PROGRESS_S,
                "handOverSeconds": HAND_OVER_S,
            },
        },
    }


class Ward:
    """The jobs under observation."""

    def __init__(self, cluster: Cluster, testbed: Testbed) -> None:
        self.cluster = cluster
        self.testbed = testbed
        self.world = testbed.world
        self.kube = testbed.kube
        self.damaged: set[FileId] = set()
        """States on the volumes that a fault has damaged."""
        self._volumes: dict[str, Path] = {}

    def prepare(self) -> None:
        """Make what the jobs need: scripts, priorities."""
        scripts = {path.name: path.read_text() for path in (*sorted(TRAINERS.glob("*.py")), storage.SOURCE)}
        path = f"/api/v1/namespaces/{self.testbed.namespace}/configmaps"
        self.kube.create(path, {"metadata": {"name": CONFIG_MAP}, "data": scripts})
        for name, value in PRIORITIES.items():
            if self.kube.find(f"{PRIORITY_CLASSES}/{name}") is None:
                self.kube.create(PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value})

    def remove(self) -> None:
        """Delete everything that was made; does not wait for it."""
        self.testbed.delete_namespace()
        for name in PRIORITIES:
            self.kube.delete(f"{PRIORITY_CLASSES}/{name}")

    def start(self, name: str, shape: str, *, redundancy: int, **arguments: int | float) -> None:
        """Start a job on a new volume."""
        body: Object = {
            "metadata": {"name": claim_name(name), "annotations": {TMPFS_SIZE: VOLUME_SIZE}},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        self.kube.create(f"/api/v1/namespaces/{self.testbed.namespace}/persistentvolumeclaims", body)
        self.testbed.apply(manifest(name, shape, redundancy=redundancy, arguments=arguments))

    def start_all(self) -> None:
        """Start the four, and wait until they are whole."""
        for name, (_, _, redundancy) in SHAPES.items():
            self.start(name, name, redundancy=redundancy, save_every=SAVE_EVERY, pace=PACE_S, fsync=FSYNC_S)
        self.wait_whole(0.0)

    def finish(self, name: str) -> None:
        """Tell all ranks of a job to end their training after the same step, which none has reached yet."""
        reached = max(self.world.rank(name, rank).step for rank in range(SHAPES[name][1]))
        last = -(-reached // SAVE_EVERY) * SAVE_EVERY + FINISH_STEPS
        file = self.volume(name) / "finish"
        file.with_suffix(".new").write_text(str(last))
        file.with_suffix(".new").rename(file)

    def volume(self, name: str) -> Path:
        """Return the folder of a job's volume, on this machine; the API server is asked for it once."""
        if name not in self._volumes:
            self._volumes[name] = self.cluster.volume_folder(self.testbed.namespace, claim_name(name))
        return self._volumes[name]

    def rank_folder(self, target: Target) -> Path:
        """Return the folder of a rank's checkpoints, on this machine."""
        uid: str = self.world.jobs[target.job]["metadata"]["uid"]
        return self.volume(target.job) / uid / f"rank-{target.rank}"

    def target(self, share: float) -> Target:
        """Choose a rank."""
        return TARGETS[pick(share, len(TARGETS))]

    def primary(self, target: Target) -> Pod:
        """Return a rank's primary; TestbedError if there is none that runs."""
        pod = self.testbed.primary(target.job, target.rank)
        if not pod.running or pod.deleting:
            raise TestbedError(f"{pod.name}, the primary of {target}, is ending")
        return pod

    def primaries_on(self, node: str) -> dict[Target, Pod]:
        """Return the ranks whose primary is on a node."""
        found = {target: self.world.rank(target.job, target.rank).primary for target in TARGETS}
        return {target: pod for target, pod in found.items() if pod is not None and pod.node == node}

    def pods(self, target: Target) -> list[Pod]:
        """Return a rank's pods that run."""
        return [p for p in self.all_pods() if (p.job, p.rank) == (target.job, target.rank)]

    def all_pods(self) -> list[Pod]:
        """Return all workers that run."""
        return [p for p in self.world.pods.values() if p.job in SHAPES and p.running and not p.deleting]

    def wait_failovers(self, missing: Callable[[], list[Target]]) -> str:
        """Wait until no rank is missing; return a sentence if one stays so."""
        try:
            what = "the failovers that a fault must lead to"
            self.testbed.wait_until(lambda: not missing(), timeout_s=FAILOVER_WITHIN_S, what=what)
        except TestbedError as error:
            return f"{error}: still without are {', '.join(map(str, missing()))}"
        return ""

    def wait_logs(self, since: float) -> None:
        """Wait until the logs tell that each rank steps, and those of pods that have ended are complete."""

        def told() -> bool:
            primaries = [self.world.rank(target.job, target.rank).primary for target in TARGETS]
            logs = [self.testbed.logs.of(pod.name) for pod in primaries if pod is not None]
            return len(logs) == len(TARGETS) and all(log.steps and log.steps[-1].at > since for log in logs)

        def ended() -> bool:
            running = {pod.uid for pod in self.world.pods.values() if not pod.terminated}
            return all(log.ended or log.uid in running for log in self.testbed.logs.all())

        self.testbed.wait_until(told, timeout_s=LOGS_WITHIN_S, what="a new step of each rank in the logs")
        with suppress(TestbedError):  # what is missing then counts as not known
            self.testbed.wait_until(ended, timeout_s=LOGS_WITHIN_S, what="the end of the logs of lost pods")

    def wait_whole(self, since: float) -> None:
        """Wait until every rank trains, all redundant pods are warm, and all of them were heard after `since`.

        A pod that is not heard any more is not seen to be lost before its lease is over: hence the last.
        """
        try:
            self.testbed.wait_until(lambda: self._whole(since), timeout_s=WHOLE_WITHIN_S, what="all jobs to be whole")
        except TestbedError as error:
            about = [f"{name}: {self.world.describe(name)}{self.testbed.recent_events(name)}" for name in SHAPES]
            raise TestbedError("\n".join([str(error), *about])) from None
        operator.pod(self.kube)

    def _whole(self, since: float) -> bool:
        over = next((name for name in SHAPES if self.world.over(name)), None)
        if over is not None:
            raise TestbedError(f"job {over} ended before it was told to")
        renewals = [lease.renew_time for lease in self.world.leases.values()]
        heard = len(renewals) == LEASES and all(at is not None and parse_time(at) > since for at in renewals)
        # The API server's word for a warm pod: a disruption budget goes by it.
        return heard and all(pod.ready for pod in self.all_pods()) and all(map(self.world.settled, SHAPES))
