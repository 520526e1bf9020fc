"""Objects that cannot be read are told once, and their number costs nobody but those who made them."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from understudy_kube.client import ApiError, Conflict, Forbidden, Unreachable
from understudy_kube.informer import Identity
from understudy_operator.quarantine import JOB, LISTED_MAX, NODE, Quarantine

from tests.unit.operator import virtual


class Server:
    """Takes Events, or refuses them with what is in `refusals`."""

    def __init__(self, *refusals: ApiError) -> None:
        self.refusals = list(refusals)
        self.events: list[dict[str, Any]] = []

    async def post(self, path: str, body: bytes) -> bytes:
        if self.refusals:
            raise self.refusals.pop(0)
        self.events.append({"path": path, **json.loads(body)})
        return b"{}"


def a_job(number: int) -> Identity:
    return Identity(f"job{number}", "n", f"u{number}", "1")


async def told(server: Server, quarantine: Quarantine, seconds: float) -> list[str]:
    """Let time pass; name whom Events were posted about."""
    task = asyncio.create_task(quarantine.run())
    await asyncio.sleep(seconds)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return [event["involvedObject"]["name"] for event in server.events]


@pytest.mark.parametrize("refusal", [None, Unreachable("no answer"), Conflict(409, "AlreadyExists", "it exists")])
def test_each_object_is_told_once_for_each_reason(refusal: ApiError | None) -> None:
    async def main() -> None:
        server = Server(*([refusal] if refusal is not None else []))
        quarantine = Quarantine(server)  # type: ignore[arg-type]
        for why in ("too deep", "too deep", "too large"):
            quarantine.add(JOB, a_job(1), why)
        found = await told(server, quarantine, 60)
        exists = isinstance(refusal, Conflict)
        assert found == ["job1"] * (1 if exists else 2)
        (event, *_) = server.events
        assert (event["reason"], event["type"], event["involvedObject"]["kind"]) == (
            "Unreadable",
            "Warning",
            "TrainingJob",
        )
        assert event["path"] == "/api/v1/namespaces/n/events"

    virtual.run(main())


def test_an_event_that_is_refused_keeps_no_other_from_being_posted() -> None:
    async def main() -> None:
        server = Server(Forbidden(403, "Forbidden", "no"))
        quarantine = Quarantine(server)  # type: ignore[arg-type]
        quarantine.add(JOB, a_job(1), "too deep")
        quarantine.add(NODE, Identity("node", "", "u"), "no node")
        assert await told(server, quarantine, 60) == ["node"]
        assert server.events[0]["path"] == "/api/v1/namespaces/default/events"

    virtual.run(main())


def test_thousands_are_logged_and_told_as_far_as_there_is_room() -> None:
    async def main() -> None:
        server = Server()
        quarantine = Quarantine(server)  # type: ignore[arg-type]
        for number in range(3 * LISTED_MAX):
            quarantine.add(JOB, a_job(number), "too deep")
        assert len(await told(server, quarantine, 59.5)) == 60, "one a second"

    virtual.run(main())
