"""How long the client waits for an answer, in virtual time; what a real server answers is in tests/integration/kube."""

import asyncio

import pytest
from understudy_kube.client import Api, Credentials, ServerError, Unreachable

from tests.unit.operator import virtual

WEBHOOK_S = 10.0
"""Kubernetes' own default of an admission webhook's timeoutSeconds."""
NO_WEBHOOK = b'{"message":"failed calling webhook \\"x\\": context deadline exceeded"}'


class Late(Api):
    """An API server that answers a moment after it has given an admission webhook up."""

    async def _send_twice(self, *_: object) -> tuple[int, bytes]:
        await asyncio.sleep(WEBHOOK_S + 0.5)
        return 500, NO_WEBHOOK


def test_whoever_makes_an_object_hears_that_an_admission_webhook_cannot_be_called() -> None:
    async def make() -> None:
        with pytest.raises(ServerError) as refused:
            await Late(Credentials("http://127.0.0.1:1", None)).post("/pods", b"{}")
        assert not refused.value.is_transient, "somebody has to mend it"

    virtual.run(make())


def test_nothing_else_is_waited_for_so_long() -> None:
    async def ask() -> None:
        api, loop = Late(Credentials("http://127.0.0.1:1", None)), asyncio.get_running_loop()
        for request, limit_s in ((api.get("/pods"), 10.0), (api.json_patch("/leases/x", b"[]", timeout_s=0.9), 0.9)):
            asked_at = loop.time()
            with pytest.raises(Unreachable):
                await request
            assert loop.time() - asked_at == pytest.approx(limit_s)

    virtual.run(ask())
