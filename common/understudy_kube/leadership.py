"""Which one of several processes acts: an election by a Lease, after client-go's tools/leaderelection.

Guarantees that a Lease is taken from nobody who renews it: only after its record stood still for as long as its holder
promised to renew, by our own clock, and by a compare-and-set on that very record. A holder that cannot renew ends its
work before that time is over, and stands for election again. A process that is told to stop ends its work and releases
the Lease: the next one takes it at once.

Does not guarantee that one acts alone: a process that stood still wakes up as a leader, and what it had sent may arrive
late. So each of its writes must be safe by itself (for us: the compare-and-set of each rank's Lease); the election only
keeps processes from working against each other. Trusts the monotonic clock that it is given; the wall's times in the
Lease are for people.

Costs one watch a process and one PATCH a renewal interval: followers ask nothing.
"""

import asyncio
import logging
import math
import socket
import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from understudy_kube.client import MERGE_PATCH, Api, ApiError, Conflict, NotFound
from understudy_kube.election import Durations, LeadershipLease, Record, free_at
from understudy_kube.informer import Informer, Key

log: Final = logging.getLogger("understudy")

RETRY_S: Final = 0.2
"""After a renewal that failed: several tries fit in until the deadline."""
RELEASES: Final = 2
"""Tries to release: the first is refused when a renewal was under way."""

Work = Callable[[], Coroutine[Any, Any, None]]


def new_identity() -> str:
    """Name this process: by its host, which is its pod, and unlike every other process that ever ran there."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class Leadership:
    """One process's part in the election."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        durations: Durations | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.identity: Final = identity
        self._api = api
        self._key: Key = (namespace, name)
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._durations = durations or Durations()
        self._clock = clock
        self._wall = wall
        self._lease = Informer[Record](
            api,
            self._collection,
            kind=LeadershipLease,
            to_record=LeadershipLease.record,
            on_change=self._changed,
            params={"fieldSelector": f"metadata.name={name}"},
            clock=clock,
        )
        self.standing: Final = self._lease.synced
        """Set once it is known who leads: from then on this process may lead at any time."""
        self._news = asyncio.Event()
        self._unchanged_since = -math.inf
        self._renewed_at = -math.inf

    async def run(self, work: Work) -> None:
        """Stand for election for ever. `work` is started whenever this process leads and cancelled when it no longer
        does: it may then end what is under way, and is cancelled once more if that takes too long. If it fails, so
        does this."""
        log.info("stands for election to lead %s/%s as %s", *self._key, self.identity)
        watch = asyncio.create_task(self._lease.run())
        try:
            await self._lease.synced.wait()
            while True:
                await self._follow()
                await self._lead(work)
        finally:
            watch.cancel()
            await self._release()

    @property
    def _record(self) -> Record | None:
        return self._lease.records.get(self._key)

    def _changed(self, old: Record | None, new: Record | None) -> None:
        self._unchanged_since = self._clock()
        self._news.set()
        holder = new.holder if new is not None else ""
        if holder != (old.holder if old is not None else "") and holder not in ("", self.identity):
            log.info("%s leads; this process follows", holder)

    async def _follow(self) -> None:
        """Return once this process holds the Lease."""
        while True:
            self._news.clear()
            free = free_at(self._record, self.identity, self._unchanged_since, self._durations.lease_s)
            left_s = free - self._clock()
            if left_s <= 0:
                if await self._take():
                    return
                left_s = self._durations.renewal_s
            try:
                async with asyncio.timeout(left_s):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _take(self) -> bool:
        record, now = self._record, self._stamp()
        transitions = 0 if record is None else record.transitions + (record.holder != self.identity)
        claim = {"acquireTime": now, "leaseTransitions": transitions, **self._renewal(now)}
        return await self._write(claim, self._durations.deadline_s)

    async def _lead(self, work: Work) -> None:
        """Let the work go on for as long as the Lease is renewed in time."""
        log.info("this process leads: %s", self.identity)
        task = asyncio.create_task(work())
        try:
            while (left_s := self._renewed_at + self._durations.deadline_s - self._clock()) > 0:
                pause_s = self._renewed_at + self._durations.renewal_s - self._clock()
                if pause_s <= 0:
                    if await self._write(self._renewal(self._stamp()), left_s):
                        continue
                    if self._record is not None and self._record.holder != self.identity:
                        log.warning("the Lease %s/%s is not this process's any more: it acts no more", *self._key)
                        return
                    pause_s = min(RETRY_S, left_s)
                await asyncio.wait({task}, timeout=pause_s)
                if task.done():
                    task.result()
                    return
            log.warning(
                "the Lease %s/%s could not be renewed for %g s: this process acts no more until it can be",
                *self._key,
                self._durations.deadline_s,
            )
        finally:
            await self._dismiss(task)

    async def _dismiss(self, task: asyncio.Task[None]) -> None:
        """Begin nothing new, and give actions that are under way until another process may take over."""
        task.cancel()
        await asyncio.wait({task}, timeout=self._durations.lease_s - self._durations.deadline_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _release(self) -> None:
        for _ in range(RELEASES):
            if self._record is None or self._record.holder != self.identity:
                return
            given_up = {"holderIdentity": "", "renewTime": self._stamp()}
            if await self._write(given_up, self._durations.lease_s - self._durations.deadline_s):
                log.info("released the Lease %s/%s", *self._key)

    def _renewal(self, now: str) -> dict[str, Any]:
        return {"holderIdentity": self.identity, "leaseDurationSeconds": self._durations.lease_s, "renewTime": now}

    async def _write(self, spec: dict[str, Any], timeout_s: float) -> bool:
        """Compare and set the Lease, or make it; tell whether it is known to say so now."""
        record, sent_at = self._record, self._clock()
        path = f"{self._collection}/{self._key[1]}"
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    self._lease.upsert(await self._send(record, path, spec))
                except (Conflict, NotFound) as error:
                    log.info("%s", error.message)
                    await self._look(path)
                    return False
        except TimeoutError:
            log.info("the Lease %s/%s could not be written within %g s", *self._key, timeout_s)
            return False
        except ApiError as error:
            log.info("%s", error.message)
            return False
        self._renewed_at = sent_at  # others may have seen it since then
        return True

    async def _send(self, record: Record | None, path: str, spec: dict[str, Any]) -> bytes:
        if record is None:
            meta = {"name": self._key[1], "namespace": self._key[0]}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
            return await self._api.request("POST", self._collection, body=msgspec.json.encode(body))
        body = {"metadata": {"resourceVersion": record.version}, "spec": spec}
        return await self._api.request("PATCH", path, body=msgspec.json.encode(body), content_type=MERGE_PATCH)

    async def _look(self, path: str) -> None:
        try:
            await self._lease.ask(path)
        except NotFound:
            await self._lease.refresh()

    def _stamp(self) -> str:
        return self._wall().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
