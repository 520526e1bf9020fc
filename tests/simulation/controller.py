"""One replica of the operator: the real informers, World, Reconciler and Actor, in a process of its own.

Only kopf is left out: `_kopf` lists and watches TrainingJobs and tells the World of them, and as kopf does it tells of
no deletion that fell into a gap of its watch.
"""

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
from understudy_kube.errors import ApiError
from understudy_kube.informer import Key
from understudy_kube.leadership import Leadership
from understudy_kube.workqueue import WorkQueue
from understudy_operator.act import Actor
from understudy_operator.app import LEASE
from understudy_operator.core.model import Now
from understudy_operator.observe import World
from understudy_operator.reconcile import Reconciler

from tests.simulation.client import Api
from tests.simulation.network import Link, Network
from tests.simulation.timeline import Process

NAMESPACE = "default"
JOBS = "/apis/understudy.dev/v1alpha1/trainingjobs"


class Operator:
    """A replica that runs, until it is killed."""

    def __init__(self, network: Network, link: Link, name: str, rate: float, wall_error_s: float) -> None:
        self.process = Process(network.timeline, name, rate=rate, wall_error_s=wall_error_s)
        self.api = Api(network, self.process, link)
        self._api: Any = self.api
        self.process.post(self._start)

    def _start(self) -> None:
        process = self.process
        queue: WorkQueue[Key] = WorkQueue()
        self._world = World(self._api, queue.add, process.time)
        reconciler = Reconciler(
            self._world, Actor(self._api, self._world), queue, lambda: Now(process.time(), process.wall())
        )
        background = [informer.run() for informer in self._world.informers]
        leadership = Leadership(self._api, NAMESPACE, LEASE, process.name, clock=process.time, wall=process.wall)
        election = self._stand(leadership, reconciler)
        for coroutine in (*background, self._world.keep_contact(), reconciler.run(), election, self._kopf()):
            process.create_task(coroutine).add_done_callback(process.must_not_fail)

    async def _stand(self, leadership: Leadership, reconciler: Reconciler) -> None:
        await self._world.synced()
        await leadership.run(reconciler.lead)

    async def _kopf(self) -> None:
        while True:
            try:
                page: Any = msgspec.json.decode(await self._api.get(JOBS))
                for body in page["items"]:
                    self._world.job_changed(body)
                params = {"resourceVersion": page["metadata"]["resourceVersion"]}
                watch = self._api.watch(JOBS, params=params, timeout_s=240.0, silence_s=90.0)
                async with aclosing(watch) as lines:
                    async for line in lines:
                        self._take(msgspec.json.decode(line))
            except ApiError:
                await asyncio.sleep(1.0)

    def _take(self, event: Any) -> None:
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._world.job_changed(event["object"])
            case "DELETED":
                self._world.job_deleted(event["object"])
            case "ERROR":
                raise ApiError(event["object"]["code"], "", "the watch has ended")
