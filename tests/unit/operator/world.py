"""A tiny API server and the memory of one operator process, as frozen values.

The operator sees the truth through a cache. Its own writes enter the cache at once, as the informers do it; what others
write enters it with `sync`, Leases and pods apart, so that any mixture of old and new can be decided on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from understudy_contract.lease import LeaseRecord, micro_time
from understudy_contract.names import Rank, rank_lease_name, slot_lease_name
from understudy_operator.core.actions import (
    Placement,
)
from understudy_operator.core.fleet import Fleet
from understudy_operator.core.model import LATE, Claim, Job, Killed, Lease, Now, Observation, Pod, RankView, Running
from understudy_operator.sightings import SUSPICION_S
from understudy_operator.world import news, renewal

INFINITY = float("inf")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Memory:
    """What one operator process knows; lost with it."""

    leases: Mapping[str, LeaseRecord] = field(default_factory=dict)
    pods: Mapping[str, Pod] = field(default_factory=dict)
    renewed_at: Mapping[str, float] = field(default_factory=dict)
    steady_since: Mapping[str, float] = field(default_factory=dict)
    running_since: Mapping[str, float] = field(default_factory=dict)
    deleting_since: Mapping[str, float] = field(default_factory=dict)
    contact_at: float = 0.0
    heard_at: float = -INFINITY
    any_worker_steady_since: float = -INFINITY
    prepared_at: float = -INFINITY
    granted: frozenset[tuple[str | None, str]] = frozenset()
    budgets: bool | None = None
    pending_pods: frozenset[str] = frozenset()
    emitted: frozenset[str] = frozenset()
    suspects: Mapping[str, float] = field(default_factory=dict)
    killed: Mapping[str, Killed] = field(default_factory=dict)
    status_written_at: float = -INFINITY
    woken: bool = True
    wake_at: float = INFINITY


@dataclass(frozen=True)
class World:
    """The truth, and the memory of the operator."""

    job: Job
    at: float = 1000.0
    version: int = 1
    leases: Mapping[str, LeaseRecord] = field(default_factory=dict)
    pods: Mapping[str, Pod] = field(default_factory=dict)
    placements: Mapping[str, Placement] = field(default_factory=dict)
    """By uid: what the pod was created with."""
    claim: Claim | None = None
    nodes: Mapping[str, bool] = field(default_factory=lambda: {"node-a": True, "node-b": True})
    memory: Memory = Memory()

    @property
    def now(self) -> Now:
        """Both clocks."""
        return Now(self.at, EPOCH + timedelta(seconds=self.at))

    def put_lease(self, record: LeaseRecord, *, own: bool = False) -> "World":
        """Store a Lease under a new version."""
        record = replace(record, resource_version=str(self.version + 1))
        world = replace(self, version=self.version + 1, leases={**self.leases, record.name: record})
        return _cache_lease(world, record) if own else world

    def put_pod(self, pod: Pod, *, own: bool = False) -> "World":
        """Store a pod under a new version."""
        pod = replace(pod, resource_version=str(self.version + 1))
        world = replace(self, version=self.version + 1, pods={**self.pods, pod.name: pod})
        return _cache_pod(world, pod) if own else world

    def drop_pod(self, name: str) -> "World":
        """Forget a pod: its object is gone."""
        return replace(self, pods={n: p for n, p in self.pods.items() if n != name})

    def drop_lease(self, name: str) -> "World":
        """Forget a Lease: somebody deleted it."""
        return replace(self, leases={n: r for n, r in self.leases.items() if n != name})

    def rank_lease(self, rank: int) -> LeaseRecord | None:
        """The Lease of a rank, in truth."""
        return self.leases.get(rank_lease_name(self.job.name, rank))

    def remember(self, **changes: Any) -> "World":
        """Change the operator's memory."""
        return replace(self, memory=replace(self.memory, **changes))


def _cache_lease(world: World, record: LeaseRecord) -> World:
    memory = world.memory
    old = memory.leases.get(record.name)
    changes: dict[str, Any] = {"leases": {**memory.leases, record.name: record}}
    late = False
    if old is None or renewal(old) != renewal(record):
        silent_s = world.at - memory.renewed_at.get(record.name, INFINITY)
        late = silent_s >= LATE * record.duration_s
        if silent_s >= record.duration_s / 2 or old is None:
            changes["steady_since"] = {**memory.steady_since, record.name: world.at}
        changes["renewed_at"] = {**memory.renewed_at, record.name: world.at}
        if old is not None and (old.holder, old.term) == (record.holder, record.term):
            gap = world.at - memory.heard_at > record.duration_s / 2
            changes |= {
                "heard_at": world.at,
                "any_worker_steady_since": world.at if gap else memory.any_worker_steady_since,
            }
        holder = memory.pods.get(record.holder)
        if old is not None and holder is not None:
            changes["suspects"] = {n: at for n, at in memory.suspects.items() if n != holder.node}
    if late or old is None or news(old) != news(record):
        changes["woken"] = True
    return world.remember(**changes)


