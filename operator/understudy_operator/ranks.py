"""The Leases of ranks and slots, compared and set.

Guarantees that a write goes through only if the Lease is as it was when the decision fell (its resourceVersion): of
two operators, or of an operator and a worker that renews, one is refused, takes in what stands there and decides anew.
What only operators write and no renewal touches is guarded by holder, term and number instead, but for a term that is
raised under its holder: where the API server takes seconds for a call, a renewal lies between every decision and its
write. The answers go into the informer at once. A write that took effect, and whose answer was lost, is refused when
the client sends it again, and known by its stamp.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from understudy_contract import names
from understudy_contract.lease import LeaseRecord, annotation_pointer, encode, micro_time
from understudy_contract.names import Annotation
from understudy_kube.client import Api, Conflict, Invalid, NotFound
from understudy_kube.informer import Key

from understudy_operator import children
from understudy_operator.core.actions import AssignSlot, Guard, OpenRank, OpenSlot, PatchLease, Promote
from understudy_operator.core.model import Job, Now
from understudy_operator.creation import create
from understudy_operator.memo import Memo
from understudy_operator.world import World

log: Final = logging.getLogger("understudy")


class Ranks:
    """Who holds which rank and slot, and in which term."""

    def __init__(self, api: Api, world: World) -> None:
        self._api = api
        self._world = world

    async def open_rank(self, job: Job, action: OpenRank, memo: Memo, now: Now) -> None:
        """Make the Lease of a rank."""
        body = children.rank_lease(job, action, now)
        if not action.complete and (job.namespace, action.holder) not in self._world.pods.records:
            memo.expect(action.holder)
        self._world.leases.upsert(await create(self._api, job, _path(job), body))

    async def open_slot(self, job: Job, action: OpenSlot) -> None:
        """Make the Lease of a slot."""
        body = children.slot_lease(job, action.rank, action.slot)
        self._world.leases.upsert(await create(self._api, job, _path(job), body))

    async def patch(self, job: Job, action: PatchLease, memo: Memo) -> None:
        """Change a Lease otherwise than by a new holder."""
        write = self._swap if action.guard is Guard.VERSION else self._amend
        await write(job, action.record, action.annotations, action.spec)
        if "holderIdentity" in action.spec:
            memo.expect_no_more(action.record.holder)
        if action.log:
            log.warning("%s/%s rank %d: %s", job.namespace, job.name, action.rank, action.log)

    async def promote(self, job: Job, action: Promote, memo: Memo) -> None:
        """Give a rank to another pod: the one write that makes a primary."""
        lease = action.lease
        notes: dict[str, str | None] = {
            Annotation.FAILURES: str(action.failures),
            Annotation.FORMER_DURATION: None,
            Annotation.RELEASED: None,
            Annotation.NOTICE: None,
        }
        if action.cold:
            notes[Annotation.INCARNATION] = str(lease.incarnation + 1)
        if action.floor is not None:
            notes[Annotation.FLOOR] = encode(action.floor)
        if not lease.holder:
            notes[Annotation.ACTIVE_SINCE] = micro_time(datetime.now(UTC))
        if action.promotion is not None:
            promoted = msgspec.structs.replace(action.promotion, promoted_at=micro_time(datetime.now(UTC)))
            notes[Annotation.PROMOTION] = encode(promoted)
        if action.cold:
            memo.expect(action.target)
        spec = {
            "holderIdentity": action.target,
            "leaseTransitions": action.term,
            "leaseDurationSeconds": job.policy.lease_duration_s,
            "renewTime": micro_time(datetime.now(UTC)),
        }
        try:
            await self._swap(job, lease, notes, spec)
        except Conflict:
            if action.cold:
                memo.refused(action.target)  # its number was not taken: another pod may get it
            raise
        if action.suspect_node is not None:
            self._world.sightings.suspect(action.suspect_node)
        unseen = f"{lease.holder} was never seen" if lease.holder else "the job is resumed"
        cause = action.promotion.message if action.promotion else unseen
        log.warning(
            "%s/%s rank %d: %s -> %s, term %d (%s)",
            job.namespace, job.name, action.rank, lease.holder or "nobody", action.target, action.term, cause,
        )  # fmt: skip

    async def assign_slot(self, job: Job, action: AssignSlot, memo: Memo) -> str:
        """Give a slot to a pod to come; return its name, which no pod had before."""
        rank = action.rank_lease
        await self._amend(job, rank, {Annotation.INCARNATION: str(rank.incarnation + 1)}, {})
        name = names.pod_name(job.name, action.rank, rank.incarnation)
        memo.expect(name)
        notes = {
            Annotation.FAILURES: str(action.failures),
            Annotation.FORMER_DURATION: None,
            Annotation.HEARTBEAT: None,
            Annotation.RELEASED: None,
            Annotation.NOTICE: None,
        }
        spec = {
            "holderIdentity": name,
            "leaseTransitions": action.lease.term + 1,
            "leaseDurationSeconds": job.policy.lease_duration_s,
            "renewTime": micro_time(datetime.now(UTC)),
        }
        try:
            await self._swap(job, action.lease, notes, spec)
        except Conflict:
            memo.refused(name)  # its number is spent, and no pod will have it
            raise
        if action.suspect_node is not None:
            self._world.sightings.suspect(action.suspect_node)
        return name

    async def _amend(
        self, job: Job, lease: LeaseRecord, annotations: Mapping[Annotation, str | None], spec: Mapping[str, Any]
    ) -> None:
        """Change a Lease if its holder and term are still those that are known, and its incarnation where that changes.

        Renewals in between do not matter.
        """
        if not lease.holder:
            await self._swap(job, lease, annotations, spec)
            return
        path = f"{_path(job)}/{lease.name}"
        patch: list[dict[str, Any]] = [
            {"op": "test", "path": "/spec/holderIdentity", "value": lease.holder},
            {"op": "test", "path": "/spec/leaseTransitions", "value": lease.term},
        ]
        if Annotation.INCARNATION in annotations:
            number = str(lease.incarnation)
            patch.append({"op": "test", "path": annotation_pointer(Annotation.INCARNATION), "value": number})
        patch += [{"op": "add", "path": annotation_pointer(name), "value": text} for name, text in annotations.items()]
        patch += [{"op": "add", "path": f"/spec/{field}", "value": value} for field, value in spec.items()]
        try:
            self._world.leases.upsert(await self._api.json_patch(path, msgspec.json.encode(patch)))
        except (Invalid, NotFound) as error:
            await self._take_in(lease, path)
            raise Conflict(409, "Conflict", error.message) from error

    async def _swap(
        self, job: Job, lease: LeaseRecord, annotations: Mapping[Any, str | None], spec: Mapping[str, Any]
    ) -> None:
        """Change a Lease that is unchanged; on a conflict read it, so that the next decision knows what it says now."""
        path = f"{_path(job)}/{lease.name}"
        body = {"metadata": {"resourceVersion": lease.resource_version, "annotations": annotations}, "spec": spec}
        try:
            self._world.leases.upsert(await self._api.merge_patch(path, msgspec.json.encode(body)))
        except (Conflict, NotFound) as error:
            await self._take_in(lease, path)
            if not self._stands((job.namespace, lease.name), spec):
                raise Conflict(409, "Conflict", error.message) from error

    async def _take_in(self, lease: LeaseRecord, path: str) -> None:
        """Read a Lease again; forget it if somebody has deleted it."""
        try:
            await self._world.leases.ask(path)
        except NotFound:
            self._world.leases.remove((lease.namespace, lease.name), lease.uid)

    def _stands(self, key: Key, spec: Mapping[str, Any]) -> bool:
        """Tell whether this very write has given the Lease away, though its first attempt was not answered.

        Its own stamp tells it, to the microsecond: the new holder has not renewed yet.
        """
        found = self._world.leases.records.get(key)
        return found is not None and "renewTime" in spec and found.renew_time == spec["renewTime"]


def _path(job: Job) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{job.namespace}/leases"
