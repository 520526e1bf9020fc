"""kopf runs the process, logs in, delivers TrainingJobs and answers the liveness probe; all else is ours.

Only an event handler is registered: no create, update or delete handlers, timers, daemons or indexes, which would
write annotations and finalizers of their own. What kopf gets of a TrainingJob is an envelope (envelopes.py), so that it
decodes nothing that a user has written. Every event wakes one job in the queue. Every replica knows everything; the one
that leads acts. Told to stop, it hands the lead over first. The process ends, non-zero, when any of its tasks does: the
kubelet starts it anew.
"""

import asyncio
import gc
import logging
import signal
from collections.abc import Collection, Iterator
from typing import Any, Final

import aiohttp
import kopf
from understudy_contract import names
from understudy_kube.client import Api, Credentials
from understudy_kube.informer import Key, identify
from understudy_kube.leadership import Leadership, new_identity
from understudy_kube.workqueue import WorkQueue

from understudy_operator.act import Actor
from understudy_operator.envelopes import TEXT, Response
from understudy_operator.readiness import serve_readiness
from understudy_operator.reconcile import Reconciler
from understudy_operator.settings import Settings
from understudy_operator.world import World

log: Final = logging.getLogger("understudy")

LEASE: Final = "understudy-operator"
"""Whoever holds it leads; in the operator's own namespace."""


KOPF_PAGE: Final = 20
"""TrainingJobs in a page of kopf's list, which is never asked for again with fewer: 20 of the largest have 30 MB."""


class _EndlessBackoff:
    """kopf's pauses after a failed request: iterated anew each time, never ending, at most 10 s."""

    def __iter__(self) -> Iterator[float]:
        delay_s = 0.1
        while True:
            yield delay_s
            delay_s = min(delay_s * 2, 10.0)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps nothing: without change-detecting handlers the copy of every body would be for nothing."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


class App:
    """The operator, composed."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials

    async def run(self) -> None:
        """Run until something fails or the process is told to stop."""
        queue: WorkQueue[Key] = WorkQueue()
        async with Api(self._credentials, user_agent="understudy-operator") as api:
            world = World(api, queue.add)
            reconciler = Reconciler(world, Actor(api, world), queue)
            leadership = Leadership(api, self._credentials.namespace, LEASE, new_identity())
            readiness = serve_readiness(None, self._settings.ready_port, leadership.standing.is_set)
            async with readiness, asyncio.TaskGroup() as group:
                background = [group.create_task(informer.run()) for informer in world.informers]
                background.append(group.create_task(world.keep_contact()))
                background.append(group.create_task(world.quarantine.run()))
                background.append(group.create_task(reconciler.run()))
                election = group.create_task(_stand(leadership, world, reconciler))
                tasks = await kopf.spawn_tasks(
                    registry=self._registry(world),
                    settings=kopf_settings(),
                    clusterwide=True,
                    standalone=True,
                    liveness_endpoint=f"http://0.0.0.0:{self._settings.health_port}/healthz",
                )
                background.append(group.create_task(_deliver(tasks)))
                await _told_to_stop()
                election.cancel()
                await asyncio.wait({election})  # before anything else ends: the next replica acts from here on
                for task in background:
                    task.cancel()

    def _registry(self, world: World) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            # kopf looks for the resource definition once; it has to be there by then, or no job would ever be heard of.
            await world.listed.wait()
            return kopf.AiohttpSession(
                server=self._credentials.server,
                default_namespace=self._credentials.namespace,
                aiohttp_session=_session(self._credentials),
            )

        @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
        async def changed(event: Any, **_: Any) -> None:
            if event["type"] == "DELETED":
                world.jobs.forget(identify(event["object"][TEXT].encode()))
            else:
                world.told(event["object"][TEXT].encode())

        return registry


def kopf_settings() -> kopf.OperatorSettings:
    """Set kopf up for event handlers alone."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.queueing.idle_timeout = 0.5
    settings.queueing.error_delays = (0.1, 0.5, 1, 2, 5)
    settings.watching.chunk_size = KOPF_PAGE
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 5
    settings.networking.request_timeout = 10
    settings.networking.error_backoffs = _EndlessBackoff()
    settings.persistence.diffbase_storage = _NoDiffBase()
    return settings


def _session(credentials: Credentials) -> aiohttp.ClientSession:
    """Open kopf's session; the token is read for each request, so that a rotated one never meets a 401."""

    async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if token := credentials.token():
            request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=credentials.ssl_context or True),
        headers={"User-Agent": "understudy-operator"},
        middlewares=(authorize,),
        response_class=Response,
    )


async def _deliver(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Let kopf run."""
    await kopf.run_tasks(tasks, ignored=asyncio.all_tasks())
    raise RuntimeError("kopf has ended by itself; no TrainingJob would be heard of any more")


async def _told_to_stop() -> None:
    """Wait for a signal. kopf has asked for them, too: it would let every task of the process go on for 5 s first."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()
    log.info("told to stop")


async def _stand(leadership: Leadership, world: World, reconciler: Reconciler) -> None:
    """Wait for the first lists, then stand for election: a leader with an empty cache would do nothing.

    What was listed stays for the life of the process, so that the garbage collector need not look at it again.
    """
    await world.first_lists()
    log.info("watching: %d pods, %d leases", len(world.pods.records), len(world.leases.records))
    gc.collect()
    gc.freeze()
    await leadership.run(reconciler.lead)
