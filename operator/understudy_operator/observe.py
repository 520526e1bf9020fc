"""What the API server says, as Observations.

Holds the informers' records, an index of them by job, and what only this process can know: when it first saw a thing,
in its own monotonic time (of Leases, hearing.py). Waking a job is left to `wake`, called for every change that matters;
a renewal that says nothing new wakes nobody.
"""

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec
from understudy_contract import names
from understudy_contract.lease import LeaseObject, LeaseRecord, natural
from understudy_contract.names import (
    API_VERSION,
    MAX_REDUNDANCY,
    PLURAL,
    Label,
    Rank,
    lease_names,
    rank_lease_name,
    slot_lease_name,
)
from understudy_contract.reports import Heartbeat
from understudy_kube import shallow
from understudy_kube.client import Api, ApiError, NotFound
from understudy_kube.informer import Informer, Key, Named, identify

from understudy_operator.core import model
from understudy_operator.core.adoption import find_identity, is_child
from understudy_operator.decoding import UnreadableJobError, read_job
from understudy_operator.hearing import LEASES, Hearing
from understudy_operator.jobs import Jobs, TooLargeError
from understudy_operator.objects import (
    ClaimObject,
    NodeObject,
    PodObject,
    claim_record,
    node_record,
    pod_view,
    slim_lease,
    slim_pod,
)
from understudy_operator.quarantine import CLAIM, JOB, LEASE, NODE, POD, Quarantine

log: Final = logging.getLogger("understudy")

JOBS: Final = f"/apis/{API_VERSION}/{PLURAL}"
LEASE_MIN_S: Final = 3
COMPARABLE: Final = 6
"""Leases that are at most so many times as long as a job's own are renewed often enough, every second lease of the job,
to speak for its workers."""
SUSPICION_S: Final = 60.0
"""How long a node is avoided after a pod on it fell silent, unless one is heard from there again: the node controller
itself needs 40 to 55 s to taint a lost node."""
CATCH_UP_PAUSE_S: Final = 0.2
"""Before a list that failed is tried again: until it succeeds, nobody acts."""
FIRST_LIST_PAUSE_S: Final = 1.0
"""Before the first list of the jobs is tried again: who knows none does not lead, and another may."""


RANKS_MAX: Final = 256
"""The most ranks of a job that the API admits."""
ORPHANS_MAX: Final = 1024
"""Leases without an owner that are remembered, of all namespaces, until a job of their name is made."""


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] = []


_ITEMS: Final = msgspec.json.Decoder(_Items)


@dataclass(slots=True)
class _Sighting:
    seen_since: float
    running_since: float = math.inf
    deleting_since: float | None = None
    ending_since: float | None = None


