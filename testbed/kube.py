"""The API server as this package needs it: decoded JSON, and streams of lines.

Built on the connection pool of the official client, which reads the kubeconfig. Bodies stay plain dictionaries: one
code for every kind. Errors are the official client's ApiException.
"""

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from understudy_contract.names import GROUP, PLURAL, VERSION

Object = dict[str, Any]

REQUEST_TIMEOUT_S: Final = 30
CONNECTIONS: Final = 64
"""Kept open: each followed log and each watch holds one."""

PODS: Final = "/api/v1/namespaces/{}/pods"
EVENTS: Final = "/api/v1/namespaces/{}/events"
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
BUDGETS: Final = "/apis/policy/v1/namespaces/{}/poddisruptionbudgets"
JOBS: Final = f"/apis/{GROUP}/{VERSION}/namespaces/{{}}/{PLURAL}"
MERGE_PATCH: Final = "application/merge-patch+json"


def wall() -> float:
    """Read the wall clock: seconds since the epoch."""
    return datetime.now(UTC).timestamp()


def parse_time(text: str) -> float:
    """Turn the API's RFC 3339 into seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


class Stream:
    """The lines of a response without an end. close() from another thread ends it."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.closed = False
        """By close(), as opposed to the other side."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for line in self._response:
                if self.closed:  # the shutdown takes the TLS layer off: what is read after it is cipher text
                    return
                yield line
        finally:
            self._response.close()

    def close(self) -> None:
        """Hang up."""
        self.closed = True
        # Not the response's close(), which waits for its reader; RuntimeError: the response has ended by itself.
        with suppress(RuntimeError, ValueError, OSError):
            self._response.shutdown()


class Kube:
    """An API server, with the rights of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings)
        settings.proxy = None  # the local cluster is not behind the machine's proxy
        settings.connection_pool_maxsize = CONNECTIONS
        self.host: Final[str] = settings.host
        self._client = client.ApiClient(settings)
        self._settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **params: str) -> Object:
        """Read an object or a list."""
        return self._json("GET", path, params=params)

    def find(self, path: str) -> Object | None:
        """Read an object; None when there is none."""
        try:
            return self.get(path)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection."""
        return self._json("POST", path, body)

    def delete(self, path: str, **options: Any) -> bool:
        """Delete an object; False when there is none. `options` are those of DeleteOptions."""
        try:
            self._json("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def patch(self, path: str, body: Object) -> Object:
        """Merge-patch an object."""
        return self._json("PATCH", path, body, content_type=MERGE_PATCH)

    def lines(self, path: str, params: Mapping[str, str], *, read_timeout_s: float | None = None) -> Stream:
        """Open a response that is read line by line."""
        timeout = (REQUEST_TIMEOUT_S, read_timeout_s)
        return Stream(self._request("GET", path, params=params, timeout=timeout).response)

    def text(self, path: str, **params: str) -> str:
        """Read something that is not JSON, such as a log."""
        return self._read(self._request("GET", path, params=params)).decode(errors="replace")

    def _json(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        found: Object = json.loads(self._read(self._request(method, path, body, params, content_type)))
        return found

    def _read(self, answer: Any) -> bytes:
        try:
            data: bytes = answer.response.read(decode_content=True)
        finally:
            answer.response.release_conn()
        return data

    def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: Any = REQUEST_TIMEOUT_S,
    ) -> Any:
        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        if token := self._settings.get_api_key_with_prefix("authorization"):
            headers["Authorization"] = token
        answer = self._client.rest_client.request(
            method, self.host + path + query, headers=headers, body=body, _request_timeout=timeout
        )
        if answer.status >= HTTPStatus.BAD_REQUEST:
            text = self._read(answer).decode(errors="replace")
            error = ApiException(status=answer.status, reason=f"{method} {path}: {_message(text)}")
            error.body = text
            raise error
        return answer


def _message(text: str) -> str:
    try:
        return str(json.loads(text).get("message", text))
    except ValueError:
        return text
