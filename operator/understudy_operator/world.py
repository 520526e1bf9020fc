"""The operator's caches: everything that the API server has shown, of all jobs, and what this process saw of it.

Holds the informers' records, an index of the pods by job, and the memory of this process: sightings.py for pods and
nodes, hearing.py for Leases, memo.py for each job. observe.py makes Observations of them. Waking a job is left to
`wake`, called for every change that matters; a renewal that says nothing new wakes nobody.
"""

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgspec
from understudy_contract.lease import LeaseObject, LeaseRecord, natural
from understudy_contract.names import (
    API_VERSION,
    PLURAL,
    Label,
)
from understudy_contract.reports import Heartbeat
from understudy_kube import shallow
from understudy_kube.client import Api, ApiError, NotFound
from understudy_kube.informer import Informer, Key, Named, identify

from understudy_operator.core.model import Claim, Job, Observation
from understudy_operator.decoding import UnreadableJobError, read_job
from understudy_operator.hearing import LEASES, Hearing
from understudy_operator.jobs import Jobs, TooLargeError
from understudy_operator.objects import (
    ClaimObject,
    NodeObject,
    PodObject,
    claim_record,
    node_record,
    slim_lease,
    slim_pod,
)
from understudy_operator.predecessors import is_of_a_job
from understudy_operator.quarantine import CLAIM, JOB, LEASE, NODE, POD, Quarantine
from understudy_operator.sightings import Sightings

log: Final = logging.getLogger("understudy")

JOBS: Final = f"/apis/{API_VERSION}/{PLURAL}"
LEASE_MIN_S: Final = 3
CATCH_UP_PAUSE_S: Final = 0.2
"""Pause before a list that failed is tried again: until it succeeds, nobody acts."""
FIRST_LIST_PAUSE_S: Final = 1.0
"""Pause before the first list of the jobs is tried again: until it succeeds, this replica does not lead."""


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] = []


_ITEMS: Final = msgspec.json.Decoder(_Items)


