"""Actions carried out in the tiny world: `apply(world, action)` is pure.

Guards are those of the API: resourceVersion for Leases and labels, uid for deletions.
"""

from dataclasses import replace
from typing import Any, assert_never

import msgspec
from understudy_contract.exits import ReleaseReason
from understudy_contract.lease import LeaseObject, LeaseRecord, micro_time
from understudy_contract.names import Annotation, Role, Term, pod_name, rank_lease_name, slot_lease_name
from understudy_contract.reports import Release
from understudy_operator.core.actions import (
    Action,
    AskWhy,
    AssignSlot,
    ClearSwitchover,
    CreatePod,
    DeleteJob,
    DeletePod,
    Emit,
    EndPod,
    FindPod,
    GrantRights,
    KeepBudgets,
    OpenRank,
    OpenSlot,
    PatchLease,
    Prepare,
    Promote,
    Relabel,
    WriteStatus,
)
from understudy_operator.core.model import Claim, Killed, Pod

from tests.unit.operator.world import World, delete, sync


class ConflictError(Exception):
    """The API refused a write: what it was decided on has changed."""


def _swap(world: World, record: LeaseRecord, **changes: Any) -> World:
    """Compare and set."""
    truth = world.leases.get(record.name)
    if truth is None or truth.resource_version != record.resource_version:
        raise ConflictError(record.name)
    return world.put_lease(replace(truth, **changes), own=True)


def _bare(world: World, name: str, **fields: Any) -> LeaseRecord:
    values: dict[str, Any] = {
        "name": name,
        "namespace": world.job.namespace,
        "uid": f"lease-{world.version}",
        "resource_version": "",
        "holder": "",
        "term": Term(0),
        "duration_s": world.job.policy.lease_duration_s,
        "renew_time": micro_time(world.now.wall),
        "owner_uid": world.job.uid,
    }
    return LeaseRecord(**{**values, **fields})


def _fields(patch: PatchLease) -> dict[str, Any]:
    """Translate what a patch writes into fields of a record, by reading it as the API's JSON."""
    notes = {str(name): text for name, text in patch.annotations.items() if text is not None}
    meta = {"name": "l", "namespace": "n", "uid": "u", "resourceVersion": "1", "annotations": notes}
    written = msgspec.convert({"metadata": meta, "spec": dict(patch.spec)}, LeaseObject).record()
    return {_FIELDS[change]: getattr(written, _FIELDS[change]) for change in (*patch.annotations, *patch.spec)}


_FIELDS = {
    Annotation.GIVEN_UP: "given_up",
    Annotation.SWITCHOVER: "switchover",
    Annotation.FORMER_DURATION: "former_duration_s",
    Annotation.RELEASED: "release",
    Annotation.NOTICE: "notice",
    Annotation.FLOOR: "operator_floor",
    "holderIdentity": "holder",
    "leaseTransitions": "term",
    "leaseDurationSeconds": "duration_s",
}


