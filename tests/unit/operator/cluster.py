"""What everybody but the operator does in a second of the tiny world: scheduler, kubelets, agents.

An agent obeys the rules that make a promotion safe: it acknowledges at once, renews at a third of the lease, hands over
when its pod is deleted, never is redundant again once it was primary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from understudy_contract.exits import ReleaseReason
from understudy_contract.lease import LeaseRecord, micro_time
from understudy_contract.names import rank_lease_name, slot_lease_name
from understudy_contract.reports import CheckpointRef, FirstStep, Heartbeat, Phase, Release
from understudy_operator.core.model import Claim, Pod, Running, Terminated

from tests.unit.operator.world import World

NODE_GRACE_S = 40.0
"""The node controller's patience with a silent kubelet."""
WARM_UP_S = 3.0


@dataclass(frozen=True)
class Cluster:
    """The world, and what of it no API object tells."""

    world: World
    frozen: frozenset[str] = frozenset()
    """uids of pods whose processes stand still."""
    down: Mapping[str, float] = field(default_factory=dict)
    """Nodes without power, since when."""
    was_primary: frozenset[str] = frozenset()
    trained: Mapping[str, int] = field(default_factory=dict)
    """Steps by uid of a primary."""
    modes: tuple[str, ...] = ("ReadWriteMany",)

    def hears(self, pod: Pod) -> bool:
        """Tell whether the pod's agent runs and reaches the API."""
        return isinstance(pod.container, Running) and pod.uid not in self.frozen and pod.node not in self.down


def second(cluster: Cluster) -> Cluster:
    """Let a second pass."""
    cluster = replace(cluster, world=replace(cluster.world, at=cluster.world.at + 1.0))
    cluster = _nodes(cluster)
    for name in sorted(cluster.world.pods):
        cluster = _kubelet(cluster, cluster.world.pods[name])
        pod = cluster.world.pods.get(name)
        if pod is not None and cluster.hears(pod):
            cluster = _agent(cluster, pod)
    return cluster


def end_container(cluster: Cluster, name: str, code: int) -> Cluster:
    """End a pod's container."""
    pod = cluster.world.pods[name]
    ended = Terminated(code, "Completed" if code == 0 else "Error", "", micro_time(cluster.world.now.wall))
    phase = "Succeeded" if code == 0 else "Failed"
    return replace(cluster, world=cluster.world.put_pod(replace(pod, container=ended, phase=phase)))


def release(cluster: Cluster, record: LeaseRecord, pod: Pod, reason: ReleaseReason, code: int) -> Cluster:
    """Let a holder give its Lease up, and end."""
    beat = record.current_heartbeat
    written = replace(record, release=Release(record.term, reason, code), renew_time=micro_time(cluster.world.now.wall))
    if beat is not None and reason in (ReleaseReason.HANDED_OVER, ReleaseReason.COMPLETED):
        saved = CheckpointRef(record.term, beat.step, "handed over")
        last = Heartbeat(pod=pod.name, term=record.term, phase=beat.phase, step=beat.step, checkpoint=saved)
        written = replace(written, heartbeat=last)
    return end_container(replace(cluster, world=cluster.world.put_lease(written)), pod.name, code)


def cut_power(cluster: Cluster, node: str) -> Cluster:
    """Take a node's power."""
    return cluster if node in cluster.down else replace(cluster, down={**cluster.down, node: cluster.world.at})


def restore_power(cluster: Cluster, node: str) -> Cluster:
    """Give it back: what ran there has ended."""
    if node not in cluster.down:
        return cluster
    down = {n: since for n, since in cluster.down.items() if n != node}
    cluster = replace(cluster, down=down, world=replace(cluster.world, nodes={**cluster.world.nodes, node: True}))
    for pod in list(cluster.world.pods.values()):
        if pod.node == node and not pod.ended:
            cluster = end_container(cluster, pod.name, 137)
    return _wake(cluster)


def _wake(cluster: Cluster) -> Cluster:
    return replace(cluster, world=cluster.world.remember(woken=True))


def _nodes(cluster: Cluster) -> Cluster:
    for node, since in cluster.down.items():
        if cluster.world.at >= since + NODE_GRACE_S and cluster.world.nodes[node]:
            cluster = _wake(replace(cluster, world=replace(cluster.world, nodes={**cluster.world.nodes, node: False})))
    return cluster


