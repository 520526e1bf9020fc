"""One namespace of a cluster, under observation: its objects mirrored, its workers' logs followed."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, Final, Self, TypeVar

from kubernetes.client.exceptions import ApiException
from understudy_contract.names import TRAINER_CONTAINER
from understudy_contract.status import JobStatus

from localcluster import Cluster, choice
from testbed.errors import TestbedError
from testbed.kube import EVENTS, JOBS, PODS, Kube, Object
from testbed.logs import Logs
from testbed.pods import Pod
from testbed.world import RankState, World

_T = TypeVar("_T")

SETTLED_WITHIN_S: Final = 300
"""Four imports of TensorFlow at once on two busy cores take half a minute."""
GONE_WITHIN_S: Final = 120
NAMESPACES: Final = "/api/v1/namespaces"


class Testbed:
    """A namespace under observation. Use as a context manager."""

    __test__ = False  # pytest: not a class of tests

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kube = Kube(cluster.kubeconfig)
        self.world = World(self.kube, namespace)
        self.logs = Logs(self.kube, namespace, self.world.changed, self._may_print)
        self._exit = ExitStack()

    @classmethod
    def connect(cls, namespace: str) -> Self:
        """Use the cluster that runs on this machine; the namespace is made if need be."""
        return cls(choice.connect(), namespace)

    def __enter__(self) -> Self:
        self._exit.enter_context(self.kube)
        self._make_namespace()
        self.world.on_pod = self._follow
        self._exit.callback(self.world.stop)
        self._exit.callback(self.logs.stop)
        self.world.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def apply(self, manifest: Object) -> str:
        """Create a TrainingJob, after deleting one of the same name with all that belongs to it; return its name."""
        name: str = manifest["metadata"]["name"]
        self.delete_job(name)
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": self.namespace}}
        self.kube.create(JOBS.format(self.namespace), body)
        self.wait_until(lambda: name in self.world.jobs, timeout_s=GONE_WITHIN_S, what=f"the sight of job {name}")
        return name

    def delete_job(self, name: str) -> None:
        """Delete a TrainingJob and wait until its pods and Leases are gone; the volume stays."""
        self.kube.delete(f"{JOBS.format(self.namespace)}/{name}", propagationPolicy="Background")
        self.wait_until(
            lambda: (
                name not in self.world.jobs
                and not any(pod.job == name for pod in self.world.pods.values())
                and not any(lease.startswith(f"{name}-") for lease in self.world.leases)
            ),
            timeout_s=GONE_WITHIN_S,
            what=f"the end of all pods and Leases of job {name}",
        )

    def delete_namespace(self) -> None:
        """Delete the namespace with everything in it, volumes too; does not wait for it."""
        self.kube.delete(f"{NAMESPACES}/{self.namespace}")

    def delete_pod(self, name: str, *, grace_s: int | None = None) -> None:
        """Delete a pod."""
        options: dict[str, Any] = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        if not self.kube.delete(f"{PODS.format(self.namespace)}/{name}", **options):
            raise TestbedError(f"pod {name} cannot be deleted: there is none")

    def wait_until(self, look: Callable[[], _T | None], *, timeout_s: float, what: str) -> _T:
        """As World.wait_until."""
        return self.world.wait_until(look, timeout_s=timeout_s, what=what)

    def wait_settled(self, job: str, *, timeout_s: float = SETTLED_WITHIN_S) -> tuple[RankState, ...]:
        """Wait until every rank trains and all redundant pods are warm."""
        try:
            self.wait_until(
                lambda: self.world.settled(job) or self.world.over(job), timeout_s=timeout_s, what=f"a whole job {job}"
            )
            if self.world.over(job):
                raise TestbedError(f"job {job} ended too early, before it could be broken: give it more steps")
        except TestbedError as error:
            raise TestbedError(f"{error}; {self.world.describe(job)}{self.recent_events(job)}") from None
        return self.world.ranks(job)

    def status(self, job: str) -> JobStatus:
        """Return a job's status as last seen; an empty one of a job that was not seen yet."""
        return self.world.status(job)

    def primary(self, job: str, rank: int) -> Pod:
        """Return the primary's pod of a rank."""
        pod = self.world.rank(job, rank).primary
        if pod is None:
            raise TestbedError(f"rank {rank} of {job} has no primary: {self.world.describe(job)}")
        return pod

    def recent_events(self, job: str, *, count: int = 5) -> str:
        """Say what the newest Events of a job were, for messages."""
        items = self.kube.get(EVENTS.format(self.namespace), limit="500")["items"]
        about = [e for e in items if e["involvedObject"].get("name", "").startswith(job)]
        about.sort(key=lambda e: e["metadata"]["creationTimestamp"])
        return "".join(f"\n  {e['reason']}: {e['message']}" for e in about[-count:])

    def kubectl(self, *arguments: str) -> list[str]:
        """Return the words of a kubectl command for this namespace."""
        cluster = self.cluster
        return [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={self.namespace}", *arguments]

    def log_text(self, pod: str) -> str:
        """Read a pod's whole log, for a report of what went wrong."""
        try:
            return self.kube.text(f"{PODS.format(self.namespace)}/{pod}/log", container=TRAINER_CONTAINER)
        except ApiException as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST):
                return ""
            raise

    def _make_namespace(self) -> None:
        path = f"{NAMESPACES}/{self.namespace}"
        found = self.kube.find(path)
        if found is not None and found["status"]["phase"] == "Terminating":
            params = {
                "watch": "true",
                "fieldSelector": f"metadata.name={self.namespace}",
                "resourceVersion": found["metadata"]["resourceVersion"],
                "timeoutSeconds": str(GONE_WITHIN_S),
            }
            if not any(json.loads(line)["type"] == "DELETED" for line in self.kube.lines(NAMESPACES, params)):
                raise TestbedError(f"namespace {self.namespace} has not ended {GONE_WITHIN_S} s after its deletion")
            found = None
        if found is None:
            self.kube.create(NAMESPACES, {"metadata": {"name": self.namespace}})

    def _follow(self, pod: Pod) -> None:
        if pod.job and (pod.running or pod.terminated):
            self.logs.follow(pod.name, pod.uid, pod.rank)

    def _may_print(self, uid: str) -> bool:
        return any(pod.uid == uid for pod in self.world.pods.values())
