"""A real kube-apiserver and etcd of the test session's own, and nothing else: no controllers, no kubelet.

So no garbage collector and no operator of the shared cluster touches what a test makes, and a test can say what a
kubelet or a worker would say. They listen on the loopback address alone and end with the session.
"""

import json
import secrets
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy_contract.names import Label
from understudy_kube.credentials import Credentials, trust

from localcluster import build

READY_WITHIN_S = 120
SYSTEM, ACCOUNT = "understudy-system", "understudy-operator"
"""Namespace and ServiceAccount of the operator, as manifests/install.yaml makes them."""
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server."""

    server: str
    ca: str
    token: str
    """An administrator's."""
    folder: Path
    kubectl: Path

    def credentials(self, token: str | None = None) -> Credentials:
        """Credentials of a token's owner; the administrator's by default."""
        return Credentials(self.server, trust(self.ca), token=token or self.token)

    def kubeconfig(self, name: str, token: str | None = None, namespace: str = "default") -> Path:
        """Write a kubeconfig for a token's owner."""
        path = self.folder / f"{name}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
            "clusters": [
                {"name": name, "cluster": {"server": self.server, "certificate-authority": str(self.folder / "ca.crt")}}
            ],
            "users": [{"name": name, "user": {"token": token or self.token}}],
        }
        path.write_text(json.dumps(config))
        return path

    def run_kubectl(self, *argv: str | Path) -> str:
        """Run kubectl as the administrator and return what it printed."""
        command = [self.kubectl, "--kubeconfig", self.kubeconfig("admin"), *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(map(str, argv))}: {done.stderr}"
        return done.stdout

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Send one request as the administrator, in a fixture's synchronous code."""
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})},
        )
        with urllib.request.urlopen(request, context=trust(self.ca), timeout=10) as response:
            answer: dict[str, Any] = json.loads(response.read())
        return answer

    def token_of(self, namespace: str, account: str, pod: str = "") -> str:
        """Ask for a token of a ServiceAccount; bound to a pod, it is the one that the kubelet mounts there."""
        spec: dict[str, Any] = {"expirationSeconds": 7200}
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.request("POST", path, body)["status"]["token"])


def await_policy(plane: ControlPlane) -> None:
    """Ask until the policy of workers' Leases is in force: the API server takes it up within seconds."""
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    meta = {"name": "probe", "labels": {Label.JOB_UID: "none"}}
    lease = plane.request("POST", leases, {"metadata": meta, "spec": {"leaseTransitions": 1}})
    changed = lease | {"spec": {"leaseTransitions": 2}}
    anyone = {"Impersonate-User": "system:serviceaccount:default:anyone", "Impersonate-Group": "system:masters"}
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        try:
            plane.request("PUT", f"{leases}/probe?dryRun=All", changed, anyone)
        except urllib.error.HTTPError as refused:
            assert refused.code == 403, refused.read().decode()
            plane.request("DELETE", f"{leases}/probe")
            return
    raise AssertionError(f"the policy is not in force after {READY_WITHIN_S} s: is it in manifests/install.yaml?")


@contextmanager
def running(folder: Path) -> Iterator[ControlPlane]:
    """Start etcd and the API server; end both."""
    programs = build.programs()
    client, peer, secure = _free_ports(3)
    key, public = folder / "accounts.key", folder / "accounts.pub"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    etcd = [programs / "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level=error"]
    etcd += [f"--{flag}-client-urls=http://127.0.0.1:{client}" for flag in ("listen", "advertise")]
    etcd += [f"--listen-peer-urls=http://127.0.0.1:{peer}"]
    server = [programs / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}", f"--secure-port={secure}"]
    server += ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]
    server += [f"--cert-dir={folder / 'certificates'}", f"--token-auth-file={folder / 'tokens.csv'}"]
    server += [f"--service-account-issuer={ISSUER}", f"--service-account-key-file={public}"]
    server += [f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.97.0.0/16"]
    server += ["--authorization-mode=RBAC"]
    with _process(etcd, folder / "etcd.log"), _process(server, folder / "kube-apiserver.log") as api:
        url = f"https://127.0.0.1:{secure}"
        _await_ready(url, token, api, folder / "kube-apiserver.log")
        ca = (folder / "certificates" / "apiserver.crt").read_text()  # made by the server, with its authority
        (folder / "ca.crt").write_text(ca)
        yield ControlPlane(url, ca, token, folder, programs / "kubectl")


@contextmanager
def _process(argv: list[Any], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(url: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until the server says that it is ready: there is nothing to watch before."""
    unverified = ssl._create_unverified_context()  # the certificate is being made
    deadline = time.monotonic() + READY_WITHIN_S
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {token}"})
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, context=unverified, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the API server is not ready: {log.read_text()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
