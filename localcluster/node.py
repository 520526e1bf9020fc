"""A node: a host of the network with one process that carries everything on it, so that faults are real and cheap.

A power cut closes the node's port on the switch (a dead machine says no goodbye on its connections) and sends SIGKILL
to that process: the kernel ends kubelet, container runtime and every container with it. What the node had written to
its disk stays. A partition closes the port only. Each fault has taken effect when its call returns.
"""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from localcluster import cgroups, network, paths, pause, processes
from localcluster.api import Api, ApiError
from localcluster.cluster import Node
from localcluster.shell import Argv, ClusterError, run, wait_until

INIT = Path(__file__).resolve().parent / "node-init.sh"
START_TIMEOUT_S = 20  # until the node's first process runs
READY_TIMEOUT_S = 120  # 8 s on an idle machine with two cores
MAX_PODS = 110


@dataclass(frozen=True)
class EmbeddedNode(Node):
    """A worker node. All times are this machine's: the nodes share its clock."""

    name: str
    index: int
    state: paths.State
    api: Api

    @property
    def address(self) -> str:
        return str(network.node_address(self.index))

    @property
    def store(self) -> Path:
        return self.state.store(self.name)

    @property
    def is_running(self) -> bool:
        """Whether the node has power."""
        return self.init is not None

    @property
    def is_connected(self) -> bool:
        """Whether the node is on the network."""
        return self._port.is_open()

    @property
    def init(self) -> processes.Identity | None:
        """The process that carries the node, as this machine sees it; None without power."""
        identity = processes.recorded(f"{self.name}.init")
        return identity if identity is not None and identity.is_alive() else None

    @cached_property
    def _port(self) -> network.SwitchPort:
        return network.SwitchPort(self.name)

    def power_cut(self) -> None:
        """Cut the power: nothing on the node runs or sends from now on."""
        init = self.init
        if init is None:
            raise ClusterError(f"{self.name} has no power that could be cut: start() it first")
        self._port.set(is_open=False)
        init.send(signal.SIGKILL)
        processes.forget(f"{self.name}.init")  # it takes the kernel a moment to bury it

    def partition(self) -> None:
        """Cut the node off from the control plane, the other nodes and this machine; what runs on it runs on."""
        self._port.set(is_open=False)

    def heal(self) -> None:
        """End a partition."""
        self._port.set(is_open=True)

    def start(self, *, wait_ready: bool = True) -> None:
        """Switch the node on: with a fresh network, with the disk as it was; does nothing to one that runs."""
        if self.is_running:
            return
        self._bury()
        network.make_node(self.name, self.index, len(self.state.nodes))
        cgroups.make(self.name)
        self._write_configuration()
        started_at = datetime.now(UTC)
        outer = processes.start(self.name, self._argv(), log=self.state.logs / f"{self.name}.log", cgroup=self.name)
        wait_until(lambda: bool(processes.children(outer.pid)), timeout_s=START_TIMEOUT_S, what=f"{self.name} to start")
        (init,) = processes.children(outer.pid)
        processes.record(f"{self.name}.init", init)
        if wait_ready:
            self.wait_ready(since=started_at)

    def wait_ready(self, *, since: datetime) -> None:
        """Return when a kubelet that started after `since` reports the node Ready."""
        wait_until(
            lambda: self._is_ready(since),
            timeout_s=READY_TIMEOUT_S,
            what=f"{self.name} to become Ready (logs: {self.state.logs}/{self.name}-*.log)",
        )

    def logs_on_disk(self, pod: str, container: str) -> list[str]:
        folder = self.store / "var/log/pods" / pod / container
        return [file.read_text(errors="replace") for file in sorted(folder.glob("*.log"))]

    def run(self, argv: Argv, *, stdin: str | None = None, timeout_s: float | None = 60) -> str:
        """Run a program on the node, in all its namespaces, and return what it printed."""
        return run([*self.enter(), *argv], stdin=stdin, timeout_s=timeout_s)

    def popen(self, argv: Argv, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program on the node; options as for subprocess.Popen."""
        return subprocess.Popen([*self.enter(), *map(str, argv)], **options)

    def enter(self) -> list[str]:
        """Return the words that, before a command, make it run on the node."""
        init = self.init
        if init is None:
            raise ClusterError(f"{self.name} has no power: start() it first")
        return ["nsenter", f"--target={init.pid}", "--mount", "--pid", "--uts", "--ipc", "--net", "--"]

    def _is_ready(self, since: datetime) -> bool:
        try:
            lease = self.api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{self.name}")
            node = self.api.get(f"/api/v1/nodes/{self.name}")
        except ApiError:
            return False
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
        if renewed <= since:
            return False
        (ready,) = (condition for condition in node["status"]["conditions"] if condition["type"] == "Ready")
        reported = datetime.fromisoformat(ready["lastHeartbeatTime"])  # whole seconds
        return ready["status"] == "True" and reported >= since.replace(microsecond=0)

    def _bury(self) -> None:
        """Wait for the end of what ran on the node before, and remove its cgroups."""
        outer = processes.recorded(self.name)
        pids = cgroups.members(self.name) | cgroups.members(f"daemons/{self.name}") | ({outer.pid} if outer else set())
        processes.end({identity for pid in pids if (identity := processes.Identity.of(pid))})
        cgroups.remove(self.name)

    def _argv(self) -> list[object]:
        environment = {
            "NODE": self.name,
            "STORE": self.store,
            "LOGS": self.state.logs,
            "PROGRAMS": self.state.bin,
            "VOLUMES": paths.VOLUMES,
            "SHARED_VOLUMES": paths.NODE_SHARED_VOLUMES,
            "PINNED_VOLUMES": paths.NODE_PINNED_VOLUMES,
            "FLAGS_KUBELET": f"--config={self.store}/kubelet.json --kubeconfig={self.state.pki}/{self.name}.kubeconfig "
            f"--hostname-override={self.name} --node-ip={self.address}",
            "FLAGS_PROXY": f"--kubeconfig={self.state.pki}/proxy.kubeconfig --hostname-override={self.name} "
            f"--cluster-cidr={network.PODS} --proxy-mode=iptables --conntrack-max-per-core=0 "
            "--conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0",
            "PAUSE_IMAGE": pause.IMAGE,
            "PAUSE_ARCHIVE": pause.archive(Path(self.state.home)),
        }
        return [
            *("nsenter", f"--net={network.HANDLES / network.namespace(self.name)}", "--"),
            *("unshare", "--mount", "--propagation=slave", "--pid", "--uts", "--ipc"),
            *("--fork", "--mount-proc", "--kill-child", "--"),
            *("env", *(f"{name}={value}" for name, value in environment.items()), "sh", INIT),
        ]

    def _write_configuration(self) -> None:
        self.store.mkdir(parents=True, exist_ok=True)
        networks = self.store / "etc/cni/net.d"
        networks.mkdir(parents=True, exist_ok=True)
        (networks / "10-pods.conflist").write_text(json.dumps(self._pod_network(), indent=1))
        resolver = self.store / "resolv.conf"
        resolver.write_text("")  # pods must not learn this machine's name servers: nothing could reach them
        (self.store / "kubelet.json").write_text(json.dumps(self._kubelet(resolver), indent=1))
        containerd = CONTAINERD.format(pause=pause.IMAGE, plugins=_plugins())
        (self.store / "containerd.toml").write_text(containerd)
        without_pods = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        (self.store / "containerd-purge.toml").write_text(without_pods + containerd)

    def _kubelet(self, resolver: Path) -> dict[str, Any]:
        keys = self.state.pki
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{keys}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroups.ROOT}/{self.name}",
            "clusterDNS": [str(network.DNS_SERVICE)],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "maxPods": MAX_PODS,
            "resolvConf": str(resolver),
            "tlsCertFile": f"{keys}/{self.name}.crt",
            "tlsPrivateKeyFile": f"{keys}/{self.name}.key",
            "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        }

    def _pod_network(self) -> dict[str, Any]:
        # One cable per pod and routes between them (ptp), no bridge: a service's answer then always passes the
        # node's rules, whether or not the kernel shows bridged packets to them.
        subnet = {"subnet": str(network.pod_range(self.index))}
        pods = {"type": "host-local", "ranges": [[subnet]], "routes": [{"dst": "0.0.0.0/0"}]}
        return {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {"type": "ptp", "ipMasq": True, "ipam": pods},
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }


def _plugins() -> Path:
    for folder in (Path("/usr/lib/cni"), Path("/opt/cni/bin")):
        if (folder / "ptp").exists():
            return folder
    raise ClusterError("the network plugins are missing: install containernetworking-plugins")


# restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE could start no container otherwise.
CONTAINERD = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
