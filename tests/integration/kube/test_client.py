"""The client against a real API server."""

import asyncio
import json
import socket
from contextlib import aclosing
from pathlib import Path

import pytest
from understudy_kube.client import (
    Api,
    Conflict,
    Credentials,
    Forbidden,
    Invalid,
    NotFound,
    Unauthorized,
    Unreachable,
)

pytestmark = pytest.mark.cluster


def leases(namespace: str, name: str = "") -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases" + (f"/{name}" if name else "")


def lease(name: str, holder: str = "a") -> bytes:
    return json.dumps(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": {"test": "kube"}, "annotations": {}},
            "spec": {"holderIdentity": holder, "leaseTransitions": 1, "leaseDurationSeconds": 3},
        }
    ).encode()


async def test_each_refusal_has_its_own_type(api: Api, namespace: str) -> None:
    with pytest.raises(NotFound) as missing:
        await api.get(leases(namespace, "x"))
    assert "GET" in missing.value.message and "/leases/x" in missing.value.message
    await api.post(leases(namespace), lease("x"))
    with pytest.raises(Conflict) as twice:
        await api.post(leases(namespace), lease("x"))
    assert twice.value.reason == "AlreadyExists"
    with pytest.raises(Invalid):
        await api.json_patch(leases(namespace, "x"), b'[{"op":"test","path":"/spec/holderIdentity","value":"b"}]')
    with pytest.raises(Conflict):
        await api.merge_patch(
            leases(namespace, "x"), b'{"metadata":{"resourceVersion":"1"},"spec":{"holderIdentity":"b"}}'
        )
    assert not twice.value.is_transient


async def test_an_account_without_rights_is_forbidden_and_a_wrong_token_is_unauthorized(
    api: Api, namespace: str, bare: Credentials
) -> None:
    await api.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts",
        b'{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"nobody"}}',
    )
    answer = await api.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/nobody/token",
        b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}',
    )
    token = json.loads(answer)["status"]["token"]
    async with Api(Credentials(bare.server, bare.ssl_context, token=token)) as nobody:
        with pytest.raises(Forbidden):
            await nobody.get(leases(namespace))
    async with Api(Credentials(bare.server, bare.ssl_context, token="wrong")) as wrong:
        with pytest.raises(Unauthorized) as refused:
            await wrong.get(leases(namespace))
    assert refused.value.is_transient


async def test_a_rotated_token_is_read_again_after_a_401(
    api: Api, namespace: str, bare: Credentials, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("expired")
    await api.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts",
        b'{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"rotating"}}',
    )
    answer = await api.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/rotating/token",
        b'{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}',
    )
    async with Api(Credentials(bare.server, bare.ssl_context, token_file=token_file)) as account:
        with pytest.raises(Unauthorized):
            await account.get("/api/v1/namespaces")
        token_file.write_text(json.loads(answer)["status"]["token"])
        with pytest.raises(Forbidden):  # known now, though it may not do this
            await account.get("/api/v1/namespaces")


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with Api(Credentials(f"http://127.0.0.1:{port}", None)) as api:
        with pytest.raises(Unreachable) as error:
            await api.get("/api")
    assert error.value.status == 0 and error.value.is_transient


async def test_a_server_that_says_nothing_is_unreachable_and_its_watch_too() -> None:
    async def silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Api(Credentials(f"http://127.0.0.1:{port}", None)) as api:
        with pytest.raises(Unreachable):
            await api.get("/api", timeout_s=0.05)
        with pytest.raises(Unreachable):
            async with aclosing(api.watch("/api", timeout_s=60, silence_s=0.05)) as lines:
                async for _ in lines:
                    pass
    server.close()


async def test_a_list_comes_in_pages_and_a_watch_goes_on_from_it(api: Api, namespace: str) -> None:
    for number in range(5):
        await api.post(leases(namespace), lease(f"p{number}"))
    pages = [json.loads(page) async for page in api.list_pages(leases(namespace), limit=2)]
    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    position = pages[-1]["metadata"]["resourceVersion"]
    opened = asyncio.Event()
    watch = api.watch(
        leases(namespace), params={"resourceVersion": position}, timeout_s=60, silence_s=30, on_open=opened.set
    )
    async with aclosing(watch) as lines:
        first = asyncio.ensure_future(anext(lines))
        await opened.wait()
        await api.post(leases(namespace), lease("p5"))
        event = json.loads(await first)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "p5")
