"""What a local cluster can do, whichever kind of it runs on this machine.

There are two: the embedded one (embedded.py), which needs root and no container engine, and kind (kind.py), which is
used where docker answers and kind is installed. The environment variable UNDERSTUDY_CLUSTER chooses one by name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from localcluster import engine, paths
from localcluster.pods import Process
from localcluster.shell import Argv, ClusterError

NODES = 2
CHOICE = "UNDERSTUDY_CLUSTER"


class Node(ABC):
    """A worker node and the faults that can be done to it; each has taken effect when its call returns."""

    name: str

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """Whether the node has power."""

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether the node is on the network."""

    @abstractmethod
    def power_cut(self) -> None:
        """Cut the power: nothing on the node runs or sends from now on. What it wrote to its disk stays."""

    @abstractmethod
    def start(self, *, wait_ready: bool = True) -> None:
        """Switch the node on, and return when it is Ready; does nothing to a node that runs."""

    @abstractmethod
    def partition(self) -> None:
        """Cut the node off from the control plane and the other nodes; what runs on it runs on."""

    @abstractmethod
    def heal(self) -> None:
        """End a partition."""

    @abstractmethod
    def logs_on_disk(self, pod: str, container: str) -> list[str]:
        """Return what a container printed, oldest file first, also of a node without power.

        `pod` is the name of the pod's folder, NAMESPACE_NAME_UID. Empty when the node has nothing of it.
        """

    @abstractmethod
    def run(self, argv: Argv, *, stdin: str | None = None, timeout_s: float | None = 60) -> str:
        """Run a program on the node and return what it printed."""


class Cluster(ABC):
    """A running cluster."""

    title: ClassVar[str]
    """What it is called in messages."""
    no_proxy: ClassVar[str]
    """What a proxy must not be asked for: where the API server is."""

    checkout: Path

    @staticmethod
    def up(*, nodes: int = NODES, checkout: Path = paths.CHECKOUT) -> Cluster:
        """Return the machine's cluster: the one that runs, repaired if need be, else a new one."""
        return _implementation().up(nodes=nodes, checkout=checkout)

    @staticmethod
    def connect(*, checkout: Path = paths.CHECKOUT) -> Cluster:
        """Return the running cluster; ClusterError says how to get one when there is none."""
        return _implementation().connect(checkout=checkout)

    @staticmethod
    def is_running() -> bool:
        """Tell whether a cluster runs on this machine."""
        return _implementation().is_running()

    @staticmethod
    def residue() -> list[str]:
        """Return what is there of a cluster that does not run; empty when nothing is, or nobody can tell."""
        return _implementation().residue()

    @staticmethod
    def choice() -> str:
        """Say in one sentence which cluster is used here, and why."""
        return f"The cluster is {_implementation().title}: {_chosen()[1]}."

    @staticmethod
    def down(*, checkout: Path = paths.CHECKOUT) -> None:
        """End the cluster, whatever state it is in, and leave nothing of it but caches."""
        _implementation().down(checkout=checkout)

    @staticmethod
    def others() -> list[str]:
        """Return the values of UNDERSTUDY_CLUSTER under which another cluster runs beside the chosen one."""
        found = []
        for name, implementation in _implementations().items():
            with contextlib.suppress(ClusterError):  # its engine does not answer: nothing of it runs
                if name != _chosen()[0] and implementation.is_running():
                    found.append(name)
        return found

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return paths.links(self.checkout) / "kubeconfig"

    @property
    @abstractmethod
    def kubectl(self) -> Path:
        """The program kubectl, of the cluster's version."""

    @property
    @abstractmethod
    def helm(self) -> Path:
        """The program helm."""

    @property
    @abstractmethod
    def nodes(self) -> Sequence[Node]:
        """The worker nodes."""

    def node(self, name: str) -> Node:
        """Return a node by its name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"there is no node {name}: there are {', '.join(node.name for node in self.nodes)}")

    @property
    @abstractmethod
    def has_shared_volumes(self) -> bool:
        """Whether every node can mount every volume of the default class, so that the loss of a node is survived."""

    @abstractmethod
    def api_outage(self) -> AbstractContextManager[None]:
        """Make the API server unreachable for the length of a block; no open connection is told of it."""

    @abstractmethod
    def backup(self, file: Path) -> None:
        """Write a backup of etcd while it runs."""

    @abstractmethod
    def restore(self, file: Path) -> None:
        """Go back to a backup of etcd under whatever runs; returns when the API server is ready."""

    @abstractmethod
    def killed(self, program: str) -> AbstractContextManager[None]:
        """SIGKILL etcd or kube-apiserver, and start it again after a block; returns when the API server is ready."""

    @abstractmethod
    def processes(self, namespace: str, pod: str) -> list[Process]:
        """Return the processes of a pod's containers, oldest first."""

    @abstractmethod
    def send_signal(self, process: Process, number: signal.Signals) -> None:
        """Send a signal to this very process; does nothing once it has ended."""

    @abstractmethod
    def signal_command(self, process: Process, number: signal.Signals) -> str:
        """Return what a person would type to send this signal, to be shown."""

    @abstractmethod
    def load_images(self, names: Sequence[str]) -> None:
        """Make every node have images that were built on this machine, as they are now."""

    @abstractmethod
    def volume_folder(self, namespace: str, claim: str) -> Path:
        """Return the folder on this machine of a bound claim's volume."""

    @abstractmethod
    def set_volume_read_only(self, namespace: str, claim: str, *, read_only: bool) -> None:
        """Turn the file system of a claim with the annotation localcluster/tmpfs-size read-only, or writable again."""


def _chosen() -> tuple[str, str]:
    """Return the name of the implementation to use, and the reason."""
    if chosen := os.environ.get(CHOICE):
        return chosen, f"{CHOICE} says so"
    if shutil.which("kind") is None:
        return "embedded", "kind is not installed"
    if not engine.works("docker"):
        return "embedded", "kind is installed, but docker does not answer"
    return "kind", "docker runs and kind is installed"


def _implementations() -> dict[str, type[Cluster]]:
    from localcluster.embedded import EmbeddedCluster
    from localcluster.kind import KindCluster

    return {"embedded": EmbeddedCluster, "kind": KindCluster}


def _implementation() -> type[Cluster]:
    choices, (chosen, _) = _implementations(), _chosen()
    if chosen not in choices:
        raise ClusterError(f"{CHOICE}={chosen}: choose one of {', '.join(choices)}")
    return choices[chosen]


def link(checkout: Path, kubeconfig: str, programs: Sequence[Path]) -> None:
    """Write the kubeconfig into a checkout, and links to the programs."""
    folder = paths.links(checkout)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for program in programs:
        here = folder / "bin" / program.name
        if not here.is_symlink() or here.readlink() != program:
            here.unlink(missing_ok=True)
            here.symlink_to(program)
    file = folder / "kubeconfig"
    if not file.exists() or file.read_text() != kubeconfig:
        temporary = folder / f"kubeconfig.{os.getpid()}"
        temporary.touch(mode=0o600)
        temporary.write_text(kubeconfig)
        temporary.replace(file)


def unlink(checkout: Path) -> None:
    """Take the kubeconfig of an ended cluster out of a checkout."""
    (paths.links(checkout) / "kubeconfig").unlink(missing_ok=True)
