"""Keys, certificates and kubeconfigs of one cluster, made by openssl.

The keys are as short-lived as the cluster and protect nothing else. The authority carries basicConstraints and
keyUsage: Python from 3.13 on refuses one without.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from localcluster import network
from localcluster.shell import run

DAYS = 3650
API_PORT = 6443
API = f"https://{network.CONTROL_ADDRESS}:{API_PORT}"


def make(folder: Path, nodes: tuple[str, ...]) -> None:
    """Make everything that a cluster with these nodes needs."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _key(folder / "ca.key")
    request = ["openssl", "req", "-x509", "-new", "-key", folder / "ca.key", "-out", folder / "ca.crt"]
    usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
    run([*request, "-days", str(DAYS), "-subj", "/CN=understudy-cluster", "-addext", usage])
    api_names = ["DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:localhost"]
    api_names += [f"IP:{address}" for address in (network.API_SERVICE, network.CONTROL_ADDRESS, "127.0.0.1")]
    _certificate(folder, "apiserver", "/CN=kube-apiserver", api_names)
    _certificate(folder, "admin", "/O=system:masters/CN=admin")
    _certificate(folder, "controller-manager", "/CN=system:kube-controller-manager")
    _certificate(folder, "scheduler", "/CN=system:kube-scheduler")
    _certificate(folder, "proxy", "/CN=system:kube-proxy")
    for index, node in enumerate(nodes):
        names = [f"DNS:{node}", f"IP:{network.node_address(index)}"]
        _certificate(folder, node, f"/O=system:nodes/CN=system:node:{node}", names)
    run(["openssl", "genrsa", "-out", folder / "service-accounts.key", "2048"])
    run(["openssl", "rsa", "-in", folder / "service-accounts.key", "-pubout", "-out", folder / "service-accounts.pub"])
    for user in ("admin", "controller-manager", "scheduler", "proxy", *nodes):
        (folder / f"{user}.kubeconfig").write_text(kubeconfig(folder, user))


def kubeconfig(folder: Path, user: str) -> str:
    """Return a kubeconfig (YAML is a superset of JSON) that carries its certificates in itself."""

    def data(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    name = "understudy"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "clusters": [{"name": name, "cluster": {"server": API, "certificate-authority-data": data("ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": data(f"{user}.crt"),
                    "client-key-data": data(f"{user}.key"),
                },
            }
        ],
    }
    return json.dumps(config, indent=1) + "\n"


def _key(path: Path) -> None:
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])


def _certificate(folder: Path, name: str, subject: str, names: list[str] | None = None) -> None:
    """Make a key and a certificate that serves as a client's and, with names, as a server's."""
    _key(folder / f"{name}.key")
    extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
    extensions += ["authorityKeyIdentifier=keyid"]
    extensions += ["extendedKeyUsage=clientAuth" + (",serverAuth" if names else "")]
    extensions += [f"subjectAltName={','.join(names)}"] if names else []
    request = run(["openssl", "req", "-new", "-key", folder / f"{name}.key", "-subj", subject])
    (folder / f"{name}.ext").write_text("\n".join(extensions) + "\n")
    sign = ["openssl", "x509", "-req", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-days", str(DAYS)]
    run([*sign, "-extfile", folder / f"{name}.ext", "-out", folder / f"{name}.crt"], stdin=request)
