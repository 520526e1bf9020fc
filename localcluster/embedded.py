"""The embedded cluster: brought up, found again, repaired, ended.

`up` is idempotent: a living cluster is used as it is (nodes without power are started, partitions healed); one whose
processes were ended from outside is removed and made anew, with nothing in it. There is one per machine, whichever
checkout asks. Nothing in it outlives it but images.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from localcluster import (
    build,
    cgroups,
    controlplane,
    etcd,
    load,
    network,
    paths,
    pki,
    pods,
    processes,
    requirements,
    storage,
    teardown,
)
from localcluster.api import Api, ApiError
from localcluster.cluster import NODES, Cluster
from localcluster.links import link, unlink
from localcluster.node import EmbeddedNode
from localcluster.shell import ClusterError, require_root, run, say, step, wait_until

API_TIMEOUT_S = 60
READY_TIMEOUT_S = 120


@dataclass(frozen=True)
class EmbeddedCluster(Cluster):
    """A running cluster; `checkout` is where its kubeconfig and programs are linked."""

    title: ClassVar[str] = "the embedded one"
    no_proxy: ClassVar[str] = str(network.HOSTS.supernet(new_prefix=16))

    state: paths.State
    checkout: Path

    @classmethod
    def up(cls, *, nodes: int = NODES, checkout: Path = paths.CHECKOUT) -> EmbeddedCluster:
        """Return the cluster, made or repaired as need be."""
        require_root("the local cluster")
        requirements.install(requirements.CLUSTER)
        programs = build.programs()
        with paths.lock():
            state = paths.State.load()
            if state is None or not _is_usable(state, programs, nodes):
                if teardown.residue():
                    say("Removing what is left of an earlier cluster")
                    teardown.remove()
                state = _make(programs, nodes)
            cluster = cls(state, checkout)
            cluster._repair()
            cluster._link()
        return cluster

    @classmethod
    def connect(cls, *, checkout: Path = paths.CHECKOUT) -> EmbeddedCluster:
        """Return the running cluster; ClusterError says how to get one when there is none."""
        state = paths.State.load()
        if state is None or not cls.is_running():
            raise ClusterError("no cluster runs on this machine: make one with `python -m localcluster up`")
        cluster = cls(state, checkout)
        cluster._link()
        return cluster

    @classmethod
    def is_running(cls) -> bool:
        """Tell whether a cluster's control plane runs on this machine."""
        return paths.State.load() is not None and controlplane.is_running()

    @classmethod
    def down(cls, *, checkout: Path = paths.CHECKOUT) -> None:
        """Leave nothing: no process, mount, namespace, route, link or cgroup, whatever state it was in."""
        require_root("the local cluster")
        with paths.lock():
            teardown.remove()
        unlink(checkout)

    @staticmethod
    def residue() -> list[str]:
        return teardown.residue() if os.geteuid() == 0 else []

    @property
    def has_shared_volumes(self) -> bool:
        return True

    @property
    def kubectl(self) -> Path:
        return Path(self.state.bin) / "kubectl"

    @property
    def helm(self) -> Path:
        return Path(self.state.bin) / "helm"

    @property
    def logs(self) -> Path:
        """The folder of the logs of every component."""
        return self.state.logs

    @cached_property
    def api(self) -> Api:
        return Api.from_kubeconfig(self.state.pki / "admin.kubeconfig")

    @cached_property
    def nodes(self) -> tuple[EmbeddedNode, ...]:
        return tuple(EmbeddedNode(name, index, self.state, self.api) for index, name in enumerate(self.state.nodes))

    @contextmanager
    def api_outage(self) -> Iterator[None]:
        """Make the API server unreachable from nodes, pods and this machine; no connection is told of it."""
        port = network.SwitchPort("control")
        port.set(is_open=False)
        try:
            yield
        finally:
            port.set(is_open=True)
            wait_until(self.api.is_ready, timeout_s=API_TIMEOUT_S, what="the API server after its outage")

    def backup(self, file: Path) -> None:
        etcd.save(self.state, file)

    def restore(self, file: Path) -> None:
        etcd.restore(self.state, file)

    @contextmanager
    def killed(self, program: str) -> Iterator[None]:
        """SIGKILL etcd or kube-apiserver, and start it again after a block; returns when the API server is ready."""
        controlplane.kill(program)
        try:
            yield
        finally:
            controlplane.revive(self.state, program)
            wait_until(self.api.is_ready, timeout_s=API_TIMEOUT_S, what=f"the API server after the end of {program}")

    def processes(self, namespace: str, pod: str) -> list[pods.Process]:
        """Return the processes of a pod's containers, oldest first, with this machine's pids."""
        found = self.api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        return pods.of(found["metadata"]["uid"], found["spec"].get("nodeName", ""))

    def send_signal(self, process: pods.Process, number: signal.Signals) -> None:
        processes.Identity(process.pid, process.started).send(number)

    def signal_command(self, process: pods.Process, number: signal.Signals) -> str:
        return f"kill -{number.name.removeprefix('SIG')} {process.pid}"

    def volume_folder(self, namespace: str, claim: str) -> Path:
        """Return the folder on this machine of a bound claim's volume."""
        return storage.folder_of(self._volume(namespace, claim))

    def set_volume_read_only(self, namespace: str, claim: str, *, read_only: bool) -> None:
        """Turn the file system of a claim with the annotation localcluster/tmpfs-size read-only, or writable again."""
        folder = self.volume_folder(namespace, claim)
        if not folder.is_mount():
            raise ClusterError(
                f"the volume of {namespace}/{claim} is a plain folder: make the claim with the annotation "
                f"{storage.TMPFS_SIZE} to give it a file system of its own"
            )
        run(["mount", "-o", f"remount,{'ro' if read_only else 'rw'}", folder])
        # That marked this machine's own mount as well, and a node that starts meanwhile would keep a copy of the mark.
        run(["mount", "-o", "remount,bind,rw", folder])

    def load_images(self, names: Sequence[str]) -> None:
        """Make every node have images that `localcluster.images` built, as they are now."""
        for name in names:
            load.load(self.nodes, name)

    def _link(self) -> None:
        """Write the kubeconfig: the checkout may have that of a kind cluster, which may run beside this one."""
        link(self.checkout, pki.kubeconfig(self.state.pki, "admin"), (self.kubectl, self.helm))

    def _volume(self, namespace: str, claim: str) -> dict[str, Any]:
        found = self.api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
        name = found["spec"].get("volumeName")
        if not name:
            raise ClusterError(f"the claim {namespace}/{claim} is not bound to a volume yet")
        return self.api.get(f"{storage.VOLUMES}/{name}")

    def _repair(self) -> None:
        """Give every node power and a network, and every node's readiness time to come."""
        for node in self.nodes:
            if node.is_running and not node.is_connected:
                say(f"  healing the partition of {node.name}")
                node.heal()
        asleep = [node for node in self.nodes if not node.is_running]
        if asleep:
            with step(f"{', '.join(node.name for node in asleep)} started"):
                for node in asleep:
                    node.start(wait_ready=False)
        with step("all nodes are Ready"):
            wait_until(lambda: all(map(self._is_ready, self.nodes)), timeout_s=READY_TIMEOUT_S, what="Ready nodes")
            # Made by the controller manager; without it no pod is accepted.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            wait_until(lambda: self.api.exists(account), timeout_s=READY_TIMEOUT_S, what="the default ServiceAccount")

    def _is_ready(self, node: EmbeddedNode) -> bool:
        try:
            conditions = self.api.get(f"/api/v1/nodes/{node.name}")["status"]["conditions"]
        except ApiError:
            return False
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _is_usable(state: paths.State, programs: Path, nodes: int) -> bool:
    """Tell whether a recorded cluster can go on; its control plane must live, its nodes can be started."""
    if Path(state.bin) != programs or len(state.nodes) != nodes:
        say("The cluster that runs is another build or size: it is replaced")
        return False
    if not controlplane.is_running():
        return False
    network.SwitchPort("control").set(is_open=True)  # an outage that nobody ended
    return Api.from_kubeconfig(state.pki / "admin.kubeconfig").is_ready()


