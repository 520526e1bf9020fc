"""Every field of a pod that the API server has is known, and what is said to work is taken by it.

A field that a later Kubernetes adds makes the first test fail: docs/reference/template.md has to say what comes of it.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, watch
from understudy_contract.names import Rank, Term
from understudy_contract.status import JobStatus
from understudy_operator import children
from understudy_operator.core.actions import CreatePod, Placement
from understudy_operator.core.model import Job
from understudy_operator.core.policy import read_policy

from tests.integration.crd.template_fields import TAKEN, with_field

pytestmark = pytest.mark.cluster

KNOWN = json.loads((Path(__file__).resolve().parents[2] / "unit" / "docs" / "pod_fields.json").read_text())


def test_the_fields_of_a_pod_are_those_that_are_known(api: client.ApiClient) -> None:
    version = client.VersionApi(api).get_code()
    document = api.rest_client.request("GET", f"{api.configuration.host}/openapi/v3/api/v1").read()
    schemas = json.loads(document)["components"]["schemas"]
    served = {kind: sorted(schemas[f"io.k8s.api.core.v1.{kind}"]["properties"]) for kind in ("PodSpec", "Container")}
    assert {"version": f"{version.major}.{version.minor}", **served} == KNOWN


@pytest.fixture(scope="module")
def runtime_class(api: client.ApiClient) -> Iterator[str]:
    made = client.NodeV1Api(api)
    name = f"template-{uuid.uuid4().hex[:8]}"
    body = {"metadata": {"name": name}, "handler": "runc", "overhead": {"podFixed": {"cpu": "1m"}}}
    made.create_runtime_class(body)
    yield name
    made.delete_runtime_class(name)


@pytest.fixture(scope="module")
def namespace(api: client.ApiClient) -> Iterator[str]:
    core = client.CoreV1Api(api)
    name = core.create_namespace({"metadata": {"generateName": "template-"}}).metadata.name
    core.create_namespaced_service_account(name, {"metadata": {"name": "digits-worker"}})
    stream = watch.Watch()
    for event in stream.stream(core.list_namespaced_service_account, name, timeout_seconds=60):
        if event["object"].metadata.name == "default":  # a controller makes it
            stream.stop()
    yield name
    core.delete_namespace(name)


@pytest.mark.parametrize("field", TAKEN)
def test_a_pod_of_a_template_with_the_field_is_admitted(
    api: client.ApiClient, namespace: str, runtime_class: str, field: str
) -> None:
    body: dict[str, Any] = json.loads(
        json.dumps(with_field(field, TAKEN[field])).replace("RUNTIME_CLASS", runtime_class)
    )
    job = Job(namespace, "digits", "uid", 1, "2026-01-01T00:00:00Z", read_policy("digits", body["spec"]), JobStatus())
    pod = children.pod(job, CreatePod("digits-0-0", Rank(0), None, Term(1), Placement(False, ())))
    client.CoreV1Api(api).create_namespaced_pod(namespace, pod, dry_run="All", field_validation="Strict")
