"""The same cluster by kind, for machines where docker runs and kind is installed.

Not exercised by this project's own CI, which has no container engine. Names of images and the place of the kubeconfig
are those of the embedded cluster; nodes carry kind's names. A fault is done to the container that is the node. The
storage class is kind's own (one node per volume); volumes cannot be filled up or turned read-only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster import paths, pods
from localcluster.cluster import NODES, Cluster, Node, link, unlink
from localcluster.shell import Argv, ClusterError, run, say

NAME = "understudy"
NETWORK = "kind"
CONTROL_PLANE = f"{NAME}-control-plane"
READY_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class KindNode(Node):
    """A node that is a container of docker's."""

    name: str
    checkout: Path

    @property
    def is_running(self) -> bool:
        return run(["docker", "inspect", "--format", "{{.State.Running}}", self.name]).strip() == "true"

    @property
    def is_connected(self) -> bool:
        template = f'{{{{index .NetworkSettings.Networks "{NETWORK}" | not | not}}}}'
        return run(["docker", "inspect", "--format", template, self.name]).strip() == "true"

    def power_cut(self) -> None:
        run(["docker", "kill", self.name])

    def start(self, *, wait_ready: bool = True) -> None:
        run(["docker", "start", self.name])
        if wait_ready:
            kubeconfig = paths.links(self.checkout) / "kubeconfig"
            wait = [f"--timeout={READY_TIMEOUT_S}s", "--for=condition=Ready", f"node/{self.name}"]
            run([program("kubectl"), f"--kubeconfig={kubeconfig}", "wait", *wait])

    def partition(self) -> None:
        run(["docker", "network", "disconnect", NETWORK, self.name])

    def heal(self) -> None:
        run(["docker", "network", "connect", NETWORK, self.name])

    def run(self, argv: Argv, *, stdin: str | None = None, timeout_s: float | None = 60) -> str:
        return run(["docker", "exec", "--interactive", self.name, *argv], stdin=stdin, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class KindCluster(Cluster):
    """A cluster of kind's with this project's name."""

    checkout: Path

    @staticmethod
    def up(*, nodes: int = NODES, checkout: Path = paths.CHECKOUT) -> KindCluster:
        if not KindCluster.is_running():
            say("Making the cluster with kind")
            roles = ["control-plane", *["worker"] * nodes]
            config = {
                "kind": "Cluster",
                "apiVersion": "kind.x-k8s.io/v1alpha4",
                "nodes": [{"role": role} for role in roles],
            }
            run(
                ["kind", "create", "cluster", "--name", NAME, "--config", "-", "--wait", "5m"], stdin=json.dumps(config)
            )
        cluster = KindCluster(checkout)
        for node in cluster.nodes:
            if not node.is_running:
                node.start()
            elif not node.is_connected:
                node.heal()
        kubeconfig = run(["kind", "get", "kubeconfig", "--name", NAME])
        link(checkout, kubeconfig, (cluster.kubectl, cluster.helm))
        return cluster

    @staticmethod
    def connect(*, checkout: Path = paths.CHECKOUT) -> KindCluster:
        if not KindCluster.is_running():
            raise ClusterError("no cluster runs on this machine: make one with `python -m localcluster up`")
        return KindCluster(checkout)

    @staticmethod
    def is_running() -> bool:
        return NAME in run(["kind", "get", "clusters"]).split()

    @staticmethod
    def down(*, checkout: Path = paths.CHECKOUT) -> None:
        run(["kind", "delete", "cluster", "--name", NAME])
        unlink(checkout)

    @property
    def kubectl(self) -> Path:
        return program("kubectl")

    @property
    def helm(self) -> Path:
        return program("helm")

    @property
    def nodes(self) -> tuple[KindNode, ...]:
        names = sorted(run(["kind", "get", "nodes", "--name", NAME]).split())
        return tuple(KindNode(name, self.checkout) for name in names if name != CONTROL_PLANE)

    @contextmanager
    def api_outage(self) -> Iterator[None]:
        run(["docker", "pause", CONTROL_PLANE])
        try:
            yield
        finally:
            run(["docker", "unpause", CONTROL_PLANE])

    def killed(self, program: str) -> AbstractContextManager[None]:
        raise ClusterError(f"{program} cannot be killed on kind: {_EMBEDDED}")

    def processes(self, namespace: str, pod: str) -> list[pods.Process]:
        raise ClusterError(f"the processes of {namespace}/{pod} cannot be found on kind: {_EMBEDDED}")

    def load_image(self, name: str) -> None:
        run(["kind", "load", "docker-image", name, "--name", NAME])

    def volume_folder(self, namespace: str, claim: str) -> Path:
        raise ClusterError(f"the volume of {namespace}/{claim} cannot be reached on kind: {_EMBEDDED}")

    def backup(self, file: Path) -> None:
        raise ClusterError(f"etcd cannot be backed up to {file} on kind: {_EMBEDDED}")

    def restore(self, file: Path) -> None:
        raise ClusterError(f"etcd cannot be restored from {file} on kind: {_EMBEDDED}")

    def set_volume_read_only(self, namespace: str, claim: str, *, read_only: bool) -> None:
        raise ClusterError(
            f"the volume of {namespace}/{claim} cannot be turned read-only={read_only} on kind: {_EMBEDDED}"
        )


_EMBEDDED = "set UNDERSTUDY_CLUSTER=embedded to use the embedded cluster"


def program(name: str) -> Path:
    """Return a program of this machine."""
    found = shutil.which(name)
    if found is None:
        raise ClusterError(f"{name} is not on PATH, and kind does not bring it: install {name}")
    return Path(found)