def _make(programs: Path, nodes: int) -> paths.State:
    """Make a cluster from nothing, up to its control plane."""
    home = paths.cache() / f"cluster{paths.INSTANCE or ''}"
    names = tuple(f"node-{index + 1}" for index in range(nodes))
    state = paths.State(
        layout=paths.LAYOUT,
        boot_id=paths.boot_id(),
        generation=secrets.token_hex(8),
        binary=programs.name,
        home=str(home),
        bin=str(programs),
        nodes=names,
        sysctls=teardown.sysctls(),
    )
    teardown.clear(home)
    state.save()
    with step("keys and networks made"):
        pki.make(state.pki, names)
        _make_volumes(home, names)
        network.make_switch()
        network.make_control_plane(nodes)
        for name in names:
            cgroups.make(name)
    with step("the API server is ready"):
        controlplane.start(state)
        api = Api.from_kubeconfig(state.pki / "admin.kubeconfig")
        storage.make_classes(api)
    return state


def _make_volumes(home: Path, nodes: tuple[str, ...]) -> None:
    """Make the folder of the volumes a mount of its own, so that mounts below it reach the nodes."""
    folder = home / "volumes"
    for name in ("shared", *nodes):
        (folder / name).mkdir(parents=True, exist_ok=True)
    paths.VOLUMES.mkdir(parents=True, exist_ok=True)
    run(["mount", "--bind", folder, paths.VOLUMES])
    run(["mount", "--make-shared", paths.VOLUMES])
