"""Follows the log of every pod of a namespace's jobs from its first line on, one thread a pod.

Guarantees that each step is kept once and in order, also when the connection breaks and is opened again. A pod whose
node is cut off sends nothing more; `add_from_disk` then reads from the node's disk what had not been sent.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

import urllib3.exceptions
from kubernetes.client.exceptions import ApiException
from understudy_contract.names import TRAINER_CONTAINER

from testbed import lines
from testbed.kube import PODS, Kube, Stream, wall
from testbed.lines import Line, Step

RETRY_S: Final = 0.2
"""Between two attempts to reach the log of a container that is there but cannot be read."""


CRI_FIELDS: Final = 3
"""A line on a node's disk opens with its time, its stream, and F or P."""


class PodLog:
    """What one pod printed. `steps` and `others` only ever grow."""

    def __init__(self, pod: str, uid: str, rank: int) -> None:
        self.pod = pod
        self.uid = uid
        self.rank = rank
        self.steps: list[Step] = []
        self.others: list[Line] = []
        self.ended = False
        """The container's log is complete."""

    def first_step(self, *, above_term: int, since: float = 0.0) -> Step | None:
        """Find the first step of a term higher than this, completed not earlier than `since`."""
        return next((step for step in tuple(self.steps) if step.term > above_term and step.at >= since), None)

    def last_step(self, term: int, *, until: float | None = None) -> Step | None:
        """Find the last step of a term, completed not later than `until`."""
        kept = (s for s in reversed(tuple(self.steps)) if s.term == term and (until is None or s.at <= until))
        return next(kept, None)

    def resumed_at(self, term: int) -> tuple[float, int] | None:
        """Say when, and from which step, this pod began a term."""
        for line in tuple(self.others):
            if (found := lines.resumed(line)) and found[1] == term:
                return line.at, found[0]
        return None

    def notified_at(self, term: int) -> float | None:
        """Say when this pod's agent learnt that it is primary of a term."""
        return next((line.at for line in tuple(self.others) if lines.promoted_term(line) == term), None)

    def find(self, text: str, *, since: float = 0.0, agent: bool | None = None) -> Line | None:
        """Find the first line that contains `text`."""
        for line in tuple(self.others):
            if line.at >= since and text in line.text and agent in (None, line.agent):
                return line
        return None

    def add(self, text: str, now: float) -> None:
        """Append a line."""
        parsed = lines.parse(text, now)
        if isinstance(parsed, Line):
            self.others.append(parsed)
        elif not self.steps or _place(parsed) > _place(self.steps[-1]):
            self.steps.append(parsed)

    def add_from_disk(self, written: str) -> int:
        """Take over the steps that a node wrote to its disk and could not send any more; return how many."""
        before = len(self.steps)
        for raw in written.splitlines():
            text = raw.split(" ", CRI_FIELDS)[-1]
            if isinstance(lines.parse(text, 0.0), Step):
                self.add(text, 0.0)
        return len(self.steps) - before


def _place(step: Step) -> tuple[int, int]:
    return step.term, step.step


class Logs:
    """The logs of all pods that were named to `follow`."""

    def __init__(self, kube: Kube, namespace: str, changed: threading.Condition, alive: Callable[[str], bool]) -> None:
        """`alive(uid)`: the pod may still print. `changed` is held for each line, and notified."""
        self._kube = kube
        self._path = PODS.format(namespace)
        self._changed = changed
        self._logs: dict[str, PodLog] = {}
        self._streams: dict[str, Stream] = {}
        self._alive = alive
        self._stopped = threading.Event()
        self.on_line: Callable[[PodLog, str], None] | None = None
        """Called with each line as it comes, on the follower's thread."""

    def follow(self, pod: str, uid: str, rank: int) -> None:
        """Follow a pod from its first line on; does nothing for one that is followed."""
        if uid in self._logs or self._stopped.is_set():
            return
        log = self._logs[uid] = PodLog(pod, uid, rank)
        threading.Thread(target=self._run, args=(log,), name=f"log of {pod}", daemon=True).start()

    def of(self, pod: str) -> PodLog:
        """Return the log of the newest pod of this name; an empty one for a pod that is unknown."""
        found = [log for log in self.all() if log.pod == pod]
        return found[-1] if found else PodLog(pod, "", -1)

    def all(self) -> Iterable[PodLog]:
        """Return all logs, oldest pod first."""
        return tuple(self._logs.values())

    def reconnect(self) -> None:
        """Open all connections again: the API server keeps one open to a node that has lost its power."""
        for stream in tuple(self._streams.values()):
            stream.close()

    def stop(self) -> None:
        """End all threads."""
        self._stopped.set()
        self.reconnect()

    def _run(self, log: PodLog) -> None:
        seen = 0
        while not self._stopped.is_set():
            try:
                seen, complete = self._read(log, seen)
            except (ApiException, urllib3.exceptions.HTTPError, OSError):
                complete = False  # the container waits for its start, or the connection broke
            if not self._alive(log.uid) or complete:
                break
            self._stopped.wait(RETRY_S)
        with self._changed:
            log.ended = True
            self._changed.notify_all()

    def _read(self, log: PodLog, seen: int) -> tuple[int, bool]:
        """Read from the first line on, skip what was seen; return the number of lines seen, and whether it ended."""
        params = {"container": TRAINER_CONTAINER, "follow": "true"}
        stream = self._streams[log.uid] = self._kube.lines(f"{self._path}/{log.pod}/log", params)
        count = 0
        try:
            for raw in stream:
                count += 1
                if count <= seen:
                    continue
                text = raw.decode(errors="replace").rstrip("\n")
                with self._changed:
                    log.add(text, wall())
                    seen = count
                    self._changed.notify_all()
                if self.on_line is not None:
                    self.on_line(log, text)
        except (urllib3.exceptions.HTTPError, OSError):
            return seen, False
        return seen, not stream.closed  # the kubelet ends the answer when the container has ended
