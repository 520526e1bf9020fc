"""One rank of a job at work, and what tests wait for in it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from understudy_kube.client import Api, Invalid

from tests.integration.operator.stage import Stage, Worker

ROLE, TERM = "understudy.dev/role", "understudy.dev/term"


class Rank:
    """Rank 0 of a job with one redundant pod, both at work."""

    def __init__(self, stage: Stage, api: Api, job: str) -> None:
        self.stage, self.job = stage, job
        self.primary = Worker(stage, api, f"{job}-0-0", f"{job}-0", 1)
        self.redundant = Worker(stage, api, f"{job}-0-1", f"{job}-0-s0", 1)

    async def begin(self) -> None:
        """Bind the claim; let both workers come up and report."""
        await self.stage.run_pod(self.primary.pod, "node-a")
        await self.stage.bind(f"{self.job}-checkpoints", "ReadWriteMany")
        await self.primary.train(10, 0)
        await self.stage.run_pod(self.redundant.pod, "node-b")
        await self.redundant.stand_by(0)

    @property
    def successor(self) -> Worker:
        """The redundant worker, speaking as the primary of term 2."""
        return Worker(self.stage, self.redundant.api, self.redundant.pod, self.primary.lease, 2)


def role(pod: dict[str, Any]) -> tuple[str | None, str | None]:
    meta = pod["metadata"]
    return meta["labels"].get(ROLE), meta.get("annotations", {}).get(TERM)


@asynccontextmanager
async def heard(renew: Callable[[], Awaitable[object]], every_s: float = 0.5) -> AsyncIterator[None]:
    """Let a worker renew again and again, until its Lease is another's."""

    async def repeat() -> None:
        with suppress(Invalid):
            while True:
                await renew()
                await asyncio.sleep(every_s)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def promoted(rank: Rank) -> dict[str, Any]:
    """Wait until the redundant pod holds the rank and the label; give its pod."""
    lease = rank.primary.lease
    await rank.stage.lease_until(lease, lambda r: (r.holder, r.term) == (rank.redundant.pod, 2), "the promotion")
    return await rank.stage.until("pods", rank.redundant.pod, lambda p: role(p) == ("primary", "2"), "the label")


async def failover(rank: Rank) -> dict[str, Any]:
    """Wait for the failover in the status, with its first step."""
    jobs = "trainingjobs"
    found = await rank.stage.until(
        jobs, rank.job, lambda j: "firstStepAt" in (j.get("status", {}).get("failovers") or [{}])[0], "the failover"
    )
    (entry,) = found["status"]["failovers"]
    return dict(entry)