def _cache_pod(world: World, pod: Pod) -> World:
    memory = world.memory
    changes: dict[str, Any] = {"pods": {**memory.pods, pod.name: pod}, "woken": True}
    if pod.deleting_since is not None and pod.uid not in memory.deleting_since:
        changes["deleting_since"] = {**memory.deleting_since, pod.uid: world.at}
    if isinstance(pod.container, Running) and pod.uid not in memory.running_since:
        changes["running_since"] = {**memory.running_since, pod.uid: world.at}
    return world.remember(**changes)


def sync(world: World, *, leases: bool = True, pods: bool = True) -> World:
    """Let the operator's watches deliver what has changed."""
    if pods:
        for pod in world.pods.values():
            if world.memory.pods.get(pod.name) != pod:
                world = _cache_pod(world, pod)
        if gone := set(world.memory.pods) - set(world.pods):
            left = {n: p for n, p in world.memory.pods.items() if n not in gone}
            world = world.remember(pods=left, woken=True)
    if leases:
        for record in world.leases.values():
            if world.memory.leases.get(record.name) != record:
                world = _cache_lease(world, record)
        if gone := set(world.memory.leases) - set(world.leases):
            kept = {n: r for n, r in world.memory.leases.items() if n not in gone}
            world = world.remember(leases=kept, woken=True)
    return world


def restart(world: World) -> World:
    """End the operator's process and start another: all memory is lost, everything is listed anew."""
    return sync(replace(world, memory=Memory(contact_at=world.at)))


def observe(world: World) -> Observation:
    """Build what the operator would decide on."""
    memory, job = world.memory, world.job

    def lease(name: str) -> Lease | None:
        record = memory.leases.get(name)
        if record is None:
            return None
        changed_at = memory.renewed_at[name]
        silent_since = max(changed_at, memory.contact_at)
        quiet = world.at - memory.heard_at > record.duration_s / 2
        workers_since = INFINITY if quiet else memory.any_worker_steady_since
        return Lease(record, changed_at, silent_since, workers_since, memory.steady_since[name])

    def pod(seen: Pod) -> Pod:
        container = seen.container
        if isinstance(container, Running):
            container = Running(memory.running_since[seen.uid])
        since = memory.deleting_since[seen.uid] if seen.deleting_since is not None else None
        return replace(seen, container=container, deleting_since=since, killed=memory.killed.get(seen.uid))

    return Observation(
        job=job,
        ranks=tuple(
            RankView(
                rank=Rank(rank),
                lease=lease(rank_lease_name(job.name, rank)),
                slots=tuple(lease(slot_lease_name(job.name, rank, s)) for s in range(job.policy.redundancy)),
                pods={p.name: pod(p) for p in memory.pods.values() if p.rank == rank},
            )
            for rank in range(job.policy.ranks)
        ),
        claim=world.claim,
        fleet=Fleet(
            at=world.at,
            nodes=world.nodes,
            silent_workers_by_node={},
            was_degraded_at=-INFINITY,
            on_several_nodes=False,
            any_worker_heard_at=memory.heard_at,
            one_node=world.claim is not None and world.claim.bound and not world.claim.shared,
        ),
        suspect_nodes=frozenset(n for n, at in memory.suspects.items() if world.at < at + SUSPICION_S),
        prepared_at=memory.prepared_at,
        prepared_generation=job.generation,
        granted=memory.granted,
        budgets=memory.budgets,
        problems={},
        predecessor_pods={},
        leftovers=(),
        pending_pods=memory.pending_pods,
        deleted_pods=frozenset(),
        status_written_at=memory.status_written_at,
    )


def delete(world: World, name: str, *, own: bool = False) -> World:
    """Ask a pod to go; one that is bound to no node, or has ended, goes at once."""
    pod = world.pods[name]
    if pod.node is None or pod.ended:
        world = world.drop_pod(name)
        return sync(world, leases=False) if own else world
    if pod.deleting_since is not None:
        return _cache_pod(world, pod) if own else world
    return world.put_pod(replace(pod, deleting_since=world.at, deletion_time=micro_time(world.now.wall)), own=own)
