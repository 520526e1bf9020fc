"""Who we are to the API server: a ServiceAccount inside a cluster, or a kubeconfig outside.

A token file is read again when it changes: looked at once a minute at most, and at once after a 401, since projected
tokens rotate about hourly. The CA file is read once: a cluster that rotates its CA restarts its pods. Trusts the
monotonic clock.
"""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

_ACCOUNT_DIR: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_CHECK_S: Final = 60.0
"""A projected token is replaced when 20% of its life is left: minutes, at the least."""


class CredentialsError(Exception):
    """No usable credentials; the message says which file or variable to correct."""


class Credentials:
    """Address, trust and identity for one API server."""

    def __init__(
        self,
        server: str,
        context: ssl.SSLContext | None,
        *,
        token: str = "",
        token_file: Path | None = None,
        namespace: str = "default",
        server_name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server: Final = server.rstrip("/")
        self.ssl_context: Final = context
        self.namespace: Final = namespace
        self.server_name: Final = server_name
        self._token = token
        self._token_file = token_file
        self._clock = clock
        self._stamp: tuple[int, int] = (0, 0)
        self._check_at = -float("inf")

    @classmethod
    def in_cluster(cls, directory: Path = _ACCOUNT_DIR) -> Self:
        """Use the pod's ServiceAccount."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise CredentialsError("KUBERNETES_SERVICE_HOST is not set: this process does not run in a pod")
        token_file, ca_file = directory / "token", directory / "ca.crt"
        for file in (token_file, ca_file):
            if not file.is_file():
                raise CredentialsError(f"{file} is missing: set automountServiceAccountToken to true for this pod")
        namespace_file = directory / "namespace"
        return cls(
            f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            trust(ca_file.read_text()),
            token_file=token_file,
            namespace=namespace_file.read_text().strip() if namespace_file.is_file() else "default",
        )

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Use the current context of a kubeconfig: client certificate, token or token file. Needs PyYAML."""
        import yaml  # only people's machines need it

        try:
            config = yaml.safe_load(path.read_text())
            context = _named(config, "contexts", config["current-context"], path)["context"]
            cluster = _named(config, "clusters", context["cluster"], path)["cluster"]
            user = _named(config, "users", context["user"], path)["user"] if context.get("user") else {}
            server = str(cluster["server"])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise CredentialsError(f"{path} is no usable kubeconfig: {type(error).__name__}: {error}") from error
        if "exec" in user or "auth-provider" in user:
            raise CredentialsError(
                f"{path}: exec plugins and auth providers are not supported; use a token or a certificate"
            )
        return cls(
            server,
            _kubeconfig_trust(cluster, user, path.parent) if server.startswith("https") else None,
            token=str(user.get("token", "")),
            token_file=path.parent / user["tokenFile"] if "tokenFile" in user else None,
            namespace=str(context.get("namespace", "default")),
            server_name=cluster.get("tls-server-name"),
        )

    @classmethod
    def default(cls) -> Self:
        """Use the pod's ServiceAccount, else $KUBECONFIG, else ~/.kube/config."""
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return cls.in_cluster()
        configured = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
        return cls.from_kubeconfig(next((path for path in configured if path.is_file()), Path.home() / ".kube/config"))

    def token(self) -> str:
        """Give the bearer token; empty when the client certificate is the identity."""
        if self._token_file is not None and self._clock() >= self._check_at:
            self._reread()
        return self._token

    def refresh(self) -> bool:
        """Read the token file now, after a 401; say whether the token changed."""
        before = self._token
        if self._token_file is not None:
            self._reread()
        return self._token != before

    def _reread(self) -> None:
        assert self._token_file is not None
        self._check_at = self._clock() + _TOKEN_CHECK_S
        try:
            stat = self._token_file.stat()  # follows the symlinks that the kubelet swaps
            if (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
                self._token, self._stamp = self._token_file.read_text().strip(), stamp
        except OSError as error:
            if not self._token:
                raise CredentialsError(f"{self._token_file} cannot be read: {error}") from error


def trust(ca_pem: str | None) -> ssl.SSLContext:
    """Trust this CA (None: the system's).

    Python 3.13 refuses a CA without the key usage extension; real clusters have such CAs, so that one check is off.
    """
    context = ssl.create_default_context(cadata=ca_pem)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _named(config: dict[str, Any], section: str, name: str, path: Path) -> dict[str, Any]:
    for entry in config.get(section) or ():
        if entry.get("name") == name:
            return dict(entry)
    raise CredentialsError(f"{path} has no entry {name!r} in {section}")


def _material(source: dict[str, Any], key: str, folder: Path) -> bytes | None:
    if f"{key}-data" in source:
        return base64.b64decode(source[f"{key}-data"])
    return (folder / source[key]).read_bytes() if key in source else None


def _kubeconfig_trust(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority", folder)
    context = trust(authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _material(user, "client-certificate", folder), _material(user, "client-key", folder)
    if certificate and key:
        with tempfile.NamedTemporaryFile() as chain:  # the ssl module takes a key from a file only
            chain.write(certificate + b"\n" + key)
            chain.flush()
            context.load_cert_chain(chain.name)
    return context
