"""A collection of the API server, kept up to date by one thread: list, watch, and list again when the watch is lost."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import urllib3.exceptions
from kubernetes.client.exceptions import ApiException

from testbed.kube import Kube, Object, Stream

WATCH_S: Final = 240
READ_TIMEOUT_S: Final = 300
"""A watch that says nothing for longer than it was asked to last is dead."""
RETRY_S: Final = 0.2


class WatchExpiredError(Exception):
    """The watch is too old to continue: list again."""


class Mirror:
    """The objects of one collection, kept up to date by a thread of its own."""

    def __init__(
        self,
        kube: Kube,
        path: str,
        changed: threading.Condition,
        take: Callable[[str, Object], None],
        reset: Callable[[], None],
    ) -> None:
        self._kube = kube
        self._path = path
        self._changed = changed
        self._take = take
        self._reset = reset
        self._stopped = threading.Event()
        self._stream: Stream | None = None
        self.synced = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch of {path}", daemon=True)

    def start(self) -> None:
        """Begin to mirror."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with suppress(ApiException, urllib3.exceptions.HTTPError, OSError, WatchExpiredError):
                version = self._list()
                self.synced.set()
                while not self._stopped.is_set():
                    version = self._watch(version)
            self._stopped.wait(RETRY_S)

    def _list(self) -> str:
        found = self._kube.get(self._path)
        with self._changed:  # nobody sees a half of the new list
            self._reset()
            for item in found["items"]:
                self._take("ADDED", item)
        return str(found["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> str:
        params = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
            "allowWatchBookmarks": "true",
        }
        self._stream = self._kube.lines(self._path, params, read_timeout_s=READ_TIMEOUT_S)
        for line in self._stream:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise WatchExpiredError
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._take(event["type"], event["object"])
        return version
