"""The API server and etcd: objects, versions, compare-and-set, watches with a history. One namespace's worth of truth.

Answers exactly one request at a time, as etcd orders them. What a client sees of it, late, twice or never, is made in
network.py. `observers` are told of each change in the order in which it happens.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from understudy_kube.errors import ApiError, Conflict, Gone, Invalid, NotFound

Json = dict[str, Any]
Key = tuple[str, str]
"""Resource and name: there is one namespace."""
Observer = Callable[["Change"], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One write that took effect."""

    who: str
    resource: str
    name: str
    old: Json | None
    new: Json | None
    version: int


@dataclass(frozen=True, slots=True)
class _Event:
    version: int
    obj: Json
    line: bytes


@lru_cache(maxsize=4096)
def parse(path: str) -> tuple[str, str, str]:
    """Split a path into resource, name and subresource."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[0] == "namespaces" and len(parts) > 2:
        parts = parts[2:]
    resource, name, sub = (*parts, "", "")[:3]
    return resource, name, sub


@dataclass(frozen=True, slots=True)
class Wanted:
    """A selection of a resource's objects."""

    name: str = ""
    """This one alone."""
    label: str = ""
    """Those that have this label."""

    @staticmethod
    def of(params: Mapping[str, str] | None) -> "Wanted":
        """Read the selectors of a request."""
        params = params or {}
        return Wanted(params.get("fieldSelector", "").removeprefix("metadata.name="), params.get("labelSelector", ""))

    def takes(self, obj: Json) -> bool:
        """Tell whether an object is wanted."""
        meta = obj["metadata"]
        return self.name in ("", meta["name"]) and (not self.label or self.label in meta.get("labels", ()))


EVERYTHING = Wanted()


