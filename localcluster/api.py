"""Just enough of a client for the cluster's own needs, with the standard library alone.

Every request is a new connection; a failed one raises ApiError with what the server said. The tests of the operator
have a better client: this one must work before anything is installed.
"""

from __future__ import annotations

import base64
import http
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster.shell import ClusterError

TIMEOUT_S = 10
WATCH_S = 240


class ApiError(ClusterError):
    """The API server refused, or could not be reached (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Api:
    """A client with the rights of the kubeconfig that it was made from."""

    host: str
    port: int
    context: ssl.SSLContext = field(repr=False)

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Api:
        """Read a kubeconfig as this package writes it (JSON, one user, certificates inside)."""
        config = json.loads(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        server = urllib.parse.urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:  # the ssl module reads keys from files only
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        return cls(server.hostname or "", server.port or 443, context)

    def request(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Return the decoded answer of one request."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=TIMEOUT_S)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": content_type})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, self._silence(f"{method} {path}", error)) from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(response.status, f"{method} {path}: {response.status}: {_message(text)}")
        return _decode(text)

    def get(self, path: str) -> dict[str, Any]:
        return self.request("GET", path)

    def exists(self, path: str) -> bool:
        try:
            self.get(path)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a collection, first one ADDED for each object that is there; ends after WATCH_S."""
        connection = http.client.HTTPSConnection(
            self.host, self.port, context=self.context, timeout=WATCH_S + TIMEOUT_S
        )
        separator = "&" if "?" in path else "?"
        try:
            connection.request("GET", f"{path}{separator}watch=true&timeoutSeconds={WATCH_S}")
            response = connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                raise ApiError(response.status, f"watch {path}: {response.status}: {_message(response.read())}")
            for line in response:
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, self._silence(f"watch {path}", error)) from error
        finally:
            connection.close()

    def is_ready(self) -> bool:
        try:
            self.request("GET", "/readyz")
        except ApiError:
            return False
        return True

    def _silence(self, what: str, error: Exception) -> str:
        return f"{what}: the API server at {self.host}:{self.port} is silent: {error}"

    def apply(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply."""
        content_type = "application/apply-patch+yaml"
        return self.request("PATCH", f"{path}?fieldManager=localcluster&force=true", body, content_type=content_type)


def _decode(text: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(text)
    except ValueError:  # /readyz answers with a plain word
        return {"text": text.decode(errors="replace")}
    return decoded if isinstance(decoded, dict) else {"value": decoded}


def _message(text: bytes) -> str:
    return str(_decode(text).get("message") or text.decode(errors="replace"))
