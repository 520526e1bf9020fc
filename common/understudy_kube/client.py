"""A thin client of the API server: bytes in, bytes out; decoding is the caller's.

Guarantees that every failure is an ApiError, that no request outlives its time-out and no watch its silence limit, and
that a request is sent once more when the kept-alive connection under it had died or its token had rotated; and that a
page of a list is no larger than PAGE_MAX_BYTES or a single object, however large the objects are. So a request
may be carried out twice: every write of ours is a compare-and-set, has a name of its own, or says the same thing twice.
Does not decode, cache or wait out errors. Connections are kept warm; concurrent requests use connections of their own.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

import aiohttp
import msgspec

from understudy_kube import shallow
from understudy_kube.credentials import Credentials, CredentialsError
from understudy_kube.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    error_of,
    watch_error_of,
)

__all__ = [
    "Api",
    "ApiError",
    "Conflict",
    "Credentials",
    "CredentialsError",
    "Forbidden",
    "Gone",
    "Invalid",
    "NotFound",
    "ServerError",
    "TooManyRequests",
    "Unauthorized",
    "Unreachable",
    "watch_error_of",
]

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"

_KEEP_ALIVE_S: Final = 80
"""Below the 90 s after which the API server closes an idle connection."""
_CONNECT_S: Final = 5.0
_CREATE_S: Final = 15.0
"""What is made passes admission: the API server itself gives an admission webhook 10 s, unless told otherwise, and only
then says that it cannot be called."""

PAGE_MAX_BYTES: Final = 4 * 1024 * 1024
"""A page of 500 ordinary pods has about 3 MB; 500 objects as large as etcd takes them would have 750 MB."""

_Params = Mapping[str, str]


class _Page(msgspec.Struct):
    class _Meta(msgspec.Struct):
        continue_: str = msgspec.field(name="continue", default="")

    metadata: _Meta = msgspec.field(default_factory=_Meta)


_PAGE: Final = msgspec.json.Decoder(_Page)


@dataclass(frozen=True, slots=True)
class _Request:
    """One request, as it is sent, perhaps more than once."""

    method: str
    path: str
    body: bytes | None
    content_type: str
    params: _Params | None
    max_bytes: int | None
    """The answer may have no more bytes; None: any number."""


class _TooLargeError(Exception):
    """An answer has more bytes than it may have."""


class Api:
    """One API server, used as an async context manager."""

    def __init__(
        self, credentials: Credentials, request_timeout_s: float = 10.0, *, user_agent: str = "understudy"
    ) -> None:
        self.credentials: Final = credentials
        self._timeout_s = request_timeout_s
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            ssl=self.credentials.ssl_context or True,
            limit=0,
            keepalive_timeout=_KEEP_ALIVE_S,
            ttl_dns_cache=60,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Accept": JSON, "User-Agent": self._user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, *, params: _Params | None = None, timeout_s: float | None = None) -> bytes:
        """GET one object or list."""
        return await self.request("GET", path, params=params, timeout_s=timeout_s)

    async def post(self, path: str, body: bytes, *, params: _Params | None = None) -> bytes:
        """Create an object; Conflict (reason AlreadyExists) when the name is taken."""
        return await self.request("POST", path, body=body, params=params, timeout_s=_CREATE_S)

    async def delete(self, path: str, *, body: bytes | None = None, params: _Params | None = None) -> bytes:
        """Delete an object; `body` is a DeleteOptions (preconditions, grace period)."""
        return await self.request("DELETE", path, body=body, params=params)

    async def merge_patch(self, path: str, body: bytes, *, params: _Params | None = None) -> bytes:
        """Merge into an object; a resourceVersion in the body makes it a compare-and-set."""
        return await self.request("PATCH", path, body=body, content_type=MERGE_PATCH, params=params)

    async def json_patch(self, path: str, body: bytes, *, timeout_s: float | None = None) -> bytes:
        """Apply a JSON Patch; Invalid when one of its `test` operations fails."""
        return await self.request("PATCH", path, body=body, content_type=JSON_PATCH, timeout_s=timeout_s)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = JSON,
        params: _Params | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """Send one request and give the body of a 2xx answer; raise an ApiError otherwise."""
        return await self._request(method, path, body, content_type, params, timeout_s)

    async def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        content_type: str,
        params: _Params | None,
        timeout_s: float | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        request = _Request(method, path, body, content_type, params, max_bytes)
        try:
            async with asyncio.timeout(limit_s):
                code, answer = await self._send_twice(request)
        except TimeoutError:
            raise Unreachable(f"{method} {path} had no answer within {limit_s:g} s; is the API server up?") from None
        except (aiohttp.ClientError, OSError, CredentialsError) as error:
            raise _unreachable(method, path, error) from error
        if code >= 300:
            raise error_of(method, path, code, answer)
        return answer

    async def _send_twice(self, request: _Request) -> tuple[int, bytes]:
        """Send a request, and again where a kept connection turns out to be closed, or the credentials to be old."""
        try:
            code, answer = await self._send(request)
        except aiohttp.ClientConnectorError:
            raise  # refused: there was no old connection to blame
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            code, answer = await self._send(request)
        if code == 401 and self.credentials.refresh():
            return await self._send(request)
        return code, answer

    async def _send(self, request: _Request) -> tuple[int, bytes]:
        async with self._open().request(
            request.method,
            self.credentials.server + request.path,
            data=request.body,
            headers=self._headers(request.content_type if request.body is not None else None),
            params=request.params,
            timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_S),
            server_hostname=self.credentials.server_name,
            allow_redirects=False,
        ) as response:
            return response.status, await _read(response, request.max_bytes)

    async def list_pages(
        self, path: str, *, params: _Params | None = None, limit: int = 500
    ) -> AsyncGenerator[bytes, None]:
        """Give a list page by page, raw; Gone when a page's continue token expired: start again.

        The API server counts objects, not bytes: a page that becomes too large is given up, and asked for with a
        quarter of the objects. Pages grow again when objects are small.
        """
        query, count = {**(params or {})}, limit
        while True:
            query["limit"] = str(count)
            try:
                most = PAGE_MAX_BYTES if count > 1 else None
                page = await self._request("GET", path, None, JSON, query, max_bytes=most)
            except _TooLargeError:
                count = max(1, count // 4)
                continue
            yield page
            query["continue"] = shallow.decode(page, _PAGE).metadata.continue_
            if not query["continue"]:
                return
            if len(page) * 2 < PAGE_MAX_BYTES:
                count = min(limit, count * 2)

    async def watch(
        self,
        path: str,
        *,
        params: _Params | None = None,
        timeout_s: float,
        silence_s: float,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Give one raw JSON line an event until the server ends the watch after `timeout_s`.

        Raises Unreachable when the connection breaks or `silence_s` pass without a byte. Bookmarks, if asked for, come
        about once a minute. An ERROR event is given like any other: see `watch_error_of`. `on_open` is called when the
        server has accepted the watch.
        """
        query = {**(params or {}), "watch": "true", "timeoutSeconds": str(max(1, round(timeout_s)))}
        try:
            async with self._open().get(
                self.credentials.server + path,
                headers=self._headers(None),
                params=query,
                timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=silence_s),
                server_hostname=self.credentials.server_name,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    if response.status == 401:
                        self.credentials.refresh()
                    raise error_of("WATCH", path, response.status, await response.read())
                _probe_peer(response)
                if on_open is not None:
                    on_open()
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line:
                            yield line
        except TimeoutError:
            raise Unreachable(f"WATCH {path} was silent for {silence_s:g} s; watch anew") from None
        except (aiohttp.ClientError, OSError, CredentialsError) as error:
            raise _unreachable("WATCH", path, error) from error

    def _headers(self, content_type: str | None) -> dict[str, str]:
        headers = {"Content-Type": content_type} if content_type else {}
        if token := self.credentials.token():
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("Api is used outside its `async with`")
        return self._session


async def _read(response: aiohttp.ClientResponse, max_bytes: int | None) -> bytes:
    if max_bytes is None:
        return await response.read()
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > max_bytes:
            raise _TooLargeError  # the connection is closed with what was not read
    return bytes(found)


def _unreachable(verb: str, path: str, error: Exception) -> Unreachable:
    return Unreachable(f"{verb} {path} failed: {type(error).__name__}: {error}; is the API server up?")


def _probe_peer(response: aiohttp.ClientResponse) -> None:
    """Let the kernel find a dead peer under a silent watch within about 11 s: a lost node sends no FIN."""
    transport = response.connection.transport if response.connection else None
    sock = transport.get_extra_info("socket") if transport else None
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):  # macOS lacks some
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