class Server:
    """All objects."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.version = 1000
        self.observers: list[Observer] = []
        self.streams: defaultdict[str, dict[Any, Wanted]] = defaultdict(dict)
        """Open watches of each resource, with what they want of it."""
        self._now = now
        self._objects: dict[Key, Json] = {}
        self._raw: dict[Key, bytes] = {}
        self._history: defaultdict[str, list[_Event]] = defaultdict(list)
        self._compacted = 0
        self._uids = 0

    # Requests

    def get(self, path: str, wanted: Wanted = EVERYTHING) -> bytes:
        """Read an object or list a resource."""
        resource, name, _ = parse(path)
        if not name:
            items = b",".join(self._raw[key] for key in self._all(resource, wanted))
            return b'{"metadata":{"resourceVersion":"%d"},"items":[%b]}' % (self.version, items)
        self._find(resource, name)
        return self._raw[resource, name]

    def post(self, who: str, path: str, body: bytes, *, trial: bool = False) -> bytes:
        """Create an object."""
        resource, _, _ = parse(path)
        obj: Json = msgspec.json.decode(body)
        if trial:
            return body
        meta = obj["metadata"]
        if (resource, meta["name"]) in self._objects:
            raise Conflict(409, "AlreadyExists", f"{resource} {meta['name']} exists already")
        self._uids += 1
        meta |= {"uid": f"uid-{self._uids}", "creationTimestamp": self._stamp(), "namespace": "default"}
        if resource == "pods":
            obj["status"] = {"phase": "Pending"}
        return self._put(who, resource, meta["name"], None, obj)

    def merge_patch(self, who: str, path: str, body: bytes) -> bytes:
        """Merge into an object, if the version and uid that the patch may name are its own."""
        resource, name, sub = parse(path)
        old, patch = self._find(resource, name), msgspec.json.decode(body)
        meta = patch.get("metadata") or {}
        for field in ("resourceVersion", "uid"):
            if meta.get(field, old["metadata"][field]) != old["metadata"][field]:
                raise Conflict(409, "Conflict", f"{resource} {name} has another {field}")
        if sub == "status":
            patch = {"status": patch.get("status")}
        else:
            meta.pop("resourceVersion", None)
            patch.pop("status", None)
        return self._put(who, resource, name, old, merged(old, patch))

    def json_patch(self, who: str, path: str, body: bytes) -> bytes:
        """Apply a JSON Patch."""
        resource, name, _ = parse(path)
        old = self._find(resource, name)
        new = old
        for change in msgspec.json.decode(body):
            parts = [part.replace("~1", "/").replace("~0", "~") for part in change["path"].split("/")[1:]]
            new = _changed(new, parts, change, name)
        return self._put(who, resource, name, old, new)

    def delete(self, who: str, path: str, body: bytes | None) -> bytes:
        """Delete an object; a pod that a kubelet runs is only asked to end."""
        resource, name, _ = parse(path)
        old = self._find(resource, name)
        options = msgspec.json.decode(body) if body else {}
        if options.get("preconditions", {}).get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise Conflict(409, "Conflict", f"{resource} {name} has another uid")
        raw = self._raw[resource, name]
        if resource == "pods":
            grace_s = options.get("gracePeriodSeconds", old["spec"].get("terminationGracePeriodSeconds", 30))
            if old["spec"].get("nodeName") and grace_s and old["status"]["phase"] in ("Pending", "Running"):
                if old["metadata"].get("deletionTimestamp"):
                    return raw
                over = {"deletionTimestamp": self._stamp(grace_s), "deletionGracePeriodSeconds": grace_s}
                return self.update(who, resource, name, {"metadata": over})
        self._drop(who, resource, name, old)
        return raw

    def _stamp(self, ahead_s: float = 0.0) -> str:
        return f"{self._now() + timedelta(seconds=ahead_s):%Y-%m-%dT%H:%M:%SZ}"

    # What the cluster's own parts do

    def update(self, who: str, resource: str, name: str, patch: Json) -> bytes:
        """Merge into an object that is there."""
        old = self._find(resource, name)
        return self._put(who, resource, name, old, merged(old, patch))

    def remove(self, who: str, resource: str, name: str) -> None:
        """Remove an object, whatever it says."""
        self._drop(who, resource, name, self._find(resource, name))

    def all(self, resource: str) -> Iterator[Json]:
        """Give all objects of a kind."""
        yield from [obj for (kind, _), obj in self._objects.items() if kind == resource]

    def find(self, resource: str, name: str) -> Json | None:
        """Give an object, if it is there."""
        return self._objects.get((resource, name))

    def raw(self, resource: str, name: str) -> bytes:
        """Give an object that is there, as JSON."""
        return self._raw[resource, name]

    # Watches

    def since(self, path: str, version: str, wanted: Wanted) -> list[bytes]:
        """Give the events since a version; without one, the objects as they are."""
        resource, _, _ = parse(path)
        if not version or version == "0":
            return [_line("ADDED", self._raw[key]) for key in self._all(resource, wanted)]
        if int(version) < self._compacted:
            raise Gone(410, "Expired", f"{path}: version {version} is compacted")
        return [e.line for e in self._history[resource] if e.version > int(version) and wanted.takes(e.obj)]

    def compact(self) -> None:
        """Forget the history: who has fallen behind must list anew."""
        self._compacted = self.version
        self._history.clear()

    # Backups

    def backup(self) -> tuple[dict[Key, Json], dict[Key, bytes]]:
        """Copy everything; objects are never changed in place."""
        return dict(self._objects), dict(self._raw)

    def restore(self, backup: tuple[dict[Key, Json], dict[Key, bytes]]) -> None:
        """Go back to a backup, with versions above all that were given out, as `etcdutl --bump-revision` does."""
        self._objects, self._raw = dict(backup[0]), dict(backup[1])
        self.version += 1_000_000
        self.compact()
        for streams in list(self.streams.values()):
            for stream in list(streams):
                stream.end()

    # Means

    def _all(self, resource: str, wanted: Wanted) -> list[Key]:
        return [key for key, obj in self._objects.items() if key[0] == resource and wanted.takes(obj)]

    def _find(self, resource: str, name: str) -> Json:
        found = self._objects.get((resource, name))
        if found is None:
            raise NotFound(404, "NotFound", f"{resource} {name} is not there")
        return found

    def _put(self, who: str, resource: str, name: str, old: Json | None, new: Json) -> bytes:
        if new == old:
            return self._raw[resource, name]
        self.version += 1
        new["metadata"] = {**new["metadata"], "resourceVersion": str(self.version)}
        raw = msgspec.json.encode(new)
        self._objects[resource, name], self._raw[resource, name] = new, raw
        self._tell(Change(who, resource, name, old, new, self.version), "MODIFIED" if old else "ADDED", raw)
        return raw

    def _drop(self, who: str, resource: str, name: str, old: Json) -> None:
        self.version += 1
        del self._objects[resource, name], self._raw[resource, name]
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._tell(Change(who, resource, name, old, None, self.version), "DELETED", msgspec.json.encode(last))

    def _tell(self, change: Change, kind: str, raw: bytes) -> None:
        line, obj = _line(kind, raw), change.new or change.old
        assert obj is not None
        self._history[change.resource].append(_Event(change.version, obj, line))
        for stream, wanted in list(self.streams[change.resource].items()):
            if wanted.takes(obj):
                stream.push(line)
        for observer in self.observers:
            observer(change)


def merged(old: Any, change: Any) -> Any:
    """Merge as a JSON merge patch does."""
    if not isinstance(change, Mapping):
        return change
    new = dict(old) if isinstance(old, Mapping) else {}
    for key, value in change.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merged(new.get(key), value)
    return new


def refusal(error: ApiError) -> bytes:
    """Give the ERROR event that ends a watch."""
    return _line("ERROR", msgspec.json.encode({"code": error.status, "reason": error.reason, "message": error.message}))


def _changed(obj: Json, parts: list[str], change: Json, name: str) -> Json:
    head, rest = parts[0], parts[1:]
    if rest:
        if not isinstance(obj.get(head), dict):
            raise Invalid(422, "Invalid", f"{name} has no {head}")
        return {**obj, head: _changed(obj[head], rest, change, name)}
    match change["op"]:
        case "test" if obj.get(head) != change["value"]:
            raise Invalid(422, "Invalid", f"{name}: {head} is {obj.get(head)!r}, not {change['value']!r}")
        case "test":
            return obj
        case "remove":
            return {key: value for key, value in obj.items() if key != head}
    return {**obj, head: change["value"]}


def _line(kind: str, raw: bytes) -> bytes:
    return b'{"type":"%b","object":%b}' % (kind.encode(), raw)
