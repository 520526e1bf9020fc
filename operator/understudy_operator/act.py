"""Actions carried out against the API.

Each is guarded by what it was decided on (resourceVersion or uid), so that a stale one is refused, and idempotent, so
that a crash between any two is repaired by the next cycle. Answers go into the informers at once: a decision never
waits for its own echo. An object of the right name that belongs to another job is left alone and said to be in the
way.
"""

import logging
from contextlib import suppress
from typing import Any, Final, assert_never

import msgspec
from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_contract.lease import annotation_pointer, micro_time
from understudy_contract.names import Annotation, Label
from understudy_contract.text import clean
from understudy_kube.client import Api, ApiError, Conflict, Forbidden, Invalid, NotFound
from understudy_kube.informer import identify

from understudy_operator import children, events
from understudy_operator.core.actions import (
    END_POD_S,
    Action,
    Adopt,
    AskWhy,
    AssignSlot,
    ClearSwitchover,
    CreatePod,
    Creation,
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
    aim,
)
from understudy_operator.core.model import Job, Now, Pod, Problem
from understudy_operator.core.news import notices
from understudy_operator.creation import TroubleError, build_pod, create
from understudy_operator.inquiry import why_killed
from understudy_operator.memo import Memo
from understudy_operator.prepare import grant_rights, keep_budgets, prepare
from understudy_operator.ranks import Ranks
from understudy_operator.room import RETRY_ROOM_S, make_room, wants_room
from understudy_operator.world import World

log: Final = logging.getLogger("understudy")

RETRY_PROBLEM_S: Final = 5.0
"""How often a refused template or a missing claim is tried again: it may be put right outside the job."""
PROBLEM_MAX_BYTES: Final = 4096
"""How much is kept of the API server's message about a refused template, which repeats every wrong field."""


