"""Actions carried out against the API.

Each is guarded by what it was decided on (resourceVersion or uid), so that a stale one is refused, and idempotent, so
that a crash between any two is repaired by the next cycle. Answers go into the informers at once: a decision never
waits for its own echo. An object of the right name that belongs to another job is left alone and said to be in the
way.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, assert_never

import msgspec
from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_contract.lease import encode, micro_time
from understudy_contract.names import Annotation, Label
from understudy_kube.client import Api, ApiError, Conflict, Invalid, NotFound

from understudy_operator import children, events
from understudy_operator.core.actions import (
    Action,
    AssignSlot,
    ClearSwitchover,
    CreatePod,
    Creation,
    DeleteJob,
    DeletePod,
    Emit,
    GiveUp,
    KeepBudgets,
    OpenRank,
    OpenSlot,
    Prepare,
    Promote,
    RaiseTerm,
    Relabel,
    SetDuration,
    TakeSwitchover,
    Vacate,
    WriteStatus,
    aim,
)
from understudy_operator.core.model import Job, Now, Problem
from understudy_operator.creation import TroubleError, create
from understudy_operator.observe import Memo, World
from understudy_operator.prepare import keep_budgets, prepare

log: Final = logging.getLogger("understudy")

RETRY_PROBLEM_S: Final = 5.0
"""How often a refused template or a missing claim is tried again: what is wrong may be put right outside the job."""


class Actor:
    """Carries out the actions of one job after another."""

    def __init__(self, api: Api, world: World) -> None:
        self._api = api
        self._world = world

    async def act(self, job: Job, action: Action, now: Now) -> None:
        """Carry one action out; raises ApiError when it failed and is worth another decision.

        What only a person can put right becomes the job's problem, which it says and tries again in a while.
        """
        memo = self._world.memo(job.uid)
        try:
            await self._dispatch(job, action, memo, now)
        except TroubleError as error:
            self._trouble(job, action, memo, error.reason, str(error), now)
        except ApiError as error:
            if error.is_transient or not isinstance(action, Creation) or isinstance(error, Conflict | NotFound):
                raise
            what = f"Pod {action.name} is refused" if isinstance(action, CreatePod) else "A child is refused"
            self._trouble(job, action, memo, EventReason.REFUSED, f"{what}: {error.message}", now)
        else:
            memo.problems.pop(aim(action), None)

    async def still_there(self, job: Job) -> bool:
        """Ask whether the job exists: kopf's watch does not tell of a deletion that fell into a gap of it.

        To be asked before something is made for the job; what is made for one that has gone would have to be collected.
        """
        path, known = self._job_path(job), self._world.known((job.namespace, job.name))
        try:
            body = msgspec.json.decode(await self._api.get(path))
        except NotFound:
            body = None
        if body is None or body["metadata"]["uid"] != job.uid:
            log.info("%s/%s is gone", job.namespace, job.name)
            self._world.forget((job.namespace, job.name), job.uid)
            return False
        self._world.job_changed(body, instead_of=known)
        return True

    def _trouble(self, job: Job, action: Action, memo: Memo, reason: EventReason, message: str, now: Now) -> None:
        known = memo.problems.get(aim(action))
        if known is None or known.reason != reason:
            log.warning("%s/%s: %s", job.namespace, job.name, message)
            known = None
        since = known.since if known is not None else micro_time(now.wall)
        memo.problems[aim(action)] = Problem(reason, message, since, now.at + RETRY_PROBLEM_S)
        if isinstance(action, CreatePod) and reason == EventReason.NAME_TAKEN:
            memo.unborn.discard(action.name)  # it never will be: the next number is taken

    async def _dispatch(  # noqa: C901 - one case an action
        self, job: Job, action: Action, memo: Memo, now: Now
    ) -> None:
        match action:
            case Promote():
                await self._promote(job, action, memo, now)
            case Prepare():
                self._world.claims.upsert(await prepare(self._api, job, trial=action.trial))
                memo.prepared_at, memo.prepared_generation = now.at, job.generation
                memo.budgets = None  # to be looked at again, too
            case KeepBudgets():
                await keep_budgets(self._api, job, wanted=action.wanted)
                memo.budgets = action.wanted
            case OpenRank():
                await self._open_rank(job, action, memo, now)
            case OpenSlot():
                body = children.slot_lease(job, action.rank, action.slot)
                self._world.leases.upsert(await create(self._api, job, self._leases(job), body))
            case GiveUp():
                lease, notes = action.lease, {Annotation.GIVEN_UP: encode(action.given_up)}
                await self._swap(job, lease.name, lease.resource_version, notes, {})
                log.error("%s/%s rank %d: given up: %s", job.namespace, job.name, action.rank, action.given_up.message)
            case TakeSwitchover():
                lease, notes = action.lease, {Annotation.SWITCHOVER: str(action.lease.term)}
                await self._swap(job, lease.name, lease.resource_version, notes, {})
            case ClearSwitchover():
                await self._clear_switchover(job, action)
            case RaiseTerm():
                lease = action.lease
                await self._swap(job, lease.name, lease.resource_version, {}, {"leaseTransitions": action.term})
                log.warning(
                    "%s/%s rank %d: %s goes on in term %d, since the volume has seen term %d: was etcd restored?",
                    job.namespace, job.name, action.rank, lease.holder, action.term, action.term - 1,
                )  # fmt: skip
            case SetDuration():
                spec = {"leaseDurationSeconds": job.policy.lease_duration_s}
                await self._swap(job, action.lease.name, action.lease.resource_version, {}, spec)
            case Vacate():
                await self._vacate(job, action, memo)
            case AssignSlot():
                await self._assign(job, action, memo, now)
            case CreatePod():
                await self._create_pod(job, action, memo)
            case Relabel():
                await self._relabel(job, action)
            case DeletePod():
                await self._delete(job, action)
            case DeleteJob():
                await self._delete_job(job, action)
            case WriteStatus():
                await self._write_status(job, action, memo, now)
            case Emit():
                await self._emit(job, action, memo, now)
            case _:
                assert_never(action)

    async def _promote(self, job: Job, action: Promote, memo: Memo, now: Now) -> None:
        lease = action.lease
        notes: dict[str, str | None] = {
            Annotation.FAILURES: str(action.failures),
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
            memo.unborn.add(action.target)  # before the request: the watch may tell of it before the answer does
        spec = {
            "holderIdentity": action.target,
            "leaseTransitions": action.term,
            "leaseDurationSeconds": job.policy.lease_duration_s,
            "renewTime": micro_time(datetime.now(UTC)),
        }
        try:
            await self._swap(job, lease.name, lease.resource_version, notes, spec)
        except Conflict:
            if action.cold:
                memo.unborn.discard(action.target)  # its number was not taken: another pod may get it
            raise
        if action.suspect_node is not None:
            self._world.suspect(action.suspect_node)
        gone = f"{lease.holder} is gone and never was at work" if lease.holder else "the job is resumed"
        cause = action.promotion.message if action.promotion else gone
        log.warning(
            "%s/%s rank %d: %s -> %s, term %d (%s)",
            job.namespace, job.name, action.rank, lease.holder or "nobody", action.target, action.term, cause,
        )  # fmt: skip

    async def _assign(self, job: Job, action: AssignSlot, memo: Memo, now: Now) -> None:
        rank = action.rank_lease
        taken = {Annotation.INCARNATION: str(rank.incarnation + 1)}
        await self._swap(job, rank.name, rank.resource_version, taken, {})
        name = names.pod_name(job.name, action.rank, rank.incarnation)
        memo.unborn.add(name)
        notes = {
            Annotation.FAILURES: str(action.failures),
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
            await self._swap(job, action.lease.name, action.lease.resource_version, notes, spec)
        except Conflict:
            memo.unborn.discard(name)  # the number is spent, the pod never will be
            raise
        if action.suspect_node is not None:
            self._world.suspect(action.suspect_node)
        if action.loss:
            message = f"Rank {action.rank}, redundant: {action.loss}. {name} takes its place."
            await self._emit(job, Emit(f"slot {name}", EventReason.REDUNDANT_LOST, message), memo, now)

    async def _vacate(self, job: Job, action: Vacate, memo: Memo) -> None:
        lease = action.lease
        notes: dict[str, str | None] = {Annotation.RELEASED: None, Annotation.NOTICE: None}
        if lease.floor is not None and lease.name == names.rank_lease_name(job.name, action.rank):
            notes[Annotation.FLOOR] = encode(lease.floor)
        await self._swap(job, lease.name, lease.resource_version, notes, {"holderIdentity": None})
        memo.unborn.discard(lease.holder)

    async def _swap(
        self, job: Job, name: str, version: str, annotations: Mapping[Any, str | None], spec: Mapping[str, Any]
    ) -> None:
        """Compare and set a Lease; on a conflict take in what stands there, so that the next decision sees it."""
        path = f"{self._leases(job)}/{name}"
        body = {"metadata": {"resourceVersion": version, "annotations": annotations}, "spec": spec}
        try:
            self._world.leases.upsert(await self._api.merge_patch(path, msgspec.json.encode(body)))
        except Conflict:
            self._world.leases.upsert(await self._api.get(path))
            raise

    async def _open_rank(self, job: Job, action: OpenRank, memo: Memo, now: Now) -> None:
        body = children.rank_lease(job, action, now)
        if not action.complete and (job.namespace, action.holder) not in self._world.pods.records:
            memo.unborn.add(action.holder)
        self._world.leases.upsert(await create(self._api, job, self._leases(job), body))

    async def _create_pod(self, job: Job, action: CreatePod, memo: Memo) -> None:
        path = f"/api/v1/namespaces/{job.namespace}/pods"
        body = await create(self._api, job, path, children.pod(job, action))
        memo.unborn.discard(action.name)
        self._world.pods.upsert(body)

    async def _relabel(self, job: Job, action: Relabel) -> None:
        pod = action.pod
        patch = {
            "metadata": {
                "uid": pod.uid,
                "resourceVersion": pod.resource_version,
                "labels": {Label.ROLE: action.role},
                "annotations": {Annotation.TERM: None if action.term is None else str(action.term)},
            }
        }
        path = f"/api/v1/namespaces/{job.namespace}/pods/{pod.name}"
        try:
            self._world.pods.upsert(await self._api.merge_patch(path, msgspec.json.encode(patch)))
        except NotFound:
            self._world.pods.remove((job.namespace, pod.name), pod.uid)
        except Conflict:
            await self._refresh_pod(job, pod.name, pod.uid)
            raise

    async def _refresh_pod(self, job: Job, name: str, uid: str) -> None:
        try:
            self._world.pods.upsert(await self._api.get(f"/api/v1/namespaces/{job.namespace}/pods/{name}"))
        except NotFound:
            self._world.pods.remove((job.namespace, name), uid)

    async def _delete(self, job: Job, action: DeletePod) -> None:
        pod = action.pod
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": pod.uid}}
        path = f"/api/v1/namespaces/{job.namespace}/pods/{pod.name}"
        try:
            await self._api.delete(path, body=msgspec.json.encode(options))
        except (NotFound, Conflict):
            self._world.pods.remove((job.namespace, pod.name), pod.uid)
            return
        log.info("%s/%s: deleted pod %s: %s", job.namespace, job.name, pod.name, action.why)
        await self._refresh_pod(job, pod.name, pod.uid)

    async def _delete_job(self, job: Job, action: DeleteJob) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": job.uid}}
        body = msgspec.json.encode({**options, "propagationPolicy": "Background"})
        with suppress(NotFound, Conflict):  # it has gone, or is another job of this name by now
            await self._api.delete(self._job_path(job), body=body)
            log.info("%s/%s: deleted: %s", job.namespace, job.name, action.why)
        self._world.forget((job.namespace, job.name), job.uid)

    async def _write_status(self, job: Job, action: WriteStatus, memo: Memo, now: Now) -> None:
        path = f"{self._job_path(job)}/status"
        body = {"metadata": {"uid": job.uid}, "status": action.status}
        try:
            answer = await self._api.merge_patch(path, msgspec.json.encode(body))
        except NotFound:
            self._world.forget((job.namespace, job.name), job.uid)
            return
        memo.status_written_at = now.at
        self._world.job_changed(msgspec.json.decode(answer))

    async def _emit(self, job: Job, action: Emit, memo: Memo, now: Now) -> None:
        await events.post(self._api, job, action, now)
        memo.emitted.add(action.key)

    async def _clear_switchover(self, job: Job, action: ClearSwitchover) -> None:
        where = "/metadata/annotations/" + Annotation.SWITCHOVER.replace("/", "~1")
        patch = [{"op": "test", "path": where, "value": action.asked}, {"op": "remove", "path": where}]
        try:
            answer = await self._api.json_patch(self._job_path(job), msgspec.json.encode(patch))
        except Invalid:
            answer = await self._api.get(self._job_path(job))  # somebody has changed it: decide anew
        self._world.job_changed(msgspec.json.decode(answer))

    def _leases(self, job: Job) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{job.namespace}/leases"

    def _job_path(self, job: Job) -> str:
        return f"/apis/{names.API_VERSION}/namespaces/{job.namespace}/{names.PLURAL}/{job.name}"