def _kubelet(cluster: Cluster, pod: Pod) -> Cluster:
    world = cluster.world
    if pod.node is None:
        node = _schedule(cluster, pod)
        if node is None:
            if not pod.scheduling:
                return replace(cluster, world=world.put_pod(replace(pod, scheduling="0/2 nodes are available.")))
            return cluster
        world = world.put_pod(replace(pod, node=node, scheduling=""))
        if world.claim is None or not world.claim.bound:
            claim = Claim(world.job.policy.claim_name, "Bound", cluster.modes)
            world = replace(world, claim=claim).remember(woken=True)
        return replace(cluster, world=world)
    if pod.node in cluster.down:
        return cluster
    if pod.deleting_since is not None:
        over = world.at >= pod.deleting_since + world.job.policy.grace_period_s
        if pod.ended or pod.container is None or over:
            return replace(cluster, world=world.drop_pod(pod.name))
        return cluster
    if pod.container is None and not pod.ended:
        running = replace(pod, container=Running(world.at), phase="Running")
        return replace(cluster, world=world.put_pod(running))
    return cluster


def _schedule(cluster: Cluster, pod: Pod) -> str | None:
    world = cluster.world
    placement = world.placements[pod.uid]
    fit = [node for node, ready in world.nodes.items() if ready]
    peers = [p for p in world.pods.values() if p.node is not None and not p.ended]
    if placement.together and peers:
        fit = [node for node in fit if any(p.node == node for p in peers)]
    avoid = dict(placement.avoid_nodes)
    load = {node: sum(p.node == node and p.role is not None and p.rank == pod.rank for p in peers) for node in fit}
    return min(fit, key=lambda node: (avoid.get(node, 0), load[node], node), default=None)


def _agent(cluster: Cluster, pod: Pod) -> Cluster:
    world = cluster.world
    record = world.leases.get(rank_lease_name(world.job.name, pod.rank))
    if record is None:
        return cluster
    if record.holder == pod.name:
        return _as_primary(replace(cluster, was_primary=cluster.was_primary | {pod.uid}), record, pod)
    for slot in range(world.job.policy.redundancy):
        own = world.leases.get(slot_lease_name(world.job.name, pod.rank, slot))
        if own is not None and own.holder == pod.name and pod.uid not in cluster.was_primary:
            return _as_redundant(cluster, own, record, pod)
    return end_container(cluster, pod.name, 81)


def _due(world: World, record: LeaseRecord, beat: Heartbeat) -> bool:
    old = record.current_heartbeat
    return old is None or (old.phase, old.loaded) != (beat.phase, beat.loaded) or world.at % (record.duration_s / 3) < 1


def _as_primary(cluster: Cluster, record: LeaseRecord, pod: Pod) -> Cluster:
    world = cluster.world
    beat = record.current_heartbeat
    if pod.deleting_since is not None:
        return release(cluster, record, pod, ReleaseReason.HANDED_OVER, 82)
    assert isinstance(pod.container, Running)
    if beat is None:
        beat = Heartbeat(pod=pod.name, term=record.term, phase=Phase.STARTING, step=record.floor_step)
    elif world.at >= pod.container.since + WARM_UP_S:
        # Step 0 is committed before the first step; later every tenth step is.
        floor = record.floor or CheckpointRef(record.term, 0, "first")
        done = cluster.trained.get(pod.uid, floor.step) + 1
        cluster = replace(cluster, trained={**cluster.trained, pod.uid: done})
        saved = CheckpointRef(record.term, done, "saved") if done % 10 == 0 else floor
        first = beat.first_step or FirstStep(done, micro_time(world.now.wall))
        beat = Heartbeat(
            pod=pod.name, term=record.term, phase=Phase.TRAINING, step=done, checkpoint=saved, first_step=first
        )
    return _renew(cluster, record, beat)


def _as_redundant(cluster: Cluster, own: LeaseRecord, record: LeaseRecord, pod: Pod) -> Cluster:
    world = cluster.world
    if pod.deleting_since is not None:
        return end_container(cluster, pod.name, 0)
    assert isinstance(pod.container, Running)
    warm = record.floor is not None and world.at >= pod.container.since + WARM_UP_S
    phase = Phase.READY if warm else Phase.STARTING
    beat = Heartbeat(pod=pod.name, term=own.term, phase=phase, loaded=record.floor if warm else None)
    return _renew(cluster, own, beat)


def _renew(cluster: Cluster, record: LeaseRecord, beat: Heartbeat) -> Cluster:
    world = cluster.world
    if not _due(world, record, beat):
        return cluster
    return replace(
        cluster, world=world.put_lease(replace(record, heartbeat=beat, renew_time=micro_time(world.now.wall)))
    )