class Actor:
    """Carries out the actions of one job after another."""

    def __init__(self, api: Api, world: World) -> None:
        self._api = api
        self._world = world
        self._ranks = Ranks(api, world)

    async def act(self, job: Job, action: Action, now: Now) -> None:
        """Carry one action out; raises ApiError when it failed and is worth another decision.

        What only a person can put right becomes a problem of the job: it is reported, and tried again in a while.
        """
        memo = self._world.jobs.memo(job.uid)
        try:
            await self._dispatch(job, action, memo, now)
        except TroubleError as error:
            await self._trouble(job, action, memo, error, now)
        except ApiError as error:
            if error.is_transient or not isinstance(action, Creation) or isinstance(error, Conflict | NotFound):
                raise
            what = f"Pod {action.name} is refused" if isinstance(action, CreatePod) else "A child is refused"
            trouble = TroubleError(EventReason.REFUSED, f"{what}: {error.message}")
            trouble.__cause__ = error
            await self._trouble(job, action, memo, trouble, now)
        except Exception as error:
            if isinstance(action, Promote):
                raise  # tried again at once
            what = f"{type(action).__name__} failed: {type(error).__name__}: {error}"
            if (known := memo.problems.get(aim(action))) is None or known.message != clean(what, PROBLEM_MAX_BYTES):
                log.exception("%s/%s: %s", job.namespace, job.name, what)
            await self._trouble(job, action, memo, TroubleError(EventReason.OPERATOR_ERROR, what), now)
        else:
            memo.over(aim(action))

    async def still_there(self, job: Job) -> bool:
        """Ask the API whether the job exists and is not being deleted.

        kopf's watch does not report a deletion that fell into a gap of it. So this is asked before something is made
        for the job, which would otherwise be left behind.
        """
        path, known = self._job_path(job), self._world.jobs.known((job.namespace, job.name))
        try:
            body = await self._api.get(path)
        except NotFound:
            body = None
        if body is None or identify(body).uid != job.uid:
            log.info("%s/%s is gone", job.namespace, job.name)
            self._world.jobs.forget(job)
            return False
        self._world.take_job(body, instead_of=known)
        found = self._world.jobs.find(job.uid)
        return found is not None and not found.deleting

    async def _trouble(self, job: Job, action: Action, memo: Memo, trouble: TroubleError, now: Now) -> None:
        """Keep the reason why an action was refused; first remove an ended pod if these fill the quota."""
        reason, message = trouble.reason, clean(str(trouble), PROBLEM_MAX_BYTES)
        room = wants_room(trouble.__cause__) and await make_room(self._world, job, aim(action), now, self._delete)
        again_at = now.at + (RETRY_ROOM_S if room else RETRY_PROBLEM_S)
        known = memo.problems.get(aim(action))
        if known is None or known.reason != reason or known.passing:
            if not room:
                log.warning("%s/%s: %s", job.namespace, job.name, message)
            known = None
        since = known.since if known is not None else micro_time(now.wall)
        memo.problems[aim(action)] = Problem(reason, message, since, again_at, passing=room)
        if isinstance(action, CreatePod) and reason == EventReason.NAME_TAKEN:
            memo.expect_no_more(action.name)  # the next number is taken

    async def _dispatch(  # noqa: C901 - one case an action
        self, job: Job, action: Action, memo: Memo, now: Now
    ) -> None:
        match action:
            case Promote():
                await self._ranks.promote(job, action, memo)
                memo.keep_last_words(notices(action.lease, now))
            case Prepare():
                self._world.claims.upsert(await prepare(self._api, job, trial=action.trial))
                memo.prepared(job.generation, now.at)
            case GrantRights():
                await grant_rights(self._api, job, action.leases)
                memo.granted = frozenset((job.policy.account_name, lease) for lease in action.leases)
            case KeepBudgets():
                memo.budgets = None  # until this ends, some ranks have one and some do not
                await keep_budgets(self._api, job, wanted=action.wanted)
                memo.budgets = action.wanted
            case OpenRank():
                await self._ranks.open_rank(job, action, memo, now)
            case FindPod():
                await self._refresh_pod(job, action.name)
                memo.expect_no_more(action.name)
            case AskWhy():
                memo.killed[action.pod.uid] = await why_killed(self._api, job, action.pod)
            case OpenSlot():
                await self._ranks.open_slot(job, action)
            case PatchLease():
                await self._ranks.patch(job, action, memo)
            case ClearSwitchover():
                await self._clear_switchover(job, action)
            case AssignSlot():
                name = await self._ranks.assign_slot(job, action, memo)
                if action.loss:
                    message = f"Rank {action.rank}, redundant: {action.loss}. {name} takes its place."
                    await self._emit(job, Emit(f"slot {name}", EventReason.REDUNDANT_LOST, message), memo, now)
            case CreatePod():
                await self._create_pod(job, action, memo)
            case Adopt():
                await self._adopt(job, action)
            case Relabel():
                await self._relabel(job, action)
            case DeletePod():
                await self._delete(job, action)
            case EndPod():
                await self._end(job, action)
            case DeleteJob():
                await self._delete_job(job, action)
            case WriteStatus():
                await self._write_status(job, action, memo, now)
            case Emit():
                await self._emit(job, action, memo, now)
            case _:
                assert_never(action)

    async def _create_pod(self, job: Job, action: CreatePod, memo: Memo) -> None:
        path = f"/api/v1/namespaces/{job.namespace}/pods"
        body = await create(self._api, job, path, build_pod(job, action))
        memo.expect_no_more(action.name)
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
        await self._patch_pod(job, pod, patch)

    async def _patch_pod(self, job: Job, pod: Pod, patch: dict[str, Any]) -> None:
        """Change a pod and take in the answer; forget a pod that is gone, and read one that has changed since."""
        path = f"/api/v1/namespaces/{job.namespace}/pods/{pod.name}"
        try:
            self._world.pods.upsert(await self._api.merge_patch(path, msgspec.json.encode(patch)))
        except NotFound:
            self._world.pods.remove((job.namespace, pod.name), pod.uid)
        except Conflict:
            await self._refresh_pod(job, pod.name, pod.uid)
            raise

    async def _adopt(self, job: Job, action: Adopt) -> None:
        owned = {
            "uid": action.uid,
            "resourceVersion": action.resource_version,
            "ownerReferences": [children.owner(job)],
        }
        group = "/apis/coordination.k8s.io/v1" if action.kind == "leases" else "/api/v1"
        path = f"{group}/namespaces/{job.namespace}/{action.kind}/{action.name}"
        known = self._world.leases if action.kind == "leases" else self._world.pods
        try:
            known.upsert(await self._api.merge_patch(path, msgspec.json.encode({"metadata": owned})))
        except NotFound:
            known.remove((job.namespace, action.name), action.uid)
        except Conflict:  # a renewal came between
            await known.ask(path)
            raise
        else:
            log.info("%s/%s: adopted %s %s", job.namespace, job.name, action.kind, action.name)

    async def _refresh_pod(self, job: Job, name: str, uid: str = "") -> None:
        """Read a pod; if there is none of that name, forget the one with this uid."""
        try:
            await self._world.pods.ask(f"/api/v1/namespaces/{job.namespace}/pods/{name}")
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

    async def _end(self, job: Job, action: EndPod) -> None:
        """End the containers of a pod that still run; delete the pod if the API or a webhook refuses that."""
        pod = action.pod
        patch = {"metadata": {"uid": pod.uid}, "spec": {"activeDeadlineSeconds": END_POD_S}}
        try:
            await self._patch_pod(job, pod, patch)
        except (Invalid, Forbidden) as error:
            where = (job.namespace, job.name, pod.name)
            log.warning("%s/%s: pod %s cannot be ended, so it is deleted: %s", *where, error.message)
            await self._delete(job, DeletePod(pod, action.why))
        else:
            log.info("%s/%s: ended pod %s: %s", job.namespace, job.name, pod.name, action.why)

    async def _delete_job(self, job: Job, action: DeleteJob) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": job.uid}}
        body = msgspec.json.encode({**options, "propagationPolicy": "Background"})
        with suppress(NotFound, Conflict):  # it is gone, or another job has its name by now
            await self._api.delete(self._job_path(job), body=body)
            log.info("%s/%s: deleted: %s", job.namespace, job.name, action.why)
        self._world.jobs.forget(job)

    async def _write_status(self, job: Job, action: WriteStatus, memo: Memo, now: Now) -> None:
        """Write the status; if somebody has changed the job meanwhile, read it and leave the rest to a new decision."""
        path = f"{self._job_path(job)}/status"
        body = {"metadata": {"uid": job.uid, "resourceVersion": job.resource_version}, "status": action.status}
        try:
            answer = await self._api.merge_patch(path, msgspec.json.encode(body))
        except NotFound:
            self._world.jobs.forget(job)
            return
        except Conflict:
            await self.still_there(job)
            known = self._world.jobs.known((job.namespace, job.name))
            if known is not None and known.resource_version == job.resource_version:
                raise  # the job has not changed: a new decision would be the same, so wait before it is tried again
            return
        memo.status_written_at = now.at
        memo.allowance.status_written(now.at)
        self._world.take_job(answer)

    async def _emit(self, job: Job, action: Emit, memo: Memo, now: Now) -> None:
        if not memo.allowance.has_room(action, job.policy.ranks, now.at):
            log.info(
                "%s/%s: too many Events, so this one is not posted now: %s", job.namespace, job.name, action.message
            )
            return
        await events.post(self._api, job, action, now)
        memo.posted(action, now.at)

    async def _clear_switchover(self, job: Job, action: ClearSwitchover) -> None:
        where = annotation_pointer(Annotation.SWITCHOVER)
        patch = [{"op": "test", "path": where, "value": action.asked}, {"op": "remove", "path": where}]
        try:
            answer = await self._api.json_patch(self._job_path(job), msgspec.json.encode(patch))
        except Invalid:
            answer = await self._api.get(self._job_path(job))  # somebody has changed it: decide anew
        self._world.take_job(answer)

    def _job_path(self, job: Job) -> str:
        return f"/apis/{names.API_VERSION}/namespaces/{job.namespace}/{names.PLURAL}/{job.name}"