class World:
    """Everything observed, of all jobs."""

    def __init__(self, api: Api, wake: Callable[[Key], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._wake = wake
        self._clock = clock
        self.jobs: Final = Jobs(wake)
        self.quarantine: Final = Quarantine(api)
        self.sightings: Final = Sightings(clock)
        self._pods_of: defaultdict[Key, dict[Key, None]] = defaultdict(dict)
        """In the order in which they were seen: what is decided must not depend on how Python hashes a name."""
        self._adopters: dict[str, str] = {}
        """The uid of the job that has adopted an earlier one's children, by the uid in their labels."""
        ours = {"labelSelector": str(Label.JOB_UID)}
        self.pods: Final = Informer[PodObject](
            api,
            "/api/v1/pods",
            kind=PodObject,
            to_record=slim_pod,
            on_change=self._pod_changed,
            on_unreadable=partial(self.quarantine.add, POD),
            params=ours,
            clock=clock,
        )
        self.leases: Final = Informer[LeaseRecord](
            api,
            LEASES,
            kind=LeaseObject,
            to_record=slim_lease,
            on_change=self._lease_changed,
            keep=lambda lease: is_of_a_job(lease, self.jobs, self.leases.records),
            on_unreadable=partial(self.quarantine.add, LEASE),
            params=ours,
            clock=clock,
        )
        self.hearing: Final = Hearing(self.leases.contact, clock)
        self.claims: Final = Informer[Claim](
            api,
            "/api/v1/persistentvolumeclaims",
            kind=ClaimObject,
            to_record=claim_record,
            on_change=self._claim_changed,
            on_unreadable=partial(self.quarantine.add, CLAIM),
            clock=clock,
        )
        self.nodes: Final = Informer[tuple[str, bool]](
            api,
            "/api/v1/nodes",
            kind=NodeObject,
            to_record=node_record,
            on_change=self._node_changed,
            on_unreadable=partial(self.quarantine.add, NODE),
            clock=clock,
        )
        self.informers: Final[tuple[Informer[Any], ...]] = (self.pods, self.leases, self.claims, self.nodes)
        self.listed: Final = asyncio.Event()
        """Everything was listed once, the jobs too."""

    async def synced(self) -> None:
        """Wait until every informer has its first list."""
        await asyncio.gather(*(informer.synced.wait() for informer in self.informers))

    async def first_lists(self) -> None:
        """Wait until everything was listed once, the jobs too: kopf does not tell when it has listed them."""
        await self.synced()
        while True:
            try:
                await self._refresh_jobs()
                await self.leases.refresh()  # those that came before their jobs were not kept
                break
            except ApiError as error:
                known = "; install the resource definition first" if isinstance(error, NotFound) else ""
                log.warning(
                    "jobs cannot be listed; this operator is not ready until they can%s: %s", known, error.message
                )
                await asyncio.sleep(FIRST_LIST_PAUSE_S)
        self.listed.set()

    async def begin_anew(self) -> tuple[Key, ...]:
        """List everything anew before this process leads, forget what it did before, and return every job.

        Another operator may have acted a moment ago, and pods and Leases come by two watches. A Lease that names a pod
        which the other watch has not shown yet must not be taken for a loss, and a pod whose Lease was not shown yet
        not for one too many. kopf notices a broken watch of the jobs only after a minute, so these are listed, too.
        """
        await self.synced()
        for refresh in (self._refresh_jobs, self.pods.refresh, self.leases.refresh):
            while True:
                try:
                    await refresh()
                    break
                except ApiError as error:
                    log.warning("what others did cannot be listed; nobody acts until it can: %s", error.message)
                    await asyncio.sleep(CATCH_UP_PAUSE_S)
        self.jobs.forget_memos()
        return tuple(self.jobs)

    async def _refresh_jobs(self) -> None:
        before = self.jobs.all()
        found: dict[Key, Named] = {}
        async for page in self._api.list_pages(JOBS):
            for raw in shallow.decode(page, _ITEMS).items:
                job = identify(raw)
                found[job.namespace, job.name] = job
                self.take_job(raw, instead_of=before.get((job.namespace, job.name)))
        self.jobs.listed(found, before)

    def told(self, text: bytes) -> None:
        """Take in a TrainingJob as kopf's watch tells it."""
        self.take_job(text, told=True)

    def take_job(self, text: bytes | msgspec.Raw, *, instead_of: Job | None = None, told: bool = False) -> None:
        """Take in a TrainingJob as the API gives it; one that cannot be read is set aside, and its owner is told."""
        try:
            job = read_job(text)
        except UnreadableJobError as error:
            self.jobs.set_aside(error.identity, natural(error.identity.resource_version) or 0)
            self.quarantine.add(JOB, error.identity, str(error))
            return
        try:
            if told:
                self.jobs.told(job)
            else:
                self.jobs.changed(job, instead_of=instead_of)
        except TooLargeError as error:
            self.quarantine.add(JOB, job, str(error))

    async def keep_contact(self) -> None:
        """Find out for ever whether the API server answers."""
        await self.hearing.keep_contact(self._api, self._shortest_lease_s)

    def _shortest_lease_s(self) -> float:
        """Return the shortest lease that a running pod renews, at least the API's minimum."""
        durations = [
            max(lease.patience_s, LEASE_MIN_S)
            for (namespace, _), lease in self.leases.records.items()
            if (pod := self.pods.records.get((namespace, lease.holder))) is not None and pod.status.phase == "Running"
        ]
        return min(durations, default=math.inf)

    def pods_of(self, job: Job) -> Iterator[PodObject]:
        """Give the pods of a job, in the order in which they were seen."""
        return (self.pods.records[key] for key in self._pods_of.get((job.namespace, job.identity), ()))

    def take_note(self, observation: Observation) -> None:
        """Remember what the Observation that a decision is made of has shown."""
        job, fleet = observation.job, observation.fleet
        memo = self.jobs.memo(job.uid)
        memo.belongs_to(job.identity)
        memo.keep(
            pods=(pod.uid for view in observation.ranks for pod in view.pods.values()),
            named=(lease.record.holder for view in observation.ranks for lease in view.slots if lease is not None),
        )
        if job.adopted_uid:
            self._adopters[job.adopted_uid] = job.uid
        if fleet.control_plane_degraded:
            self.sightings.degraded(job.policy.lease_duration_s, fleet.at)

    def _pod_changed(self, old: PodObject | None, new: PodObject | None) -> None:
        pod = new or old
        assert pod is not None
        meta = pod.metadata
        key, uid = (meta.namespace, meta.name), meta.uid
        index = (meta.namespace, meta.labels.get(Label.JOB_UID, ""))
        if old is not None:  # also of a pod that was given another job's label by hand
            before = (old.metadata.namespace, old.metadata.labels.get(Label.JOB_UID, ""))
            self._pods_of[before].pop(key, None)
            if not self._pods_of[before]:
                del self._pods_of[before]
            if before != index:
                self._wake((meta.namespace, old.metadata.labels.get(Label.JOB, "")))
        memo = self.jobs.find_memo(self._adopters.get(index[1], index[1]))
        if new is None:
            self.sightings.pod_gone(uid)
            if memo is not None:
                memo.deleted_pods.add(meta.name)
        else:
            self._pods_of[index][key] = None
            if memo is not None:
                memo.expect_no_more(meta.name)
            self.sightings.pod_changed(new)
        self._wake((meta.namespace, meta.labels.get(Label.JOB, "")))

    def _lease_changed(self, old: LeaseRecord | None, new: LeaseRecord | None) -> None:
        lease = new or old
        assert lease is not None
        key = (lease.namespace, lease.name)
        late = False
        if new is None:
            self.hearing.forget(key)
        elif old is None or renewal(old) != renewal(new):
            # A redundant pod that was too quiet to be promoted may be waited for.
            same = old is not None and (old.holder, old.term) == (new.holder, new.term)
            late = self.hearing.changed(key, new.patience_s, by_worker=same)
            holder = self.pods.records.get((lease.namespace, new.holder))
            if old is not None and holder is not None and holder.spec.node_name is not None:
                self.sightings.heard_from(holder.spec.node_name)
            if holder is not None and new.current_release is not None:
                self.sightings.pod_ends(holder.metadata.uid)
        if late or old is None or new is None or news(old) != news(new):
            self._wake((lease.namespace, (lease.labels or {}).get(Label.JOB, "")))

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        # A claim does not say whose it is (it may be the user's own), and claims change seldom.
        for key in self.jobs:
            self._wake(key)

    def _node_changed(self, old: tuple[str, bool] | None, new: tuple[str, bool] | None) -> None:
        if old != new:
            for key in self.jobs:
                self._wake(key)


def renewal(lease: LeaseRecord) -> tuple[object, ...]:
    """Pick what a write of the Lease's holder changes, or a new holder: by that a Lease is heard."""
    return (lease.renew_time, lease.holder, lease.term, lease.heartbeat, lease.release)


def news(lease: LeaseRecord) -> tuple[object, ...]:
    """Strip a Lease of what every renewal changes."""
    beat: Heartbeat | None = lease.heartbeat
    told = (
        (beat.pod, beat.term, beat.phase, beat.first_step, beat.volume, beat.model, beat.loaded, beat.term_floor)
        if beat
        else None
    )
    failed = (beat.failures, beat.restarts, beat.last_failure) if beat else None
    return (
        lease.holder,
        lease.term,
        lease.release,
        lease.notice,
        lease.promotion,
        lease.incarnation,
        lease.failures,
        lease.given_up,
        lease.switchover,
        told,
        failed,
    )
