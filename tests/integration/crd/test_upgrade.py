"""A job that an earlier definition admitted, under this one: it goes on as it is, and can be put right.

An upgrade must not keep the operator from writing the status of a job whose template would be refused today.
"""

import json
from copy import deepcopy
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from tests.integration.crd.conftest import Jobs, defined
from tests.integration.crd.template_fields import PROBE, TRAINER, of_pod, of_trainer

pytestmark = pytest.mark.cluster

TRIES = 1000
"""Until a changed definition is in force: each is a request, of which some dozens were needed."""


def lenient(schema: dict[str, Any]) -> None:
    """Take every rule of a schema away."""
    schema.pop("x-kubernetes-validations", None)
    for child in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        lenient(child)


def admitted(jobs: Jobs, body: dict[str, Any]) -> bool:
    try:
        jobs.create(body, dry_run="All")
    except ApiException as refusal:
        if refusal.status == 409:  # its name is taken: it has passed the rules
            return True
        assert refusal.status == 422, refusal.body
        return False
    return True


def test_a_job_of_an_earlier_definition_keeps_its_template_its_status_is_written_and_it_can_be_mended(
    api: client.ApiClient, crd: dict[str, Any]
) -> None:
    earlier = json.loads(json.dumps(crd))  # without the anchors, by which two places are one object
    lenient(earlier["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"])
    bad = of_trainer(livenessProbe=PROBE)
    bad["spec"]["template"]["spec"]["nodeName"] = "node-a"
    with defined(api, earlier) as jobs:
        jobs.create(deepcopy(bad))
        versions = [{"op": "replace", "path": "/spec/versions", "value": crd["spec"]["versions"]}]
        name = f"trainingjobs.{jobs.group}"
        client.ApiextensionsV1Api(api).patch_custom_resource_definition(name, versions)
        assert any(not admitted(jobs, deepcopy(bad)) for _ in range(TRIES)), "the rules are in force"
        assert jobs.patch_status("good", {"phase": "Running"})["status"]["phase"] == "Running"
        jobs.patch("good", {"spec": {"suspend": True}})
        mended = of_pod()["spec"]["template"]["spec"]
        change = {"spec": {"template": {"spec": {**mended, "containers": [TRAINER], "nodeName": None}}}}
        assert "livenessProbe" not in str(jobs.patch("good", change)["spec"])
        jobs.patch("good", {"spec": {"suspend": False}})
