"""One replica of the operator: the real informers, World, Reconciler and Actor, in a process of its own.

Only kopf is left out: `_kopf` lists and watches TrainingJobs and tells the World of them, and as kopf does it tells of
no deletion that fell into a gap of its watch.
"""

import asyncio
from contextlib import aclosing
from typing import Any, Final, cast

import msgspec
from understudy_kube.errors import ApiError
from understudy_kube.informer import Key, identify
from understudy_kube.leadership import Leadership
from understudy_kube.workqueue import WorkQueue
from understudy_operator.act import Actor
from understudy_operator.app import LEASE
from understudy_operator.core.model import Now
from understudy_operator.reconcile import Reconciler
from understudy_operator.world import World

from tests.simulation.client import Api

JOBS: Final = "/apis/understudy.dev/v1alpha1/trainingjobs"


class Operator:
    """A replica that runs, until it is killed."""

    def __init__(self, api: Api, *, elected: bool) -> None:
        """Begin; `elected`: act only while it leads. Without election replicas that all act must be safe, too."""
        self.api = api
        self.process = api.process
        self._elected = elected
        self.process.post(self._start)

    def _start(self) -> None:
        process, api = self.process, cast("Any", self.api)
        queue: WorkQueue[Key] = WorkQueue()
        self._world = World(api, queue.add, process.time)
        reconciler = Reconciler(
            self._world, Actor(api, self._world), queue, lambda: Now(process.time(), process.wall())
        )
        informers = [informer.run() for informer in self._world.informers]
        for coroutine in (
            *informers,
            self._world.keep_contact(),
            reconciler.run(),
            self._kopf(),
            self._stand(reconciler) if self._elected else reconciler.lead(),
        ):
            process.create_task(coroutine).add_done_callback(process.must_not_fail)

    async def _stand(self, reconciler: Reconciler) -> None:
        """See understudy_operator.app."""
        await self._world.synced()
        process, api = self.process, cast("Any", self.api)
        identity = f"{process.name} of {process.timeline.now}"
        leadership = Leadership(api, "default", LEASE, identity, clock=process.time, wall=process.wall)
        await leadership.run(reconciler.lead)

    async def _kopf(self) -> None:
        while True:
            try:
                page: Any = msgspec.json.decode(await self.api.get(JOBS))
                for body in page["items"]:
                    self._world.told(msgspec.json.encode(body))
                params = {"resourceVersion": page["metadata"]["resourceVersion"]}
                watch = self.api.watch(JOBS, params=params, timeout_s=240.0, silence_s=90.0)
                async with aclosing(watch) as lines:
                    async for line in lines:
                        self._take(msgspec.json.decode(line))
            except ApiError:
                await asyncio.sleep(1.0)

    def _take(self, event: Any) -> None:
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._world.told(msgspec.json.encode(event["object"]))
            case "DELETED":
                self._world.jobs.forget(identify(msgspec.json.encode(event["object"])))
            case "ERROR":
                raise ApiError(event["object"]["code"], "", "the watch has ended")
