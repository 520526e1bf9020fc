"""One rank of one job in a namespace of its own, and a ServiceAccount that may do what a worker's Role allows."""

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from understudy_kube.client import Api, Credentials

from tests.integration.agent.world import World, kubeconfig


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Api(Credentials.from_kubeconfig(kubeconfig())) as api:
        namespace = f"agent-{uuid.uuid4().hex[:8]}"
        await api.post(
            "/api/v1/namespaces",
            json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).encode(),
        )
        world = World(api, namespace, tmp_path, tmp_path / "kubeconfig")
        world.config.write_text(yaml.safe_dump(await _worker_account(api, namespace)))
        yield world
        for agent in world.agents:
            await agent.stop()
        await api.delete(f"/api/v1/namespaces/{namespace}")


async def _worker_account(api: Api, namespace: str) -> dict[str, Any]:
    """Make a ServiceAccount that may get, watch and patch the job's Leases, and its kubeconfig."""
    core, rbac = f"/api/v1/namespaces/{namespace}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"

    async def post(path: str, **body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await api.post(path, json.dumps(body).encode()))
        return answer

    await post(f"{core}/serviceaccounts", apiVersion="v1", kind="ServiceAccount", metadata={"name": "worker"})
    await post(
        f"{rbac}/roles",
        apiVersion="rbac.authorization.k8s.io/v1",
        kind="Role",
        metadata={"name": "worker"},
        rules=[
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": ["job-0", "job-0-s0"],
                "verbs": ["get", "watch", "patch"],
            }
        ],
    )
    await post(
        f"{rbac}/rolebindings",
        apiVersion="rbac.authorization.k8s.io/v1",
        kind="RoleBinding",
        metadata={"name": "worker"},
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "worker"},
        subjects=[{"kind": "ServiceAccount", "name": "worker", "namespace": namespace}],
    )
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await post(f"{core}/serviceaccounts/worker/token", **request))["status"]["token"]
    config: dict[str, Any] = yaml.safe_load(kubeconfig().read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    return config