def apply(world: World, action: Action, *, torn: bool = False) -> World:  # noqa: C901 - one case an action
    """Carry an action out; raises ConflictError. `torn`: the process dies between the two writes of an AssignSlot."""
    job, memory = world.job, world.memory
    match action:
        case Prepare():
            claim = world.claim or Claim(job.policy.claim_name, "Pending", ())
            return replace(world, claim=claim).remember(prepared_at=world.at)
        case AskWhy(pod):
            return world.remember(killed={**memory.killed, pod.uid: Killed()})
        case OpenRank(rank, term, holder, incarnation, floor, complete, promotion):
            name = rank_lease_name(job.name, rank)
            if name in world.leases:
                return sync(world)
            known = {"operator_floor": floor, "promotion": promotion}
            release = Release(term, ReleaseReason.COMPLETED, 0) if complete else None
            opened = _bare(world, name, holder=holder, term=term, incarnation=incarnation, release=release, **known)
            world = world.put_lease(opened, own=True)
            return (
                world
                if complete or holder in memory.pods
                else world.remember(pending_pods=memory.pending_pods | {holder})
            )
        case OpenSlot(rank, slot):
            name = slot_lease_name(job.name, rank, slot)
            return sync(world) if name in world.leases else world.put_lease(_bare(world, name), own=True)
        case Promote():
            record = action.lease
            world = _swap(
                world,
                record,
                holder=action.target,
                term=action.term,
                incarnation=record.incarnation + action.cold,
                failures=action.failures,
                operator_floor=action.floor or record.operator_floor,
                promotion=action.promotion or record.promotion,
                release=None,
                notice=None,
                duration_s=job.policy.lease_duration_s,
                former_duration_s=0,
                renew_time=micro_time(world.now.wall),
            )
            if action.cold:
                world = world.remember(pending_pods=memory.pending_pods | {action.target})
            return _suspect(world, action.suspect_node)
        case PatchLease():
            world = _swap(world, action.record, **_fields(action))
            gone = {action.record.holder} if "holderIdentity" in action.spec else set()
            return world.remember(pending_pods=world.memory.pending_pods - gone)
        case GrantRights():
            return world.remember(granted=frozenset((job.policy.account_name, lease) for lease in action.leases))
        case KeepBudgets():
            return world.remember(budgets=action.wanted)
        case ClearSwitchover():
            return replace(world, job=replace(job, switchover=None)).remember(woken=True)
        case AssignSlot():
            rank_record = action.rank_lease
            world = _swap(world, rank_record, incarnation=rank_record.incarnation + 1)
            if torn:
                return world
            name = pod_name(job.name, action.rank, rank_record.incarnation)
            world = _swap(
                world,
                action.lease,
                holder=name,
                term=Term(action.lease.term + 1),
                failures=action.failures,
                heartbeat=None,
                release=None,
                notice=None,
                duration_s=job.policy.lease_duration_s,
                former_duration_s=0,
                renew_time=micro_time(world.now.wall),
            )
            return _suspect(world.remember(pending_pods=world.memory.pending_pods | {name}), action.suspect_node)
        case CreatePod():
            if action.name in world.pods:
                return sync(world).remember(pending_pods=memory.pending_pods - {action.name})
            role = Role.PRIMARY if action.slot is None else Role.REDUNDANT
            pod = Pod(
                name=action.name,
                uid=f"pod-{world.version}",
                resource_version="",
                rank=action.rank,
                role=role,
                term=action.term if role is Role.PRIMARY else None,
                node=None,
                created=micro_time(world.now.wall),
                phase="Pending",
                reason="",
                deleting_since=None,
                deletion_time="",
                scheduling="",
                container=None,
            )
            world = replace(world, placements={**world.placements, pod.uid: action.placement})
            return world.put_pod(pod, own=True).remember(pending_pods=memory.pending_pods - {action.name})
        case FindPod(_, name):
            return sync(world).remember(pending_pods=memory.pending_pods - {name})
        case Relabel(pod, role, term):
            truth = world.pods.get(pod.name)
            if truth is None:
                return sync(world, leases=False)
            if truth.resource_version != pod.resource_version:
                raise ConflictError(pod.name)
            return world.put_pod(replace(truth, role=role, term=term), own=True)
        case DeletePod(pod, _):
            truth = world.pods.get(pod.name)
            if truth is None or truth.uid != pod.uid:
                return sync(world, leases=False)
            return delete(world, pod.name, own=True)
        case EndPod():
            raise AssertionError("no pod of the tiny world has a sidecar")
        case DeleteJob():
            raise AssertionError("no job of the tiny world asks to be deleted")
        case WriteStatus(status):
            return replace(world, job=replace(job, status=status)).remember(status_written_at=world.at, woken=True)
        case Emit():
            return world.remember(emitted=memory.emitted | {action.key})
        case _:
            assert_never(action)


def _suspect(world: World, node: str | None) -> World:
    return world if node is None else world.remember(suspects={**world.memory.suspects, node: world.at})
