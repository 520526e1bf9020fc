"""The loop: observe, decide and act for one job after another. Promotions never wait for other actions.

A cycle carries the promotions out first and decides anew. Everything else of a job runs as one task beside the queue,
so that a slow pod creation or status write cannot hold up the next promotion. Actions that do not depend on each other
run side by side in lanes: the labels and removals of a rank, its Leases and creations, the children of the job, and
status and Events. Decisions and actions happen only while `lead` runs; a follower only keeps its caches. Trusts the
monotonic clock for every decision.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, get_args

from understudy_contract.names import Annotation, Rank
from understudy_kube.client import ApiError, Conflict
from understudy_kube.informer import Key
from understudy_kube.workqueue import WorkQueue

from understudy_operator.act import Actor
from understudy_operator.core.actions import (
    Action,
    Adopt,
    Creation,
    DeleteJob,
    DeletePod,
    Emit,
    EndPod,
    GrantRights,
    KeepBudgets,
    PatchLease,
    Prepare,
    Relabel,
    WriteStatus,
    aim,
    rank_of,
)
from understudy_operator.core.decide import Decision, decide
from understudy_operator.core.model import Job, Now, Observation
from understudy_operator.observe import observe
from understudy_operator.together import all_of, settle
from understudy_operator.world import World

log: Final = logging.getLogger("understudy")

PROMOTION_PAUSE_S: Final = 0.005
PROMOTION_PAUSE_MAX_S: Final = 5.0
"""Pause before a failed promotion is decided on again, doubled each time. A short one is enough if a renewal came
between, since the next renewal is far; an API server that did not answer may answer at once."""
LANES: Final = 16
"""How many requests of one job's other actions may be under way at once: a slow API server gets no more of them."""
ASKED: Final = (*get_args(Creation), Adopt, DeleteJob)
"""Actions before which the API is asked whether the job is still there and its spec is unchanged. Adopt is among them:
while a job is being deleted with `--cascade=orphan`, a child that gets its owner back would be deleted with it."""
APART: Final = (Relabel, DeletePod, EndPod, Adopt, Prepare, GrantRights, KeepBudgets)
"""Actions that have a lane apart from the others of their rank or job: they neither wait for these nor delay them."""
WORKERS: Final = 8
"""How many jobs are worked on at once; a cycle is short."""


def needs_asking(job: Job, action: Action) -> bool:
    """Tell whether the API is asked first whether the action is still wanted: a suspension may have been taken back."""
    gives_up = isinstance(action, PatchLease) and Annotation.GIVEN_UP in action.annotations
    return gives_up or isinstance(action, ASKED) or (job.policy.suspend and isinstance(action, DeletePod))


def read_clocks() -> Now:
    """Read both clocks."""
    return Now(time.monotonic(), datetime.now(UTC))


