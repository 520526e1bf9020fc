"""What is known of the TrainingJobs: from kopf's watch, from the answers to the operator's own writes, and from asking.

Guarantees that a newer state is not replaced by one that was told late, and that a job that has gone does not come back
by such an answer. Does not know which of two states is newer after an etcd was restored from a backup: then the job is
doubtful until somebody asks. Guarantees that the jobs of one namespace take no more than LARGE_MAX_BYTES of memory
beyond what ordinary jobs take; not that a namespace has few of these, which a quota of the cluster can ensure. Reads no
clock.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from understudy_kube.informer import Key, Named

from understudy_operator.core import model
from understudy_operator.memo import Memo

GONE_KEPT: Final = 4096
"""How many uids of deleted jobs are remembered, so that a late answer to a write does not bring one back."""


ORDINARY_BYTES: Final = 16 * 1024
"""Size of spec and status up to which a job is always read."""
LARGE_MAX_BYTES: Final = 16 * 1024 * 1024
"""What the larger jobs of one namespace may have together beyond that; other namespaces have their own."""


class TooLargeError(Exception):
    """A namespace has too many large jobs for another one; the message is for its owner."""


class Jobs:
    """All TrainingJobs that can be read, by namespace and name; and a memo of each."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._jobs: dict[Key, model.Job] = {}
        self._keys: dict[str, Key] = {}
        """By uid."""
        self._large: Counter[str] = Counter()
        """Bytes beyond the ordinary, by namespace."""
        self._gone: dict[str, None] = {}
        self._doubtful: set[Key] = set()
        self._memos: dict[str, Memo] = {}
        self._aside: dict[str, Named] = {}
        """Jobs that cannot be read now, by uid: their Leases are still theirs."""

    def __iter__(self) -> Iterator[Key]:
        """Name every job."""
        return iter(tuple(self._jobs))

    def generation(self, key: Key) -> int:
        """Return the generation of a job's spec, as known; 0 for none."""
        job = self._jobs.get(key)
        return job.generation if job is not None else 0

    def known(self, key: Key) -> model.Job | None:
        """Return a job as it is known."""
        return self._jobs.get(key)

    def find(self, uid: str) -> model.Job | None:
        """Return the job of a uid, if it is known."""
        key = self._keys.get(uid)
        return self._jobs.get(key) if key is not None else None

    def is_aside(self, uid: str, name: str) -> bool:
        """Tell whether a job of this uid and name is there and cannot be read now."""
        job = self._aside.get(uid)
        return job is not None and job.name == name

    def told(self, job: model.Job) -> None:
        """Take in a TrainingJob as the watch tells it; one that was deleted has come back, from a backup."""
        self._gone.pop(job.uid, None)
        self.changed(job)

    def changed(self, job: model.Job, *, instead_of: model.Job | None = None) -> None:
        """Take in a TrainingJob, unless a newer state of it is known; raises TooLargeError, and then forgets it.

        An older state makes the job doubtful: it came late, or etcd was restored from a backup. An answer from the API
        settles it: it replaces what was known when it was asked (`instead_of`), whatever its version.
        """
        key = (job.namespace, job.name)
        known = self._jobs.get(key)
        if job.uid in self._gone:
            return  # the answer to a write came after the deletion
        answered = instead_of is not None and known is instead_of
        if answered:
            self._doubtful.discard(key)
        if known is not None and not answered and _version(known) >= _version(job):
            if _version(known) > _version(job):
                self._doubtful.add(key)
                self._wake(key)
            return
        held = self._large[job.namespace] - (_excess(known) if known is not None else 0)
        # A job that is read stays so, however large its status gets: its owner has changed nothing.
        grown = known is not None and (known.uid, known.generation) == (job.uid, job.generation)
        if held + _excess(job) > LARGE_MAX_BYTES and not grown:
            self._remove(key)
            self._aside[job.uid] = job
            raise TooLargeError(
                f"This TrainingJob is not read, and nothing is done for it: its spec and status have {job.size_bytes} "
                f"bytes, and the jobs of namespace {job.namespace} have {LARGE_MAX_BYTES} together already, counted "
                f"beyond {ORDINARY_BYTES} each. Make the specs smaller, or delete jobs that have ended."
            )
        if known is not None and known.uid != job.uid:
            self._keys.pop(known.uid, None)
        self._weigh(job.namespace, held + _excess(job))
        self._jobs[key] = job
        self._keys[job.uid] = key
        self._aside.pop(job.uid, None)
        self._wake(key)

    def _remove(self, key: Key) -> None:
        known = self._jobs.pop(key, None)
        if known is not None:
            self._keys.pop(known.uid, None)
            self._weigh(known.namespace, self._large[known.namespace] - _excess(known))

    def _weigh(self, namespace: str, size_bytes: int) -> None:
        self._large[namespace] = size_bytes
        if not size_bytes:
            del self._large[namespace]

    def listed(self, found: Mapping[Key, Named], before: Mapping[Key, model.Job]) -> None:
        """Forget the jobs that a list of all jobs does not name; `before`: what was known when it was asked for."""
        for key, known in before.items():
            if key not in found and self._jobs.get(key) is known:
                self.forget(known)

    def all(self) -> Mapping[Key, model.Job]:
        """Return all jobs as they are known now."""
        return dict(self._jobs)

    def is_doubtful(self, key: Key) -> bool:
        """Tell whether the job in the API may be older than the known one, and has to be asked for."""
        return key in self._doubtful

    def set_aside(self, job: Named, version: float) -> None:
        """Forget a job that cannot be read in this version, until it can be read again; not if a newer one is known."""
        self._aside[job.uid] = job
        known = self._jobs.get((job.namespace, job.name))
        if known is not None and known.uid == job.uid and _version(known) <= version:
            self._remove((job.namespace, job.name))

    def forget(self, job: Named) -> None:
        """Forget a deleted job, reported by kopf or by a failed write; the garbage collector sees to its children."""
        self.set_aside(job, math.inf)
        del self._aside[job.uid]
        self._gone[job.uid] = None
        if len(self._gone) > GONE_KEPT:
            del self._gone[next(iter(self._gone))]
        self._memos.pop(job.uid, None)

    def memo(self, uid: str) -> Memo:
        """Return what this process remembers of a job."""
        return self._memos.setdefault(uid, Memo())

    def find_memo(self, uid: str) -> Memo | None:
        """Return what this process remembers of a job, if anything."""
        return self._memos.get(uid)

    def forget_memos(self) -> None:
        """Forget what this process did."""
        self._memos.clear()


def _version(job: model.Job) -> int:
    return int(job.resource_version)


def _excess(job: model.Job) -> int:
    return max(0, job.size_bytes - ORDINARY_BYTES)
