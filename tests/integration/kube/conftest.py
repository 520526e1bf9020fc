"""A namespace of the local cluster for each module, and credentials of a person and of a ServiceAccount."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from understudy_kube.client import Api, Credentials


def kubeconfig() -> Path:
    """Find the local cluster."""
    configured = os.environ.get("KUBECONFIG")
    path = Path(configured) if configured else Path(__file__).parents[3] / ".cluster/kubeconfig"
    if not path.is_file():
        pytest.fail(f"{path} does not exist: run `make cluster` first")
    return path


@pytest.fixture
def credentials() -> Credentials:
    return Credentials.from_kubeconfig(kubeconfig())


@pytest.fixture
async def api(credentials: Credentials) -> AsyncIterator[Api]:
    async with Api(credentials) as api:
        yield api


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    name = f"kube-{uuid.uuid4().hex[:8]}"
    await api.post(
        "/api/v1/namespaces", b'{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s"}}' % name.encode()
    )
    yield name
    await api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def bare() -> Credentials:
    """The server and its CA, with nobody's identity."""
    import yaml

    config = yaml.safe_load(kubeconfig().read_text())
    config["users"] = [{"name": user["name"], "user": {}} for user in config["users"]]
    anonymous = kubeconfig().parent / f".anonymous-{uuid.uuid4().hex}"
    anonymous.write_text(yaml.safe_dump(config))
    try:
        return Credentials.from_kubeconfig(anonymous)
    finally:
        anonymous.unlink()
