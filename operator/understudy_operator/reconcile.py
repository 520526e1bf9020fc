"""One worker at a time per job: observe, decide, act; and the promotions of a job never wait for the rest.

A cycle carries the promotions out first and decides anew. Everything else of a job runs as one task beside the queue,
so that a slow pod creation or status write cannot hold up the next promotion. What is independent in it waits for
nothing else: each rank's labels and removals, its Leases and creations, the children of the job, and what is told of
it have a lane each. Nothing is decided and no action begins but while `lead` runs: a follower only knows. Trusts the
monotonic clock for every decision.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, get_args

from understudy_contract.names import Rank
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
    GiveUp,
    GrantRights,
    KeepBudgets,
    Prepare,
    Relabel,
    WriteStatus,
    aim,
    rank_of,
)
from understudy_operator.core.decide import Decision, decide
from understudy_operator.core.model import Job, Now, Observation
from understudy_operator.observe import World
from understudy_operator.together import all_of, settle

log: Final = logging.getLogger("understudy")

PROMOTION_PAUSE_S: Final = 0.005
PROMOTION_PAUSE_MAX_S: Final = 5.0
"""Before a promotion that failed is decided on anew, doubled each time: a renewal came between, and the next one is
far; or the API server would not answer, and may at once."""
LANES: Final = 16
"""Requests of one job's other actions at once, at most: a server that is slow for many is not to be asked by all."""
ASKED: Final = (*get_args(Creation), GiveUp, Adopt, DeleteJob)
"""Actions before which the API is asked, in any state, whether the job is still there and wants what was decided. The
owner of a child is taken away while its job is being deleted: given back, the child would be deleted with it."""
APART: Final = (Relabel, DeletePod, EndPod, Adopt, Prepare, GrantRights, KeepBudgets)
"""Actions that go apart from the others of their rank, or of the job: they neither wait for those nor hold them up."""
WORKERS: Final = 8
"""Jobs decided about at once; each cycle is short."""


def needs_asking(job: Job, action: Action) -> bool:
    """Tell whether the API is asked whether an action is wanted still; what a suspension removes may be, no more."""
    return isinstance(action, ASKED) or (job.policy.suspend and isinstance(action, DeletePod))


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
        """Promotions that failed one after the other, by job: they wait for none of its other failures."""
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
        """Act until cancelled; then begin nothing more, and end with the last action that is under way.

        Begins like a process that was just started: nothing that it did when it led before counts.
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
                    task.cancel()  # decided on what may have changed when this process leads again

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
        # Not the key's back-off, which its other actions may have driven up: a promotion waits for nobody.
        tries = self._failed[key] = self._failed.get(key, 0) + 1
        self._queue.add_after(key, min(PROMOTION_PAUSE_S * 2.0 ** min(tries, 30), PROMOTION_PAUSE_MAX_S))

    async def _cycle(self, key: Key) -> None:
        """Promote until nothing is left to promote, and begin the rest; also when a promotion fails, and raise then."""
        failure: BaseException | None = None
        while self._leads:
            now = self._clocks()
            observation = self._world.observe(key, now.at)
            if observation is None:
                self._queue.forget(key)
                return
            decision = decide(observation, now)
            if failure is not None or not decision.promotions:
                self._begin_rest(key, observation, decision, now)
                break
            _, failure = await settle(self._act(observation.job, promotion, now) for promotion in decision.promotions)
        if failure is not None:
            raise failure

    def _begin_rest(self, key: Key, observation: Observation, decision: Decision, now: Now) -> None:
        """Let the other actions run beside the queue, and look again when it is time."""
        memo = self._world.jobs.memo(observation.job.uid)
        for fault in decision.faults:
            if str(fault) not in memo.faults:
                log.error("%s/%s: %s", *key, fault, exc_info=fault.error)
        memo.faults = {str(fault) for fault in decision.faults}
        wanted = [*decision.rest, *memo.last_words.values()]
        memo.emitted &= {a.key for a in wanted if isinstance(a, Emit)}  # what is over is posted never again
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
        """Carry the other actions out, and tell whether something failed.

        Nothing is made for a job that has gone, or of which that is not known.
        """
        failed = False
        try:
            if self._world.jobs.is_doubtful(key) or any(needs_asking(job, action) for action in actions):
                try:
                    if not await self._actor.still_there(job) or self._world.jobs.generation(key) != job.generation:
                        return False  # decided on what is not wanted any more: it is looked at anew
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
        """Act, each lane in order, and tell whether something failed."""
        lanes: defaultdict[tuple[Rank | None, bool], list[Action]] = defaultdict(list)
        for action in actions:
            lanes[rank_of(action), isinstance(action, APART)].append(action)
        room = asyncio.Semaphore(LANES)
        return any(await all_of(self._run_lane(key, job, lane, room) for lane in lanes.values()))

    async def _run_lane(self, key: Key, job: Job, actions: list[Action], room: asyncio.Semaphore) -> bool:
        """Act in order, and tell whether something failed; the rest of a rank is left to the next decision then.

        Not so its removals: no action that failed makes one of them wrong. They go last, since a pod that was asked to
        go has changed, and its label would be refused. Ends with the job: nothing is told of one that has gone, nor
        remembered.
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
                    break  # decided on what is not wanted any more: those before it took their time
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
