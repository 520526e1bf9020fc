"""One bad object harms itself only: what the API server stores, and a decoder or a report would stumble over."""

import json

import pytest
from understudy_contract import names
from understudy_contract.names import Label

from tests.integration.operator.process import Operator
from tests.integration.operator.rank import Rank, failover, promoted
from tests.integration.operator.stage import TRAINER, Json, Stage

pytestmark = pytest.mark.cluster

LEVELS = 9_990
"""The API server takes 10,000, and the job has some around it."""
DEEP = '{"a":' * LEVELS + "1" + "}" * LEVELS


async def create_deep_job(stage: Stage, name: str) -> None:
    """Create a job whose pod template has a field that is nested as deep as the API server takes it."""
    template = json.dumps({"spec": {"containers": [TRAINER]}})[:-2]
    head = json.dumps({"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}})[:-1]
    body = f'{head},"spec":{{"template":{template},"anything":{DEEP}}}}}}}}}'
    await stage.api.post(stage.path(names.PLURAL), body.encode())


def is_about(name: str, reason: str) -> "object":
    return lambda event: event["reason"] == reason and event["involvedObject"]["name"] == name


async def told(stage: Stage, name: str, reason: str) -> Json:
    """Wait for an Event about an object."""
    return await stage.until(
        "events",
        None,
        lambda event: event["reason"] == reason and event["involvedObject"]["name"] == name,
        f"Event {reason} about {name}",
    )


async def test_a_job_nested_as_deep_as_the_api_server_takes_it_harms_itself_only(
    rank: Rank, stage: Stage, operator: Operator
) -> None:
    await create_deep_job(stage, "deep")
    event = await told(stage, "deep", "Unreadable")
    assert "nested more than 64 levels deep" in event["message"]
    assert operator.runs(), "although the watch told of it"
    operator.kill()
    operator.start()  # the list tells of it now
    await stage.delete("pods", rank.primary.pod, gracePeriodSeconds=0)
    await promoted(rank)
    await rank.successor.train(1, 0)
    assert (await failover(rank))["cause"] == "PodDeleted"
    assert operator.runs()
    assert [pod for pod in await stage.list("pods") if pod["metadata"]["name"].startswith("deep-")] == []
    await stage.delete(names.PLURAL, "deep")
    await stage.create_job("deep")
    await stage.until("pods", "deep-0-0", lambda _: True, "the first pod of a job of that name that can be read")


async def test_a_status_that_the_schema_admits_and_no_operator_wrote_holds_no_promotion_back(
    rank: Rank, stage: Stage
) -> None:
    await stage.until(names.PLURAL, "job", lambda j: j.get("status", {}).get("phase") == "Running", "phase Running")
    odd = {"failovers": [{"rank": 0, "term": 1}, {"rank": 3, "term": 2**31 - 1, "promotedAt": "2026-01-01T00:00:00Z"}]}
    await stage.patch(names.PLURAL, "job", {"status": {**odd, "restarts": 2**31 - 1}}, status=True)
    await stage.delete("pods", rank.primary.pod, gracePeriodSeconds=0)
    await promoted(rank)
    await rank.successor.train(1, 0)
    assert (await failover(rank))["cause"] == "PodDeleted"
    await stage.until(names.PLURAL, "job", lambda j: len(j["status"]["failovers"]) == 1, "a list of one failover")


async def test_children_whose_managed_fields_are_nested_deep_are_read(
    rank: Rank, stage: Stage, operator: Operator
) -> None:
    """Whoever writes an object may write what is said of who wrote it."""
    uid = (await stage.get(names.PLURAL, "job"))["metadata"]["uid"]
    fields = '{"f:metadata":' + '{"f:a":' * 1_500 + "{}" + "}" * 1_500 + "}"
    entry = '{"manager":"m","operation":"Update","apiVersion":"%s","fieldsType":"FieldsV1","fieldsV1":%s}'
    for kind, version, name in (("leases", "coordination.k8s.io/v1", "job-0"), ("pods", "v1", "job-0-0")):
        patch = f'{{"metadata":{{"managedFields":[{entry % (version, fields)}]}}}}'
        await stage.api.merge_patch(f"{stage.path(kind)}/{name}", patch.encode())
    body = {"metadata": {"name": "any", "labels": {Label.JOB_UID: uid, Label.JOB: "job"}}}
    text = json.dumps(body)[:-2] + f',"managedFields":[{entry % ("coordination.k8s.io/v1", fields)}]}}}}'
    await stage.api.post(stage.path("leases"), text.encode())
    operator.kill()
    operator.start()
    await stage.delete("pods", rank.primary.pod, gracePeriodSeconds=0)
    await promoted(rank)
    assert operator.runs()
