"""One worker at a time per job: observe, decide, act; and the promotions of a job never wait for the rest.

A cycle carries the promotions out first and decides anew. Everything else of a job runs as one task beside the queue,
so that a slow pod creation or status write cannot hold up the next promotion. Trusts the monotonic clock for every
decision.
"""

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import Final

from understudy_kube.client import ApiError, Conflict
from understudy_kube.informer import Key
from understudy_kube.workqueue import WorkQueue

from understudy_operator.act import Actor
from understudy_operator.core.actions import Action, Emit, rank_of
from understudy_operator.core.decide import decide
from understudy_operator.core.model import Job, Now
from understudy_operator.observe import World

log: Final = logging.getLogger("understudy")

WORKERS: Final = 8
"""Jobs decided about at once; each cycle is short."""


def read_clocks() -> Now:
    """Read both clocks."""
    return Now(time.monotonic(), datetime.now(UTC))


class Reconciler:
    """Works the queue of jobs."""

    def __init__(self, world: World, actor: Actor, queue: WorkQueue[Key]) -> None:
        self._world = world
        self._actor = actor
        self._queue = queue
        self._beside: dict[Key, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work for ever, once every informer has its first list."""
        await asyncio.gather(*(informer.synced.wait() for informer in self._world.informers))
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._cycle(key)
            except Conflict:
                self._queue.add(key)
            except ApiError as error:
                log.warning("%s/%s: %s", *key, error.message)
                self._queue.retry(key)
            except Exception:
                log.exception("%s/%s: this cycle failed; trying again", *key)
                self._queue.retry(key)
            finally:
                self._queue.done(key)

    async def _cycle(self, key: Key) -> None:
        while True:
            now = read_clocks()
            observation = self._world.observe(key, now.at)
            if observation is None:
                return
            decision = decide(observation, now)
            if not decision.promotions:
                break
            results = await asyncio.gather(
                *(self._actor.act(observation.job, p, now) for p in decision.promotions), return_exceptions=True
            )
            for failure in results:
                if isinstance(failure, BaseException):
                    raise failure
        memo = self._world.memo(observation.job.uid)
        rest = [a for a in decision.rest if not (isinstance(a, Emit) and a.key in memo.emitted)]
        if rest and key not in self._beside:
            self._beside[key] = asyncio.create_task(self._rest(key, observation.job, rest))
        # A retry that is due is under way, waits out its own back-off, or is of no use to a job that is over.
        again_at = memo.prepare_again_at if memo.prepare_again_at > now.at else math.inf
        self._queue.add_after(key, max(0.001, min(decision.wake_at, again_at) - now.at))

    async def _rest(self, key: Key, job: Job, actions: list[Action]) -> None:
        """Carry the other actions out, in order. One that fails leaves the rest of its rank to the next decision."""
        given_up: set[int] = set()
        failed = False
        try:
            for action in actions:
                rank = rank_of(action)
                if rank is not None and rank in given_up:
                    continue
                try:
                    await self._actor.act(job, action, read_clocks())
                except ApiError as error:
                    if rank is not None:
                        given_up.add(rank)
                    if not isinstance(error, Conflict):
                        failed = True
                        log.warning("%s/%s: %s", *key, error.message)
        except Exception:
            failed = True
            log.exception("%s/%s: an action failed; trying again", *key)
        finally:
            del self._beside[key]
        if failed:
            self._queue.retry(key)
        else:
            self._queue.forget(key)
            self._queue.add(key)
