"""etcd, the API server, the controller manager, the scheduler and the volume provisioner, on a host of their own.

Nothing of it survives the end of the cluster, so etcd need not wait for the disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

from localcluster import network, paths, pki, processes
from localcluster.api import Api
from localcluster.shell import wait_until

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "provisioner")
START_TIMEOUT_S = 120  # 5 s on an idle machine with two cores


def start(state: paths.State) -> None:
    """Start the control plane and return when the API server is ready."""
    programs, keys = Path(state.bin), state.pki
    _start(
        state,
        "etcd",
        [programs / "etcd", "--data-dir", Path(state.home) / "etcd", "--unsafe-no-fsync", "--log-level=warn"]
        + ["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"]
        + ["--listen-peer-urls=http://127.0.0.1:2380"],
    )
    address = network.CONTROL_ADDRESS
    _start(
        state,
        "kube-apiserver",
        [programs / "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379"]
        + [f"--advertise-address={address}", f"--bind-address={address}", "--secure-port=6443"]
        + [f"--tls-cert-file={keys}/apiserver.crt", f"--tls-private-key-file={keys}/apiserver.key"]
        + [f"--client-ca-file={keys}/ca.crt", f"--service-cluster-ip-range={network.SERVICES}"]
        + ["--service-account-issuer=https://kubernetes.default.svc.cluster.local"]
        + [f"--service-account-key-file={keys}/service-accounts.pub"]
        + [f"--service-account-signing-key-file={keys}/service-accounts.key"]
        + [f"--kubelet-certificate-authority={keys}/ca.crt", "--kubelet-preferred-address-types=InternalIP"]
        + [f"--kubelet-client-certificate={keys}/admin.crt", f"--kubelet-client-key={keys}/admin.key"]
        + ["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true"],
    )
    # The others give up when they come before the roles that the API server makes at its first start.
    api = Api.from_kubeconfig(keys / "admin.kubeconfig")
    wait_until(
        api.is_ready, timeout_s=START_TIMEOUT_S, what=f"the API server at {pki.API} (log: {state.logs}/kube-apiserver.log)"
    )
    manager = keys / "controller-manager.kubeconfig"
    _start(
        state,
        "kube-controller-manager",
        [programs / "kube-controller-manager", f"--kubeconfig={manager}", "--bind-address=127.0.0.1"]
        + [f"--authentication-kubeconfig={manager}", f"--authorization-kubeconfig={manager}", "--leader-elect=false"]
        + [f"--cluster-cidr={network.PODS}", f"--root-ca-file={keys}/ca.crt", "--use-service-account-credentials=true"]
        + [f"--service-account-private-key-file={keys}/service-accounts.key"],
    )
    scheduler = keys / "scheduler.kubeconfig"
    _start(
        state,
        "kube-scheduler",
        [programs / "kube-scheduler", f"--kubeconfig={scheduler}", "--bind-address=127.0.0.1"]
        + [f"--authentication-kubeconfig={scheduler}", f"--authorization-kubeconfig={scheduler}"]
        + ["--leader-elect=false"],
    )
    _start(
        state,
        "provisioner",
        ["env", f"PYTHONPATH={paths.CHECKOUT}", sys.executable, "-m", "localcluster.provisioner", keys / "admin.kubeconfig"],
    )


def is_running() -> bool:
    return all(processes.is_running(name) for name in PROGRAMS)


def _start(state: paths.State, name: str, argv: list[str | Path]) -> None:
    enter: list[str | Path] = ["nsenter", f"--net={network.HANDLES / network.CONTROL}", "--"]
    processes.start(name, enter + argv, log=state.logs / f"{name}.log", cgroup="control")
