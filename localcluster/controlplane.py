"""etcd, the API server, the controller manager, the scheduler and the volume provisioner, on a host of their own.

Nothing of it survives the end of the cluster, so etcd need not wait for the disk.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from localcluster import network, paths, pki, processes
from localcluster.api import Api
from localcluster.shell import Argv, ClusterError, wait_until

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "provisioner")
STORE = PROGRAMS[:2]  # what all the rest finds again when it comes back
ETCD = "http://127.0.0.1:2379"
START_TIMEOUT_S = 120  # 5 s on an idle machine with two cores


def start(state: paths.State) -> None:
    """Start the control plane and return when the API server is ready."""
    keys = state.pki
    for name in STORE:
        _start(state, name, _flags(state, name))
    # The others give up when they come before the roles that the API server makes at its first start.
    api = Api.from_kubeconfig(keys / "admin.kubeconfig")
    log = state.logs / "kube-apiserver.log"
    wait_until(api.is_ready, timeout_s=START_TIMEOUT_S, what=f"the API server at {pki.API} (log: {log})")
    _start(
        state,
        "kube-controller-manager",
        {
            **_client(keys / "controller-manager.kubeconfig"),
            "cluster-cidr": network.PODS,
            "root-ca-file": keys / "ca.crt",
            "service-account-private-key-file": keys / "service-accounts.key",
            "use-service-account-credentials": "true",
        },
    )
    _start(state, "kube-scheduler", _client(keys / "scheduler.kubeconfig"))
    provisioner = [sys.executable, "-m", "localcluster.provisioner", keys / "admin.kubeconfig"]
    _launch(
        state,
        "provisioner",
        ["env", f"PYTHONPATH={paths.CHECKOUT}", f"UNDERSTUDY_INSTANCE={paths.INSTANCE}", *provisioner],
    )


def etcd_folder(state: paths.State) -> Path:
    """Return the folder in which etcd keeps its data."""
    return Path(state.home) / "etcd"


def kill(name: str) -> None:
    """SIGKILL etcd or the API server; its connections are closed by the kernel."""
    identity = processes.recorded(name)
    if name not in STORE or identity is None:
        raise ClusterError(f"{name} cannot be killed: choose one of {', '.join(STORE)}, which a cluster runs")
    processes.end([identity])


def revive(state: paths.State, name: str) -> None:
    """Start again what was killed; what it had stored is there. Does not wait until it is ready."""
    if not processes.is_running(name):
        _start(state, name, _flags(state, name))


def _flags(state: paths.State, name: str) -> Mapping[str, object]:
    """Return the flags of etcd or the API server."""
    keys = state.pki
    if name == "etcd":
        return {
            "data-dir": etcd_folder(state),
            "unsafe-no-fsync": "true",
            "listen-client-urls": ETCD,
            "advertise-client-urls": ETCD,
            "listen-peer-urls": "http://127.0.0.1:2380",
            "log-level": "warn",
        }
    return {
        "etcd-servers": ETCD,
        "advertise-address": network.CONTROL_ADDRESS,
        "bind-address": network.CONTROL_ADDRESS,
        "secure-port": pki.API_PORT,
        "tls-cert-file": keys / "apiserver.crt",
        "tls-private-key-file": keys / "apiserver.key",
        "client-ca-file": keys / "ca.crt",
        "service-cluster-ip-range": network.SERVICES,
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": keys / "service-accounts.pub",
        "service-account-signing-key-file": keys / "service-accounts.key",
        "kubelet-certificate-authority": keys / "ca.crt",
        "kubelet-client-certificate": keys / "admin.crt",
        "kubelet-client-key": keys / "admin.key",
        "kubelet-preferred-address-types": "InternalIP",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
    }


def is_running() -> bool:
    """Tell whether all of it runs."""
    return all(processes.is_running(name) for name in PROGRAMS)


def _client(kubeconfig: Path) -> dict[str, object]:
    """Return the flags of a client of the API server that is the only one of its kind."""
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
    }


def _start(state: paths.State, name: str, flags: Mapping[str, object]) -> None:
    _launch(state, name, [Path(state.bin) / name, *(f"--{flag}={value}" for flag, value in flags.items())])


def _launch(state: paths.State, name: str, argv: Argv) -> None:
    enter = ["nsenter", f"--net={network.HANDLES / network.CONTROL}", "--"]
    processes.start(name, [*enter, *argv], log=state.logs / f"{name}.log", cgroup="control")
