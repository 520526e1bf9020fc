"""The CRD under a group of its own on the real API server, so that no installed definition is touched.

The schema is that of `manifests/crd.yaml`, byte for byte; group and names alone differ. Definition and namespace
are deleted at the end.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config, watch

ROOT = Path(__file__).resolve().parents[3]
ESTABLISHED_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Jobs:
    """TrainingJobs of one namespace, of a definition that is a copy of ours."""

    api: client.CustomObjectsApi
    group: str
    namespace: str

    def create(self, body: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Create; raises ApiException as the server refuses."""
        stamped = {"apiVersion": f"{self.group}/v1alpha1", "kind": "TrainingJob", **body}
        return self.api.create_namespaced_custom_object(
            self.group, "v1alpha1", self.namespace, "trainingjobs", stamped, **options
        )

    def patch(self, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Merge-patch; raises ApiException as the server refuses."""
        return self.api.patch_namespaced_custom_object(
            self.group, "v1alpha1", self.namespace, "trainingjobs", name, patch
        )

    def patch_status(self, name: str, status: dict[str, Any]) -> dict[str, Any]:
        """Merge-patch the status."""
        return self.api.patch_namespaced_custom_object_status(
            self.group, "v1alpha1", self.namespace, "trainingjobs", name, {"status": status}
        )


@pytest.fixture(scope="session")
def crd() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())


@pytest.fixture(scope="session")
def api() -> Iterator[client.ApiClient]:
    kubeconfig = os.environ.get("KUBECONFIG") or str(ROOT / ".cluster" / "kubeconfig")
    if not Path(kubeconfig).exists():
        pytest.fail(f"no cluster: {kubeconfig} is missing; run `make cluster`")
    with config.new_client_from_config(kubeconfig) as made:
        yield made


@pytest.fixture(scope="session")
def jobs(api: client.ApiClient, crd: dict[str, Any]) -> Iterator[Jobs]:
    """An established copy of the definition, and a namespace."""
    with defined(api, crd) as made:
        yield made


@contextmanager
def defined(api: client.ApiClient, crd: dict[str, Any]) -> Iterator[Jobs]:
    """Establish a definition under a group of its own, and make a namespace; both go at the end."""
    mark = uuid.uuid4().hex[:8]
    group = f"crd-{mark}.understudy.dev"
    spec = {
        **crd["spec"],
        "group": group,
        "names": {k: v for k, v in crd["spec"]["names"].items() if k != "shortNames"},
    }
    copy = {**crd, "metadata": {"name": f"trainingjobs.{group}"}, "spec": spec}
    definitions, core = client.ApiextensionsV1Api(api), client.CoreV1Api(api)
    definitions.create_custom_resource_definition(copy)
    try:
        core.create_namespace({"metadata": {"name": f"crd-{mark}"}})
        wait_until_established(definitions, copy["metadata"]["name"])
        yield Jobs(client.CustomObjectsApi(api), group, f"crd-{mark}")
    finally:
        definitions.delete_custom_resource_definition(copy["metadata"]["name"])
        core.delete_namespace(f"crd-{mark}")


def wait_until_established(definitions: client.ApiextensionsV1Api, name: str) -> None:
    """Wait for the server to serve the definition; fails with its conditions."""
    seen: Any = None
    stream = watch.Watch()
    for event in stream.stream(
        definitions.list_custom_resource_definition,
        field_selector=f"metadata.name={name}",
        timeout_seconds=ESTABLISHED_WITHIN_S,
    ):
        seen = event["object"].status.conditions or []
        if any(condition.type == "Established" and condition.status == "True" for condition in seen):
            stream.stop()
            return
    pytest.fail(f"{name} is not established after {ESTABLISHED_WITHIN_S} s: {seen}")
