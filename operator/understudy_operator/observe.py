"""What is known of one job, as an Observation: frozen values that a decision is made of.

Without side effects: equal caches and times give equal Observations, however often they are asked for. What a decision
has to leave behind for the next one, `World.take_note` remembers.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from understudy_contract.lease import LeaseRecord
from understudy_contract.names import MAX_REDUNDANCY, Label, Rank, rank_lease_name, slot_lease_name
from understudy_kube.informer import Key

from understudy_operator.core.adoption import find_identity, is_child
from understudy_operator.core.fleet import Fleet
from understudy_operator.core.model import Claim, Job, Killed, Lease, Observation, Pod, RankView
from understudy_operator.fleet import on_several_nodes, silent_workers_by_node
from understudy_operator.memo import Memo
from understudy_operator.objects import pod_view
from understudy_operator.predecessors import leftovers, predecessor_pods
from understudy_operator.world import World


def observe(world: World, key: Key, at: float) -> Observation | None:
    """Build the Observation of a job; None when it is gone, going, or set aside since it cannot be read."""
    known = world.jobs.known(key)
    if known is None or known.deleting:
        return None
    job = _with_identity(world, known)
    memo = world.jobs.find_memo(job.uid) or Memo()
    ours = memo.identity == job.identity  # else its children were made for another one, and are looked at anew
    pods = _pods(world, job, memo.killed)
    ranks = tuple(_rank(world, job, Rank(rank), pods.get(str(rank), {})) for rank in range(job.policy.ranks))
    claim = world.claims.records.get((job.namespace, job.policy.claim_name))
    opens = any(view.lease is None for view in ranks)
    named = {lease.record.holder for view in ranks for lease in view.slots if lease is not None}
    return Observation(
        job=job,
        ranks=ranks,
        claim=claim,
        fleet=_fleet(world, job, claim, at),
        suspect_nodes=world.sightings.suspects(at),
        prepared_at=memo.prepared_at if ours else -math.inf,
        prepared_generation=memo.prepared_generation,
        granted=memo.granted if ours else frozenset(),
        budgets=memo.budgets if ours else None,
        problems=dict(memo.problems),
        predecessor_pods=predecessor_pods(job, world.pods.records, world.nodes.records) if opens else {},
        leftovers=leftovers(job, world.leases.records) if opens else (),
        pending_pods=frozenset(memo.pending_pods),
        deleted_pods=frozenset(memo.deleted_pods & named),
        status_written_at=memo.status_written_at,
    )


def _with_identity(world: World, job: Job) -> Job:
    """Say under which uid the job's children stand: an earlier job's, if it has adopted those."""

    def lease(name: str) -> LeaseRecord | None:
        return world.leases.records.get((job.namespace, name))

    def taken(other: str) -> bool:
        return world.jobs.find(other) is not None or world.jobs.is_aside(other, job.name)

    told = job.status.adopted_uid
    adopted = find_identity(job.name, job.uid, told, job.policy.ranks, lease, taken)
    return replace(job, adopted_uid=adopted) if adopted else job


def _fleet(world: World, job: Job, claim: Claim | None, at: float) -> Fleet:
    lease_s, leases, pods = job.policy.lease_duration_s, world.leases.records, world.pods.records
    return Fleet(
        at=at,
        nodes=dict(world.nodes.records.values()),
        silent_workers_by_node=silent_workers_by_node(leases, pods, world.hearing, at, lease_s),
        was_degraded_at=world.sightings.degraded_at(lease_s),
        on_several_nodes=on_several_nodes(leases, pods, lease_s),
        any_worker_heard_at=world.hearing.any_worker_heard_at,
        one_node=claim is not None and claim.bound and not claim.shared,
    )


def _pods(world: World, job: Job, killed: Mapping[str, Killed]) -> Mapping[str, Mapping[str, Pod]]:
    """Give the pods of a job by the label of their rank, then by name, in the order in which they were seen."""
    found: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
    for pod in world.pods_of(job):
        seen = world.sightings.pod(pod.metadata.uid)
        found[pod.metadata.labels.get(Label.RANK, "")][pod.metadata.name] = pod_view(
            pod,
            seen_since=seen.seen_since,
            running_since=seen.running_since,
            deleting_since=seen.deleting_since,
            ending_since=seen.ending_since,
            killed=killed.get(pod.metadata.uid),
        )
    return found


def _rank(world: World, job: Job, rank: Rank, pods: Mapping[str, Pod]) -> RankView:
    wanted = job.policy.redundancy
    some = range(max(wanted, MAX_REDUNDANCY))
    slots = [_lease(world, job, slot_lease_name(job.name, rank, slot)) for slot in some]
    return RankView(
        rank=rank,
        lease=_lease(world, job, rank_lease_name(job.name, rank)),
        slots=tuple(slots[:wanted]),
        pods=pods,
        surplus=tuple(lease for lease in slots[wanted:] if lease is not None and lease.record.holder),
    )


def _lease(world: World, job: Job, name: str) -> Lease | None:
    key = (job.namespace, name)
    record = world.leases.records.get(key)
    if record is None or not is_child(record, job.name, job.uid, job.identity):
        return None
    return world.hearing.lease(key, record)