class World:
    """Everything observed, of all jobs."""

    def __init__(self, api: Api, wake: Callable[[Key], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._wake = wake
        self._clock = clock
        self.jobs: Final = Jobs(wake)
        self.quarantine: Final = Quarantine(api)
        self._pods_of: defaultdict[Key, dict[Key, None]] = defaultdict(dict)
        """In the order in which they were seen: what is decided must not depend on how Python hashes a name."""
        self._sightings: dict[str, _Sighting] = {}
        self._suspects: dict[str, float] = {}
        self._cut_off_at: dict[int, float] = {}
        """When the control plane was found degraded last, as jobs with leases of this many seconds see it."""
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
            keep=self._is_of_a_job,
            on_unreadable=partial(self.quarantine.add, LEASE),
            params=ours,
            clock=clock,
        )
        self._hearing = Hearing(self.leases.contact, clock)
        self.claims: Final = Informer[model.Claim](
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
        """Wait until everything was listed, the jobs too: kopf does not tell whether it has, or ever will."""
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
        """Know what others did until now, and forget what this process did; name every job.

        Pods and Leases come by two watches: a Lease can name a pod that is not seen yet, which is not lost, and a pod
        can be there that no Lease names yet, which is not superfluous. Whoever acts alone never meets that. And kopf
        notices only after a minute that its watch of the jobs has broken without a word.
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

    def take_job(self, text: bytes | msgspec.Raw, *, instead_of: model.Job | None = None, told: bool = False) -> None:
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
        """Know for ever whether the API server lives."""
        await self._hearing.keep_contact(self._api, self._shortest_lease_s)

    def _shortest_lease_s(self) -> float:
        """Of those that a pod renews just now; none is taken for shorter than the shortest that the API admits."""
        durations = [
            max(lease.patience_s, LEASE_MIN_S)
            for (namespace, _), lease in self.leases.records.items()
            if (pod := self.pods.records.get((namespace, lease.holder))) is not None and pod.status.phase == "Running"
        ]
        return min(durations, default=math.inf)

    def suspect(self, node: str) -> None:
        """Avoid a node for a while: a pod on it fell silent."""
        now = self._clock()
        lately = {name: since for name, since in self._suspects.items() if now < since + SUSPICION_S}
        self._suspects = {**lately, node: now}

    def observe(self, key: Key, at: float) -> model.Observation | None:
        """Build the Observation of a job; None when it is gone, going, or set aside since it cannot be read."""
        job = self.jobs.known(key)
        if job is None or job.deleting:
            return None
        job = self._with_identity(job)
        memo = self.jobs.memo(job.uid)
        lease_s = job.policy.lease_duration_s
        if memo.identity != job.identity:  # what was made for another one is looked at again
            memo.identity, memo.prepared_at, memo.budgets, memo.granted = job.identity, -math.inf, None, frozenset()
        if job.adopted_uid:
            self._adopters[job.adopted_uid] = job.uid
        pods = self._pods(job, memo.killed)
        ranks = tuple(self._rank(job, Rank(rank), pods.get(str(rank), {})) for rank in range(job.policy.ranks))
        memo.killed = {pod.uid: pod.killed for some in pods.values() for pod in some.values() if pod.killed is not None}
        memo.vanished &= {lease.record.holder for view in ranks for lease in view.slots if lease is not None}
        observation = model.Observation(
            job=job,
            ranks=ranks,
            claim=self.claims.records.get((job.namespace, job.policy.claim_name)),
            nodes=dict(self.nodes.records.values()),
            hushed=self._hushed(at, lease_s),
            cut_off_at=self._cut_off_at.get(lease_s, -math.inf),
            scattered=self._scattered(lease_s),
            suspect_nodes=frozenset(n for n, since in self._suspects.items() if at < since + SUSPICION_S),
            prepared_at=memo.prepared_at,
            prepared_generation=memo.prepared_generation,
            granted=memo.granted,
            budgets=memo.budgets,
            problems=dict(memo.problems),
            namesakes=self._namesakes(job) if any(view.lease is None for view in ranks) else {},
            leftovers=self._leftovers(job) if any(view.lease is None for view in ranks) else (),
            unborn=frozenset(memo.unborn),
            vanished=frozenset(memo.vanished),
            status_written_at=memo.status_written_at,
        )
        if observation.control_plane_degraded:
            self._cut_off_at[lease_s] = at
        return observation

    def _at_work(self) -> Iterator[tuple[Key, LeaseRecord, str]]:
        """Find the Leases whose holders run and have reported, of all jobs, with their nodes."""
        for key, record in self.leases.records.items():
            pod = self.pods.records.get((record.namespace, record.holder))
            if pod is None or record.current_heartbeat is None or record.current_release is not None:
                continue
            # What has reported runs, also where a restored etcd has forgotten that its container was started.
            runs = pod.trainer is None or pod.trainer.terminated is None
            if runs and not pod.metadata.deletion_timestamp and pod.spec.node_name:
                yield key, record, pod.spec.node_name

    def _hushed(self, at: float, lease_s: int) -> Mapping[str, int]:
        """Count the silent workers by node if not one worker is heard, as a job with leases of `lease_s` has to see it.

        The first that is heard ends the search. What a worker with a longer lease said last is too old to tell whether
        workers can be heard now: it speaks for nobody, until it is silent by its own lease. Otherwise one job whose
        lease lasts an hour would make every other job believe for an hour that workers are heard.
        """
        found: Counter[str] = Counter()
        for key, record, node in self._at_work():
            silent_s = at - self._hearing.lease(key, record).silent_since
            if silent_s < _heard_within_s(record.patience_s, lease_s):
                return {}
            if silent_s >= record.patience_s:
                found[node] += 1
        return found

    def _scattered(self, lease_s: int) -> bool:
        """Tell whether workers that will be heard soon, if they live, are on several nodes; the second ends the search.

        Soon, for a job with leases of `lease_s`: it waits for a word of any of them.
        """
        work = self._at_work()
        nodes = (node for _, record, node in work if record.patience_s <= COMPARABLE * lease_s)
        first = next(nodes, None)
        return any(node != first for node in nodes)

    def _namesakes(self, job: model.Job) -> Mapping[str, bool]:
        """Find what an earlier job of this name has left; a pod of a lost node saves nothing any more."""
        return {
            name: pod.status.phase not in ("Succeeded", "Failed")
            and self.nodes.records.get(("", pod.spec.node_name or ""), ("", False))[1]
            for (namespace, name), pod in self.pods.records.items()
            if namespace == job.namespace
            and pod.metadata.labels.get(Label.JOB) == job.name
            and pod.metadata.labels.get(Label.JOB_UID) != job.identity
        }

    def _leftovers(self, job: model.Job) -> tuple[model.Leftover, ...]:
        """Find the Leases that an earlier job of this name has left, if one stands where this job needs one.

        Then those of ranks that this job has not are named as well.
        """
        left = [
            model.Leftover(record.name, (record.labels or {}).get(Label.JOB_UID, ""), going=bool(record.owner_uid))
            for (namespace, _), record in self.leases.records.items()
            if namespace == job.namespace
            and (record.labels or {}).get(Label.JOB) == job.name
            and names.is_lease_name(record.name, job.name)
            and not is_child(record, job.name, job.uid, job.identity)
        ]
        needed = set(lease_names(job.name, job.policy.ranks))
        return tuple(left) if any(lease.name in needed for lease in left) else ()

    def _with_identity(self, job: model.Job) -> model.Job:
        """Say under which uid the job's children stand: an earlier job's, if it has adopted those."""

        def lease(name: str) -> LeaseRecord | None:
            return self.leases.records.get((job.namespace, name))

        def taken(other: str) -> bool:
            return self.jobs.find(other) is not None or self.jobs.is_aside(other, job.name)

        told = job.status.adopted_uid
        adopted = find_identity(job.name, job.uid, told, job.policy.ranks, lease, taken)
        return replace(job, adopted_uid=adopted) if adopted else job

    def _is_of_a_job(self, lease: LeaseObject) -> bool:
        """Tell whether a Lease can be one of a known job: anybody may make others and label them so.

        Those that an earlier job has left are kept as well, since a job of that name may adopt them, or has to say that
        they are in its way. Without an owner they may be there before that job is: so many are kept, and no more.
        """
        meta = lease.metadata
        if meta.owner_references and (job := self.jobs.find(meta.owner_references[0].uid)) is not None:
            return names.is_lease_name(meta.name, job.name, job.policy.ranks)
        name = meta.labels.get(Label.JOB, "")
        # Of a job that cannot be read just now nobody knows the ranks. Its workers go on, and so it will be read again.
        if meta.owner_references and self.jobs.is_aside(meta.owner_references[0].uid, name):
            return names.is_lease_name(meta.name, name, RANKS_MAX)
        if (job := self.jobs.known((meta.namespace, name))) is not None:
            # With one rank more than the job has, it is not this job's shape that was left.
            return names.is_lease_name(meta.name, name, job.policy.ranks + 1)
        if not names.is_lease_name(meta.name, name):
            return False
        orphans = sum(not record.owner_uid for record in self.leases.records.values())
        return not meta.owner_references and orphans < ORPHANS_MAX

    def _pods(self, job: model.Job, killed: Mapping[str, model.Killed]) -> Mapping[str, Mapping[str, model.Pod]]:
        """Give the pods of a job by the label of their rank, then by name, in the order in which they were seen."""
        found: defaultdict[str, dict[str, model.Pod]] = defaultdict(dict)
        for key in self._pods_of.get((job.namespace, job.identity), ()):
            pod = self.pods.records[key]
            seen = self._sightings[pod.metadata.uid]
            found[pod.metadata.labels.get(Label.RANK, "")][pod.metadata.name] = pod_view(
                pod,
                seen_since=seen.seen_since,
                running_since=seen.running_since,
                deleting_since=seen.deleting_since,
                ending_since=seen.ending_since,
                killed=killed.get(pod.metadata.uid),
            )
        return found

    def _rank(self, job: model.Job, rank: Rank, pods: Mapping[str, model.Pod]) -> model.RankView:
        wanted = job.policy.redundancy
        some = range(max(wanted, MAX_REDUNDANCY))
        slots = [self._lease(job, slot_lease_name(job.name, rank, slot)) for slot in some]
        return model.RankView(
            rank=rank,
            lease=self._lease(job, rank_lease_name(job.name, rank)),
            slots=tuple(slots[:wanted]),
            pods=pods,
            surplus=tuple(lease for lease in slots[wanted:] if lease is not None and lease.record.holder),
        )

    def _lease(self, job: model.Job, name: str) -> model.Lease | None:
        key = (job.namespace, name)
        record = self.leases.records.get(key)
        if record is None or not is_child(record, job.name, job.uid, job.identity):
            return None
        return self._hearing.lease(key, record)

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
            self._sightings.pop(uid, None)
            if memo is not None:
                memo.vanished.add(meta.name)
        else:
            self._pods_of[index][key] = None
            if memo is not None:
                memo.unborn.pop(meta.name, None)
            seen = self._sightings.setdefault(uid, _Sighting(self._clock()))
            if new.metadata.deletion_timestamp and seen.deleting_since is None:
                seen.deleting_since = self._clock()
            state = new.trainer
            if state is not None and state.running is not None and seen.running_since == math.inf:
                seen.running_since = self._clock()
            if state is not None and state.terminated is not None and seen.ending_since is None:
                seen.ending_since = self._clock()
        self._wake((meta.namespace, meta.labels.get(Label.JOB, "")))

    def _lease_changed(self, old: LeaseRecord | None, new: LeaseRecord | None) -> None:
        lease = new or old
        assert lease is not None
        key = (lease.namespace, lease.name)
        late = False
        if new is None:
            self._hearing.forget(key)
        elif old is None or _renewal(old) != _renewal(new):
            # A redundant pod that was too quiet to be promoted may be waited for.
            same = old is not None and (old.holder, old.term) == (new.holder, new.term)
            late = self._hearing.changed(key, new.patience_s, by_worker=same)
            holder = self.pods.records.get((lease.namespace, new.holder))
            if old is not None and holder is not None and holder.spec.node_name is not None:
                self._suspects.pop(holder.spec.node_name, None)
            seen = self._sightings.get(holder.metadata.uid) if holder is not None else None
            if new.current_release is not None and seen is not None and seen.ending_since is None:
                seen.ending_since = self._clock()
        if late or old is None or new is None or _news(old) != _news(new):
            self._wake((lease.namespace, (lease.labels or {}).get(Label.JOB, "")))

    def _claim_changed(self, old: model.Claim | None, new: model.Claim | None) -> None:
        # A claim does not say whose it is (it may be the user's own), and claims change seldom.
        for key in self.jobs:
            self._wake(key)

    def _node_changed(self, old: tuple[str, bool] | None, new: tuple[str, bool] | None) -> None:
        if old != new:
            for key in self.jobs:
                self._wake(key)


def _heard_within_s(patience_s: int, lease_s: int) -> float:
    """Say for how long a worker counts as heard after a renewal, for a job with leases of `lease_s`.

    For its own lease, if that is no longer; else for as long as the job's lasts. One that renews seldom, but not much
    more so, counts until it is late, or there would be moments between its renewals in which it did not.
    """
    if patience_s <= lease_s:
        return patience_s
    return max(lease_s, model.LATE * patience_s) if patience_s <= COMPARABLE * lease_s else lease_s


def _renewal(lease: LeaseRecord) -> tuple[object, ...]:
    return (lease.renew_time, lease.holder, lease.term, lease.heartbeat, lease.release)


def _news(lease: LeaseRecord) -> tuple[object, ...]:
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
