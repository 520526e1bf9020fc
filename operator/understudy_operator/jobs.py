"""What is known of the TrainingJobs: told by kopf's watch, by the answers to our own writes, and by asking.

Guarantees that a newer state is not replaced by one that was told late, and that a job that has gone does not come back
by such an answer. Does not know which of two states is newer after an etcd was restored from a backup: then the job is
doubtful until somebody asks. Reads no clock.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from understudy_kube.informer import Key

from understudy_operator.allowance import Allowance
from understudy_operator.core import model
from understudy_operator.core.actions import Emit

GONE_KEPT: Final = 4096
"""uids of deleted jobs remembered: the answer to an own write that a deletion overtook is never that late."""


@dataclass(slots=True)
class Memo:
    """What this process knows of one job beyond the API: lost with it, and nothing is unsafe without."""

    identity: str = ""
    """The identity (Job.identity) for which children were made."""
    prepared_at: float = -math.inf
    prepared_generation: int = 0
    granted: frozenset[tuple[str | None, str]] = frozenset()
    budgets: bool | None = None
    problems: dict[model.Aim, model.Problem] = field(default_factory=dict)
    unborn: Counter[str] = field(default_factory=Counter)
    """Pods that are to be made, by how many writes that are under way or took effect: two may want the same number,
    and the one that fails leaves it to the other."""
    vanished: set[str] = field(default_factory=set)
    """Pods that were seen and are no more, as long as a slot's Lease names them."""
    emitted: set[str] = field(default_factory=set)
    allowance: Allowance = field(default_factory=Allowance)
    """How many Events may still be posted."""
    last_words: dict[str, Emit] = field(default_factory=dict)
    """What former primaries said along with their end, by key, until it is posted: no Lease says it any more."""
    killed: dict[str, model.Killed] = field(default_factory=dict)
    """What the Events of pods said that were told to end, by uid, as long as the pods are there."""
    status_written_at: float = -math.inf
    room_made_at: dict[model.Aim, float] = field(default_factory=dict)
    """When an ended pod was removed last, so that a quota has room for what it had refused."""


class Jobs:
    """All TrainingJobs, by namespace and name, as the API gives them; and a memo of each."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._bodies: dict[Key, Mapping[str, Any]] = {}
        self._gone: dict[str, None] = {}
        self._doubtful: set[Key] = set()
        self._memos: dict[str, Memo] = {}

    def __iter__(self) -> Iterator[Key]:
        """Name every job."""
        return iter(tuple(self._bodies))

    def generation(self, key: Key) -> int:
        """Return the generation of a job's spec, as known; 0 for none."""
        body = self._bodies.get(key)
        return int(body["metadata"].get("generation", 0)) if body is not None else 0

    def known(self, key: Key) -> Mapping[str, Any] | None:
        """Return a job as it is known."""
        return self._bodies.get(key)

    def told(self, body: Mapping[str, Any]) -> None:
        """Take in a TrainingJob as the watch tells it; one that was deleted has come back, from a backup."""
        self._gone.pop(body["metadata"]["uid"], None)
        self.changed(body)

    def changed(self, body: Mapping[str, Any], *, instead_of: Mapping[str, Any] | None = None) -> None:
        """Take in a TrainingJob, unless a newer state of it is known.

        An older one is doubtful: told late, or of an etcd that was restored from a backup. Whoever asks finds out: what
        was known before the question (`instead_of`) yields to the answer, whatever its version.
        """
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        known = self._bodies.get(key)
        if body["metadata"]["uid"] in self._gone:
            return  # an answer to our own write that the deletion overtook
        answered = instead_of is not None and known is instead_of
        if answered:
            self._doubtful.discard(key)
        if known is not None and not answered and _version(known) >= _version(body):
            if _version(known) > _version(body):
                self._doubtful.add(key)
                self._wake(key)
            return
        self._bodies[key] = body
        self._wake(key)

    def listed(self, bodies: Iterable[Mapping[str, Any]], before: Mapping[Key, Mapping[str, Any]]) -> None:
        """Take in a list of all jobs, which was asked for when `before` was known of them."""
        found = {(body["metadata"]["namespace"], body["metadata"]["name"]): body for body in bodies}
        for key, known in before.items():
            if key not in found and self._bodies.get(key) is known:
                self.forget(key, known["metadata"]["uid"])
        for key, body in found.items():
            self.changed(body, instead_of=before.get(key))

    def all(self) -> Mapping[Key, Mapping[str, Any]]:
        """Return all jobs as they are known now."""
        return dict(self._bodies)

    def is_doubtful(self, key: Key) -> bool:
        """Tell whether a job may be older than what is known of it: to be asked."""
        return key in self._doubtful

    def deleted(self, body: Mapping[str, Any]) -> None:
        """Forget a TrainingJob; the garbage collector sees to its children."""
        meta = body["metadata"]
        self.forget((meta["namespace"], meta["name"]), meta["uid"])

    def forget(self, key: Key, uid: str) -> None:
        """Forget a job that is gone: so kopf has told, or a write of ours: kopf does not tell of every deletion."""
        known = self._bodies.get(key)
        if known is not None and known["metadata"]["uid"] == uid:
            del self._bodies[key]
        self._gone[uid] = None
        if len(self._gone) > GONE_KEPT:
            del self._gone[next(iter(self._gone))]
        self._memos.pop(uid, None)

    def memo(self, uid: str) -> Memo:
        """Return what this process remembers of a job."""
        return self._memos.setdefault(uid, Memo())

    def find_memo(self, uid: str) -> Memo | None:
        """Return what this process remembers of a job, if anything."""
        return self._memos.get(uid)

    def forget_memos(self) -> None:
        """Forget what this process did."""
        self._memos.clear()


def _version(body: Mapping[str, Any]) -> int:
    return int(body["metadata"]["resourceVersion"])