class Reconciler:
    """Works the queue of jobs."""

    def __init__(
        self, world: World, actor: Actor, queue: WorkQueue[Key], clocks: Callable[[], Now] = read_clocks
    ) -> None:
        self._world = world
        self._actor = actor
        self._queue = queue
        self._clocks = clocks
        self._failed: dict[Key, int] = {}
        """Promotions that failed in a row, by job; other failures of the job do not delay the next one."""
        self._beside: dict[Key, asyncio.Task[bool]] = {}
        self._leads = False
        self._under_way = 0
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    async def run(self) -> None:
        """Work the queue for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def lead(self) -> None:
        """Act until cancelled; then begin nothing more, and return when the last action is over.

        Starts like a new process: what this one did when it led before is forgotten.
        """
        jobs = await self._world.begin_anew()
        self._failed.clear()
        self._leads = True
        for key in jobs:
            self._queue.forget(key)
            self._queue.add(key)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._leads = False
            try:
                await self._at_rest.wait()
            finally:
                for task in self._beside.values():
                    task.cancel()  # what it was decided on may have changed when this process leads again

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._cycle(key)
                self._failed.pop(key, None)
            except ApiError as error:
                if not isinstance(error, Conflict):
                    log.warning("%s/%s: %s", *key, error.message)
                self._try_again(key)
            except Exception:
                log.exception("%s/%s: this cycle failed; trying again", *key)
                self._try_again(key)
            finally:
                self._queue.done(key)

    def _try_again(self, key: Key) -> None:
        # Not the back-off of the queue, which failures of other actions may have raised.
        tries = self._failed[key] = self._failed.get(key, 0) + 1
        self._queue.add_after(key, min(PROMOTION_PAUSE_S * 2.0 ** min(tries, 30), PROMOTION_PAUSE_MAX_S))

    async def _cycle(self, key: Key) -> None:
        """Promote until no promotion is left, then begin everything else; if a promotion failed, begin it and raise."""
        failure: BaseException | None = None
        while self._leads:
            now = self._clocks()
            observation = observe(self._world, key, now.at)
            if observation is None:
                self._queue.forget(key)
                return
            self._world.take_note(observation)
            decision = decide(observation, now, whole=failure is not None)
            if failure is not None or not decision.promotions:
                self._begin_rest(key, observation, decision, now)
                break
            _, failure = await settle(self._act(observation.job, promotion, now) for promotion in decision.promotions)
        if failure is not None:
            raise failure

    def _begin_rest(self, key: Key, observation: Observation, decision: Decision, now: Now) -> None:
        """Start the other actions beside the queue, and plan the next look at the job."""
        memo = self._world.jobs.memo(observation.job.uid)
        for fault in decision.faults:
            if str(fault) not in memo.faults:
                log.error("%s/%s: %s", *key, fault, exc_info=fault.error)
        memo.faults = {str(fault) for fault in decision.faults}
        wanted = [*decision.rest, *memo.last_words.values()]
        memo.emitted &= {a.key for a in wanted if isinstance(a, Emit)}  # others may come again
        news = [a for a in wanted if isinstance(a, Emit) and a.key not in memo.emitted]
        admitted, told_at = memo.allowance.admit(news, observation.job.policy.ranks, now.at)
        told = {event.key for event in admitted}
        rest = [a for a in wanted if not isinstance(a, Emit) or a.key in told]
        if (status_at := memo.allowance.status_at(now.at)) > now.at and any(isinstance(a, WriteStatus) for a in rest):
            rest = [a for a in rest if not isinstance(a, WriteStatus)]
            told_at = min(told_at, status_at)
        tried = {aim(action) for action in rest}
        for over in [a for a, problem in memo.problems.items() if problem.again_at <= now.at and a not in tried]:
            del memo.problems[over]  # nothing is left of it that could be refused
            self._queue.add(key)
        if (rest or self._world.jobs.is_doubtful(key)) and key not in self._beside:
            task = self._beside[key] = asyncio.create_task(self._rest(key, observation.job, rest))
            task.add_done_callback(lambda over: self._rest_over(key, over))
        self._queue.add_after(key, max(0.001, min(decision.wake_at, told_at) - now.at))

    async def _rest(self, key: Key, job: Job, actions: list[Action]) -> bool:
        """Carry out everything but promotions, and tell whether something failed.

        Nothing is made for a job that is gone, or while it cannot be asked whether it is.
        """
        failed = False
        try:
            if self._world.jobs.is_doubtful(key) or any(needs_asking(job, action) for action in actions):
                try:
                    if not await self._actor.still_there(job) or self._world.jobs.generation(key) != job.generation:
                        return False  # the job has changed: it is decided on again
                except ApiError as error:
                    failed = True
                    log.warning("%s/%s: %s", *key, error.message)
                    actions = [action for action in actions if not needs_asking(job, action)]
            failed |= await self._carry_out(key, job, actions)
        except Exception:
            failed = True
            log.exception("%s/%s: an action failed; trying again", *key)
        return failed

    def _rest_over(self, key: Key, task: asyncio.Task[bool]) -> None:
        del self._beside[key]
        if not task.cancelled() and task.result():
            self._queue.retry(key)
        else:
            self._queue.forget(key)
            self._queue.add(key)

    async def _carry_out(self, key: Key, job: Job, actions: list[Action]) -> bool:
        """Carry out the actions of all lanes, each lane in order, and tell whether something failed."""
        lanes: defaultdict[tuple[Rank | None, bool], list[Action]] = defaultdict(list)
        for action in actions:
            lanes[rank_of(action), isinstance(action, APART)].append(action)
        room = asyncio.Semaphore(LANES)
        return any(await all_of(self._run_lane(key, job, lane, room) for lane in lanes.values()))

    async def _run_lane(self, key: Key, job: Job, actions: list[Action], room: asyncio.Semaphore) -> bool:
        """Carry out the actions of a lane in order, and tell whether one failed.

        After a failure the other actions of that rank are left to the next decision. Deletions still run: an earlier
        failure never makes them wrong. They come last, since a deleted pod has a new version, and a change of its label
        that was decided on before would be refused. The lane ends when its job is gone.
        """
        failed = False
        for action in actions:
            if failed and rank_of(action) is not None and not isinstance(action, DeletePod | EndPod):
                continue
            async with room:
                memo = self._world.jobs.find_memo(job.uid)
                if not self._leads or memo is None:
                    break
                if needs_asking(job, action) and self._world.jobs.generation(key) != job.generation:
                    break  # the spec has changed while the actions before this one ran
                now, known = self._clocks(), memo.problems.get(aim(action))
                if known is not None and now.at < known.again_at:
                    continue
                try:
                    await self._act(job, action, now)
                except ApiError as error:
                    failed = True
                    if not isinstance(error, Conflict):
                        log.warning("%s/%s: %s", *key, error.message)
        return failed

    async def _act(self, job: Job, action: Action, now: Now) -> None:
        self._under_way += 1
        self._at_rest.clear()
        try:
            await self._actor.act(job, action, now)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._at_rest.set()
