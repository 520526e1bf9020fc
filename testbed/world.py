"""What the API server shows of one namespace, mirrored by watches: pods, Leases, TrainingJobs.

Guarantees that `wait_until` looks again after every change, and never in between. `seen_at` is when a change reached
this process, by the wall clock: some milliseconds after it was made.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from understudy_contract.exits import ReleaseReason
from understudy_contract.lease import LeaseObject, LeaseRecord
from understudy_contract.names import rank_lease_name, slot_lease_name
from understudy_contract.reports import Phase
from understudy_contract.status import JobPhase, JobStatus, status_of

from testbed.errors import TestbedError
from testbed.kube import JOBS, LEASES, PODS, Kube, Object, wall
from testbed.mirror import READ_TIMEOUT_S, Mirror
from testbed.pods import Pod, read_pod

_T = TypeVar("_T")

HISTORY: Final = 20_000
"""Changes of Leases kept: over an hour of a small job."""


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """A Lease as it was seen at one moment."""

    seen_at: float
    record: LeaseRecord


@dataclass(frozen=True, slots=True)
class RankState:
    """One rank, as its Leases and pods show it now."""

    rank: int
    term: int
    primary: Pod | None
    training: bool
    """The holder of the Lease reports that it trains."""
    redundant: tuple[Pod, ...]
    """Those that report to be warm with the newest checkpoint they know of."""
    step: int


class World:
    """A mirror of one namespace."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.changed = threading.Condition()
        """Notified after every change of what is mirrored here, and by the followers of logs."""
        self.pods: dict[str, Pod] = {}
        self.leases: dict[str, LeaseRecord] = {}
        self.jobs: dict[str, Object] = {}
        self.lease_history: deque[LeaseChange] = deque(maxlen=HISTORY)
        self.pods_gone: dict[str, float] = {}
        self.pod_history: deque[tuple[float, Pod]] = deque(maxlen=HISTORY)
        self.on_pod: Callable[[Pod], None] = lambda pod: None
        """Called, on the mirror's thread, with each pod that is new or changed."""
        self.on_change: Callable[[], None] = lambda: None
        """Called, on the mirror's thread, after each change of a pod or a Lease."""
        self._mirrors = [
            Mirror(kube, PODS.format(namespace), self.changed, self._take_pod, self.pods.clear),
            Mirror(kube, LEASES.format(namespace), self.changed, self._take_lease, self.leases.clear),
            Mirror(kube, JOBS.format(namespace), self.changed, self._take_job, self.jobs.clear),
        ]

    def start(self) -> None:
        """Mirror from now on; returns when everything that is there has been seen."""
        for mirror in self._mirrors:
            mirror.start()
        for mirror in self._mirrors:
            if not mirror.synced.wait(READ_TIMEOUT_S):
                raise TestbedError(
                    "the API server does not list pods, Leases and TrainingJobs: is the chart installed?"
                )

    def stop(self) -> None:
        """End the mirrors."""
        for mirror in self._mirrors:
            mirror.stop()

    def wait_until(self, look: Callable[[], _T | None], *, timeout_s: float, what: str) -> _T:
        """Return the first truthy value of `look`, tried after every change; TestbedError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not (found := look()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TestbedError(f"waited {timeout_s:g} s in vain for {what}")
                self.changed.wait(left)
        return found

    def rank(self, job: str, rank: int) -> RankState:
        """Describe one rank."""
        lease = self.leases.get(rank_lease_name(job, rank))
        if lease is None:
            return RankState(rank, 0, None, training=False, redundant=(), step=0)
        beat = lease.current_heartbeat
        warm = []
        for slot in range(self._redundancy(job)):
            found = self.leases.get(slot_lease_name(job, rank, slot))
            pod = self.pods.get(found.holder) if found is not None else None
            if found is None or pod is None or found.holder == lease.holder:
                continue
            reported = found.current_heartbeat
            loaded = reported is not None and reported.phase is Phase.READY and found.current_release is None
            if loaded and pod.running and not pod.deleting:
                warm.append(pod)
        primary = self.pods.get(lease.holder)
        lives = primary is not None and primary.running and not primary.deleting
        training = lives and beat is not None and beat.phase is Phase.TRAINING and lease.current_release is None
        return RankState(
            rank, lease.term, primary, training=training, redundant=tuple(warm), step=beat.step if beat else 0
        )

    def ranks(self, job: str) -> tuple[RankState, ...]:
        """Describe all ranks of a job."""
        spec = self.jobs.get(job, {}).get("spec", {})
        return tuple(self.rank(job, rank) for rank in range(int(spec.get("ranks", 1))))

    def settled(self, job: str) -> bool:
        """Tell whether every rank trains and has all its redundant pods warm, and no pod is about to go."""
        ranks = self.ranks(job)
        whole = all(r.training and len(r.redundant) == self._redundancy(job) for r in ranks)
        return bool(ranks) and whole and not any(p.deleting for p in self.pods.values() if p.job == job)

    def status(self, job: str) -> JobStatus:
        """Return a job's status; an empty one of a job that is not mirrored."""
        return status_of(self.jobs.get(job, {}))

    def over(self, job: str) -> bool:
        """Tell whether a rank has nothing left to train, or the job has failed."""
        leases = (self.leases.get(rank_lease_name(job, rank.rank)) for rank in self.ranks(job))
        releases = (lease.current_release for lease in leases if lease is not None)
        complete = any(r is not None and r.reason == ReleaseReason.COMPLETED for r in releases)
        return complete or self.status(job).phase in (JobPhase.SUCCEEDED, JobPhase.FAILED)

    def describe(self, job: str) -> str:
        """Say in one line how a job is, for messages."""
        ranks = [
            f"rank {r.rank}: {r.primary.name if r.primary else 'no primary'} "
            f"{'trains' if r.training else 'does not train'} at term {r.term}, "
            f"{len(r.redundant)} of {self._redundancy(job)} redundant pods warm"
            for r in self.ranks(job)
        ]
        odd = [f"{p.name}: {p.trouble}" for p in self.pods.values() if p.job == job and p.trouble]
        leaving = [f"{p.name} is being deleted" for p in self.pods.values() if p.job == job and p.deleting]
        return "; ".join([*ranks, *odd, *leaving]) or f"there is no TrainingJob {job}"

    def lease_change(self, name: str, test: Callable[[LeaseRecord], bool], *, since: float) -> LeaseChange | None:
        """Find the first sight of a Lease that passes `test`."""
        changes = (c for c in tuple(self.lease_history) if c.record.name == name and c.seen_at >= since)
        return next((c for c in changes if test(c.record)), None)

    def pod_change(self, uid: str, test: Callable[[Pod], bool], *, since: float) -> float | None:
        """Say when a pod was first seen to pass `test`."""
        found = ((at, pod) for at, pod in tuple(self.pod_history) if pod.uid == uid and at >= since)
        return next((at for at, pod in found if test(pod)), None)

    def was_made(self, name: str) -> bool:
        """Tell whether a pod of this name was ever seen, now or before."""
        return any(pod.name == name for _, pod in tuple(self.pod_history))

    def pod_gone(self, uid: str) -> float | None:
        """Say when a pod was seen to be deleted."""
        return self.pods_gone.get(uid)

    def _redundancy(self, job: str) -> int:
        return int(self.jobs.get(job, {}).get("spec", {}).get("redundancy", 1))

    def _take_pod(self, kind: str, body: Object) -> None:
        pod = read_pod(body)
        with self.changed:
            if kind == "DELETED":
                self.pods.pop(pod.name, None)
                self.pods_gone[pod.uid] = wall()
            else:
                self.pods[pod.name] = pod
                self.pod_history.append((wall(), pod))
            self.changed.notify_all()
        if kind != "DELETED":
            self.on_pod(pod)
        self.on_change()

    def _take_lease(self, kind: str, body: Object) -> None:
        record = msgspec.convert(body, LeaseObject, strict=False).record()
        with self.changed:
            if kind == "DELETED":
                self.leases.pop(record.name, None)
            else:
                self.leases[record.name] = record
                self.lease_history.append(LeaseChange(wall(), record))
            self.changed.notify_all()
        self.on_change()

    def _take_job(self, kind: str, body: Object) -> None:
        with self.changed:
            if kind == "DELETED":
                self.jobs.pop(body["metadata"]["name"], None)
            else:
                self.jobs[body["metadata"]["name"]] = body
            self.changed.notify_all()
