"""The same cluster by kind, for machines where docker runs and kind is installed.

Everything goes through docker, kind, kubectl and helm, as an ordinary user: no root, no network namespace and no /proc
of this machine, so docker may run in a virtual machine (macOS). Names of images and the place of the kubeconfig are
those of the embedded cluster; nodes carry kind's names. The kubeconfig is this project's own: kind neither adds a
context to the user's nor switches it.

Faults are done to the containers that are the nodes (kind_node.py), volumes are of all nodes (kind_storage.py). Not
offered: killing etcd or the API server, backups of etcd, volumes that fill up or turn read-only.

Not exercised by this project's own tests on a real kind; these run its commands against programs that record them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from localcluster import kind_containers, kind_images, kind_node, kind_storage, paths, pods
from localcluster.cluster import CHOICE, NODES, Cluster
from localcluster.kind_containers import CONTROL_PLANE, NAME, program
from localcluster.kind_node import KindNode
from localcluster.kubectl import Kubectl
from localcluster.links import link, unlink
from localcluster.shell import ClusterError, run, say, step, wait_until

READY_TIMEOUT_S = 300
SERVING_TIMEOUT_S = 120
LOOK_INTERVAL_S = 0.5
_EMBEDDED = f"set {CHOICE}=embedded to use the embedded cluster, which can do it"


@dataclass(frozen=True, slots=True)
class KindCluster(Cluster):
    """A cluster of kind's with this project's name."""

    title: ClassVar[str] = "kind"
    no_proxy: ClassVar[str] = "127.0.0.1"

    checkout: Path

    @staticmethod
    def up(*, nodes: int = NODES, checkout: Path = paths.CHECKOUT) -> KindCluster:
        cluster = KindCluster(checkout)
        for name in ("kind", "kubectl", "helm"):  # before anything is made
            program(name)
        with paths.locked(paths.cache() / f"{NAME}.lock"):
            if kind_containers.unfinished() and kind_containers.exist():
                say("The last creation of the cluster was cut short: what it left is removed")
                kind_containers.remove(cluster.kubeconfig)
            if not kind_containers.exist():
                kind_containers.make(nodes, cluster.kubeconfig)
            elif len(cluster.nodes) != nodes:
                say(
                    f"The cluster that runs has {len(cluster.nodes)} worker nodes, not {nodes}: it is used as it is. "
                    f"For another number, end it first: `python -m localcluster down`, then `up --nodes {nodes}`"
                )
            cluster._start()
            cluster._link()
            cluster._wait_ready()
            if not kind_storage.share(cluster._kubectl, cluster.nodes):
                say(
                    "This cluster was made without a folder that all nodes share: its volumes are of one node. "
                    "`python -m localcluster down`, then `up`, makes one with it"
                )
        return cluster

    @staticmethod
    def connect(*, checkout: Path = paths.CHECKOUT) -> KindCluster:
        if not KindCluster.is_running():
            if left := KindCluster.residue():
                raise ClusterError(
                    f"the cluster of kind's does not run ({', '.join(left)}): start it with `python -m localcluster up`"
                )
            raise ClusterError("no cluster of kind's runs here: make one with `python -m localcluster up`")
        cluster = KindCluster(checkout)
        cluster._link()
        return cluster

    @staticmethod
    def is_running() -> bool:
        if kind_containers.unfinished() or not kind_containers.exist():
            return False
        return kind_containers.state(CONTROL_PLANE) == "running"

    @staticmethod
    def down(*, checkout: Path = paths.CHECKOUT) -> None:
        kind_containers.remove(KindCluster(checkout).kubeconfig)
        unlink(checkout)

    @staticmethod
    def residue() -> list[str]:
        if not kind_containers.exist():
            return []
        creation = ["a creation that has not ended"] if kind_containers.unfinished() else []
        return creation + [f"{name} {kind_containers.state(name)}" for name in kind_containers.names()]

    @property
    def kubectl(self) -> Path:
        return program("kubectl")

    @property
    def helm(self) -> Path:
        return program("helm")

    @property
    def nodes(self) -> tuple[KindNode, ...]:
        return tuple(node for node in self._all() if node.name != CONTROL_PLANE)

    @property
    def has_shared_volumes(self) -> bool:
        return kind_storage.is_shared(self._kubectl)

    @contextmanager
    def api_outage(self) -> Iterator[None]:
        run(["docker", "pause", CONTROL_PLANE])
        try:
            yield
        finally:
            run(["docker", "unpause", CONTROL_PLANE])
            self._wait_serving()

    def killed(self, program: str) -> AbstractContextManager[None]:
        raise ClusterError(f"{program} cannot be killed on kind: {_EMBEDDED}")

    def processes(self, namespace: str, pod: str) -> list[pods.Process]:
        found = self._kubectl.get("pod", pod, f"--namespace={namespace}")
        if "nodeName" not in found["spec"]:
            return []
        node = KindNode(found["spec"]["nodeName"], self._kubectl)
        return node.processes(found["metadata"]["uid"], _containers(found))

    def send_signal(self, process: pods.Process, number: signal.Signals) -> None:
        KindNode(process.node, self._kubectl).signal(process, number)

    def signal_command(self, process: pods.Process, number: signal.Signals) -> str:
        return kind_node.signal_command(process, number)

    def load_images(self, names: Sequence[str]) -> None:
        kind_images.load(NAME, self.nodes, names)

    def volume_folder(self, namespace: str, claim: str) -> Path:
        return kind_storage.volume_folder(self._kubectl, namespace, claim)

    def backup(self, file: Path) -> None:
        raise ClusterError(f"etcd cannot be backed up to {file} on kind: {_EMBEDDED}")

    def restore(self, file: Path) -> None:
        raise ClusterError(f"etcd cannot be restored from {file} on kind: {_EMBEDDED}")

    def set_volume_read_only(self, namespace: str, claim: str, *, read_only: bool) -> None:
        raise ClusterError(
            f"the volume of {namespace}/{claim} cannot be turned read-only={read_only} on kind: {_EMBEDDED}"
        )

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(self.kubectl, self.kubeconfig)

    def _all(self) -> tuple[KindNode, ...]:
        """Return all nodes, the control plane first."""
        return tuple(KindNode(name, self._kubectl) for name in kind_containers.names())

    def _start(self) -> None:
        """Start every container that does not run, the control plane first, and end what faults left."""
        if kind_containers.state(CONTROL_PLANE) == "paused":
            run(["docker", "unpause", CONTROL_PLANE])  # an outage that nobody ended
        for node in self._all():
            if not node.is_running:
                with step(f"{node.name} started"):
                    node.start(wait_ready=False)
            elif not node.is_connected:
                say(f"  healing the partition of {node.name}")
                node.heal()

    def _link(self) -> None:
        """Write the kubeconfig: the checkout may have that of the embedded cluster, which may run beside this one."""
        kubeconfig = run([program("kind"), "get", "kubeconfig", "--name", NAME])
        link(self.checkout, kubeconfig, (self.kubectl, self.helm))

    def _wait_ready(self) -> None:
        with step("all nodes are Ready"):
            self._wait_serving()
            kind_node.wait_all_ready(self._kubectl, self._all())
            self._kubectl("wait", "--for=condition=Ready", "node", "--all", f"--timeout={READY_TIMEOUT_S}s")

    def _wait_serving(self) -> None:
        wait_until(
            self._kubectl.is_serving,
            timeout_s=SERVING_TIMEOUT_S,
            interval_s=LOOK_INTERVAL_S,
            what=f"an answer of the API server (what it says: `docker logs {CONTROL_PLANE}`)",
        )


def _containers(pod: dict[str, Any]) -> list[str]:
    """Return the container runtime's ids of a pod's containers, without the one that only holds its namespaces."""
    status = pod.get("status", {})
    kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    ids = [found.get("containerID", "") for kind in kinds for found in status.get(kind, ())]
    return [text.partition("://")[2] for text in ids if text]
