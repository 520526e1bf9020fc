"""Objects that cannot be read: each is named in the log and told to its owner, and none keeps another from its work.

Guarantees one line in the log and one Event for each object and reason, as long as the API server takes it; and that
nothing else waits for that. Every replica posts, under the same name, so that it happens once. At most one Event is
posted in PAUSE_S, and at most LISTED_MAX wait: thousands of such objects delay the Events about others like them, and
nothing else. Trusts the wall clock for the Event's time stamp.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_kube.client import Api, ApiError
from understudy_kube.informer import Named

from understudy_operator.core.actions import Emit
from understudy_operator.events import Subject, post_about

log: Final = logging.getLogger("understudy")

Kind = tuple[str, str]
"""apiVersion and kind."""

JOB: Final = (names.API_VERSION, names.KIND)
POD: Final = ("v1", "Pod")
LEASE: Final = ("coordination.k8s.io/v1", "Lease")
CLAIM: Final = ("v1", "PersistentVolumeClaim")
NODE: Final = ("v1", "Node")

PAUSE_S: Final = 1.0
LISTED_MAX: Final = 1000
TOLD_KEPT: Final = 4096


def read_wall() -> datetime:
    """Read the wall clock."""
    return datetime.now(UTC)


class Quarantine:
    """Tells of objects that cannot be read."""

    def __init__(self, api: Api, wall: Callable[[], datetime] = read_wall) -> None:
        self._api = api
        self._wall = wall
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._waiting: asyncio.Queue[tuple[Subject, Emit]] = asyncio.Queue(LISTED_MAX)

    def add(self, kind: Kind, thing: Named, why: str) -> None:
        """Tell that an object cannot be read, unless that was told."""
        if (thing.uid, why) in self._told:
            return
        self._told[thing.uid, why] = None
        if len(self._told) > TOLD_KEPT:
            self._told.popitem(last=False)
        log.warning("%s %s/%s: %s", kind[1], thing.namespace, thing.name, why)
        if not thing.name:
            return  # it does not even say which object it is
        event = Emit(f"unreadable {why}", EventReason.UNREADABLE, why)
        try:
            self._waiting.put_nowait((Subject(*kind, thing.namespace, thing.name, thing.uid), event))
        except asyncio.QueueFull:
            log.warning(
                "%s %s/%s: no Event tells of it, since too many are waiting", kind[1], thing.namespace, thing.name
            )

    async def run(self) -> None:
        """Post the Events for ever."""
        while True:
            subject, event = await self._waiting.get()
            while True:
                try:
                    await post_about(self._api, subject, event, self._wall())
                    break
                except ApiError as error:
                    log.warning("%s %s/%s: %s", subject.kind, subject.namespace, subject.name, error.message)
                    if not error.is_transient:
                        break
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(PAUSE_S)
