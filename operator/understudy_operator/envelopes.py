"""TrainingJobs on their way through kopf: kopf decodes what they are called, and nothing that a user has written.

kopf decodes lists and watches by itself, each as one value, by a decoder that descends by recursion: one object that is
nested too deep would end the operator, at every start. So the responses that kopf gets hold, in the place of each
TrainingJob, an envelope: its apiVersion, kind, name, namespace, uid and resourceVersion, and under `text` the whole
object as a string, which decoding.py reads later, each object apart.

Guarantees that kopf sees of a list or a watch what it needs of it, whatever the objects hold, and that no value in it
is nested deeper than shallow.DEPTH_MAX. Does not read the objects. Only responses about TrainingJobs are changed. Reads
no clock.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import msgspec
from understudy_contract import names
from understudy_kube import shallow
from understudy_kube.informer import identify

TEXT: Final = "text"
"""Where an envelope has the object, as JSON."""


class _List(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: dict[str, Any]
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LIST: Final = msgspec.json.Decoder(_List)
_EVENT: Final = msgspec.json.Decoder(_Event)


def envelope(text: bytes | msgspec.Raw) -> dict[str, Any]:
    """Wrap a TrainingJob."""
    sound = bytes(text).decode(errors="replace")
    meta = identify(sound.encode())
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        TEXT: sound,
    }


def wrap_list(body: bytes) -> dict[str, Any]:
    """Wrap each TrainingJob of a list."""
    found = shallow.decode(body, _LIST)
    items = [envelope(item) for item in found.items]
    return {"apiVersion": found.api_version, "kind": found.kind, "metadata": found.metadata, "items": items}


def wrap_event(line: bytes) -> bytes:
    """Wrap the TrainingJob of a watch's line; what the API server itself says is left as it is."""
    event = shallow.decode(line, _EVENT)
    if event.type not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        return shallow.cut(line)
    return msgspec.json.encode({"type": event.type, "object": envelope(event.object)})


class Response(aiohttp.ClientResponse):
    """A response to kopf."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Begin the response; of a watch its lines are wrapped as they come."""
        await super().start(connection)
        if self._is_about_jobs() and "watch" in self.url.query:
            self.content = _Lines(self.content)  # type: ignore[assignment]
        return self

    async def json(self, **_: Any) -> Any:
        """Decode the body."""
        body = await self.read()
        return wrap_list(body) if self._is_about_jobs() else json.loads(shallow.cut(body))

    def _is_about_jobs(self) -> bool:
        return self.status == 200 and self.url.path.endswith(f"/{names.PLURAL}")


class _Lines:
    """The stream of a watch, with its lines wrapped."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Give whole lines."""
        rest = b""
        async for chunk in self._stream.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield wrap_event(line) + b"\n"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
