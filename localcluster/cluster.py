"""What a local cluster can do, of whichever kind it is.

There are two kinds: the embedded one (embedded.py), which needs root and no container engine, and that of kind
(kind.py). choice.py says which one this machine uses.
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

from localcluster import paths
from localcluster.pods import Process
from localcluster.shell import Argv, ClusterError

NODES = 2
CHOICE = "UNDERSTUDY_CLUSTER"
"""The environment variable that chooses a kind by its name."""


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

    @classmethod
    @abstractmethod
    def up(cls, *, nodes: int = NODES, checkout: Path = paths.CHECKOUT) -> Cluster:
        """Return the machine's cluster of this kind: the one that runs, repaired if need be, else a new one."""

    @classmethod
    @abstractmethod
    def connect(cls, *, checkout: Path = paths.CHECKOUT) -> Cluster:
        """Return the running cluster; ClusterError says how to get one when there is none."""

    @classmethod
    @abstractmethod
    def is_running(cls) -> bool:
        """Tell whether a cluster of this kind runs on this machine."""

    @classmethod
    @abstractmethod
    def residue(cls) -> list[str]:
        """Return what is there of a cluster that does not run; empty when nothing is, or nobody can tell."""

    @classmethod
    @abstractmethod
    def down(cls, *, checkout: Path = paths.CHECKOUT) -> None:
        """End the cluster, whatever state it is in, and leave nothing of it but caches."""

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
