"""Actions carried out against the API.

Each is guarded by what it was decided on (resourceVersion or uid), so that a stale one is refused, and idempotent, so
that a crash between any two is repaired by the next cycle. Answers go into the informers at once: a decision never
waits for its own echo. An object of the right name that belongs to another job is left alone and said to be in the
way.
"""

import logging
from contextlib import suppress
from typing import Final, assert_never

import msgspec
from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_contract.lease import annotation_pointer, micro_time
from understudy_contract.names import Annotation, Label
from understudy_kube.client import Api, ApiError, Conflict, Invalid, NotFound
from understudy_kube.informer import identify

from understudy_operator import events
from understudy_operator.core.actions import (
    Action,
    AssignSlot,
    ClearSwitchover,
    CreatePod,
    Creation,
    DeleteJob,
    DeletePod,
    Emit,
    FindPod,
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
from understudy_operator.core.status import notices
from understudy_operator.creation import TroubleError, build_pod, create
from understudy_operator.jobs import Memo
from understudy_operator.observe import World
from understudy_operator.prepare import keep_budgets, prepare
from understudy_operator.ranks import Ranks

log: Final = logging.getLogger("understudy")

RETRY_PROBLEM_S: Final = 5.0
"""How often a refused template or a missing claim is tried again: what is wrong may be put right outside the job."""


class Actor:
    """Carries out the actions of one job after another."""

    def __init__(self, api: Api, world: World) -> None:
        self._api = api
        self._world = world
        self._ranks = Ranks(api, world)

    async def act(self, job: Job, action: Action, now: Now) -> None:
        """Carry one action out; raises ApiError when it failed and is worth another decision.

        What only a person can put right becomes the job's problem, which it says and tries again in a while.
        """
        memo = self._world.jobs.memo(job.uid)
        try:
            await self._dispatch(job, action, memo, now)
        except TroubleError as error:
            self._trouble(job, action, memo, error.reason, str(error), now)
        except ApiError as error:
            if error.is_transient or not isinstance(action, Creation) or isinstance(error, Conflict | NotFound):
                raise
            what = f"Pod {action.name} is refused" if isinstance(action, CreatePod) else "A child is refused"
            self._trouble(job, action, memo, EventReason.REFUSED, f"{what}: {error.message}", now)
        except Exception as error:
            if isinstance(action, Promote):
                raise  # tried again at once
            what = f"{type(action).__name__} failed: {type(error).__name__}: {error}"
            if (known := memo.problems.get(aim(action))) is None or known.message != what:
                log.exception("%s/%s: %s", job.namespace, job.name, what)
            self._trouble(job, action, memo, EventReason.OPERATOR_ERROR, what, now)
        else:
            memo.problems.pop(aim(action), None)

    async def still_there(self, job: Job) -> bool:
        """Ask whether the job exists: kopf's watch does not tell of a deletion that fell into a gap of it.

        To be asked before something is made for the job; what is made for one that has gone would have to be collected.
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
        return self._world.jobs.find(job.uid) is not None

    def _trouble(self, job: Job, action: Action, memo: Memo, reason: EventReason, message: str, now: Now) -> None:
        known = memo.problems.get(aim(action))
        if known is None or known.reason != reason:
            log.warning("%s/%s: %s", job.namespace, job.name, message)
            known = None
        since = known.since if known is not None else micro_time(now.wall)
        memo.problems[aim(action)] = Problem(reason, message, since, now.at + RETRY_PROBLEM_S)
        if isinstance(action, CreatePod) and reason == EventReason.NAME_TAKEN:
            memo.unborn.pop(action.name, None)  # it never will be: the next number is taken

    async def _dispatch(  # noqa: C901 - one case an action
        self, job: Job, action: Action, memo: Memo, now: Now
    ) -> None:
        match action:
            case Promote():
                await self._ranks.promote(job, action, memo)
                # Its successor's Lease does not say it any more; the next promotion must not wait for it to be told.
                memo.last_words |= {e.key: e for e in notices(action.lease, now) if e.key not in memo.emitted}
            case Prepare():
                self._world.claims.upsert(await prepare(self._api, job, trial=action.trial))
                memo.prepared_at, memo.prepared_generation = now.at, job.generation
                if memo.budgets:
                    memo.budgets = None  # to be looked at again, too; nobody but us makes one where there are none
            case KeepBudgets():
                memo.budgets = None  # some are made and some are not, until this ends
                await keep_budgets(self._api, job, wanted=action.wanted)
                memo.budgets = action.wanted
            case OpenRank():
                await self._ranks.open_rank(job, action, memo, now)
            case FindPod():
                await self._refresh_pod(job, action.name)
                memo.unborn.pop(action.name, None)
            case OpenSlot():
                await self._ranks.open_slot(job, action)
            case GiveUp():
                await self._ranks.give_up(job, action)
            case TakeSwitchover():
                await self._ranks.take_switchover(job, action)
            case ClearSwitchover():
                await self._clear_switchover(job, action)
            case RaiseTerm():
                await self._ranks.raise_term(job, action)
            case SetDuration():
                await self._ranks.set_duration(job, action)
            case Vacate():
                await self._ranks.vacate(job, action, memo)
            case AssignSlot():
                name = await self._ranks.assign_slot(job, action, memo)
                if action.loss:
                    message = f"Rank {action.rank}, redundant: {action.loss}. {name} takes its place."
                    await self._emit(job, Emit(f"slot {name}", EventReason.REDUNDANT_LOST, message), memo, now)
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

    async def _create_pod(self, job: Job, action: CreatePod, memo: Memo) -> None:
        path = f"/api/v1/namespaces/{job.namespace}/pods"
        body = await create(self._api, job, path, build_pod(job, action))
        memo.unborn.pop(action.name, None)
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

    async def _refresh_pod(self, job: Job, name: str, uid: str = "") -> None:
        """Read a pod; forget the one of this uid if there is none."""
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

    async def _delete_job(self, job: Job, action: DeleteJob) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": job.uid}}
        body = msgspec.json.encode({**options, "propagationPolicy": "Background"})
        with suppress(NotFound, Conflict):  # it has gone, or is another job of this name by now
            await self._api.delete(self._job_path(job), body=body)
            log.info("%s/%s: deleted: %s", job.namespace, job.name, action.why)
        self._world.jobs.forget(job)

    async def _write_status(self, job: Job, action: WriteStatus, memo: Memo, now: Now) -> None:
        """Write the status, unless somebody has changed the job meanwhile: what follows from that is decided anew."""
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
                raise  # nobody has changed it: a decision anew would be the same one, at once
            return
        memo.status_written_at = now.at
        self._world.take_job(answer)

    async def _emit(self, job: Job, action: Emit, memo: Memo, now: Now) -> None:
        await events.post(self._api, job, action, now)
        memo.emitted.add(action.key)
        memo.last_words.pop(action.key, None)

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
