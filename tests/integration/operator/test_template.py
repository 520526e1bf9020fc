"""What a template says of accounts and gates, on the real API server; tests/integration/crd has all other fields."""

from functools import partial

import pytest
from understudy_kube.client import Conflict

from tests.integration.operator.process import Operator
from tests.integration.operator.stage import TRAINER, Json, Stage

pytestmark = pytest.mark.cluster

GATE = "queue.example/admission"


def holds(job: Json, kind: str, reason: str, words: str) -> bool:
    """Tell whether a job's condition has this reason, and these words."""
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] == kind and c["reason"] == reason and words in c["message"] for c in conditions)


def tells(event: Json, reason: str, words: str) -> bool:
    return event["reason"] == reason and words in event["message"]


async def test_an_account_by_its_old_name_is_the_pods_and_gets_the_workers_role(
    stage: Stage, operator: Operator
) -> None:
    await stage.create("serviceaccounts", {"metadata": {"name": "cloud-reader"}})
    await stage.create_job("job", template={"spec": {"containers": [TRAINER], "serviceAccount": "cloud-reader"}})
    pod = await stage.until("pods", "job-0-0", lambda _: True, "the primary")
    assert pod["spec"]["serviceAccountName"] == "cloud-reader"
    binding = await stage.until("rolebindings", None, lambda _: True, "the pods' rights")
    assert [subject["name"] for subject in binding["subjects"]] == ["cloud-reader"]
    assert "job-worker" not in [account["metadata"]["name"] for account in await stage.list("serviceaccounts")]


async def test_the_account_that_is_made_pulls_with_the_secrets_of_the_namespaces_own(
    stage: Stage, operator: Operator
) -> None:
    default = {"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}]}
    try:
        await stage.create("serviceaccounts", default)  # no controller makes it here
    except Conflict:
        await stage.patch("serviceaccounts", "default", default)
    await stage.create_job("job")
    account = await stage.until("serviceaccounts", "job-worker", lambda _: True, "the pods' account")
    assert account["imagePullSecrets"] == default["imagePullSecrets"]
    pod = await stage.until("pods", "job-0-0", lambda _: True, "the primary")
    assert pod["spec"]["imagePullSecrets"] == default["imagePullSecrets"]


async def test_a_pod_with_gates_is_told_by_their_names_and_scheduled_once_they_are_off(
    stage: Stage, operator: Operator
) -> None:
    gated = {"containers": [TRAINER], "schedulingGates": [{"name": GATE}]}
    await stage.create_job("job", redundancy=0, template={"spec": gated})
    waits = partial(holds, kind="Training", reason="SchedulingGated", words=GATE)
    job = await stage.until("trainingjobs", "job", waits, "a condition that names the gate")
    assert "resources" not in str(job["status"]["conditions"])
    await stage.until("events", None, partial(tells, reason="PodGated", words=GATE), "an Event that names the gate")
    await stage.patch("pods", "job-0-0", {"spec": {"schedulingGates": None}})
    job = await stage.until("trainingjobs", "job", lambda job: not waits(job), "a condition of a pod that is admitted")
    assert holds(job, "Training", "Starting", "job-0-0"), "it is not said to find no node before a scheduler has looked"


async def test_what_is_changed_in_a_template_is_told(stage: Stage, operator: Operator) -> None:
    trainer = {**TRAINER, "readinessProbe": {"exec": {"command": ["true"]}}}
    await stage.create_job("job", template={"spec": {"containers": [trainer]}})
    told = partial(tells, reason="TemplateChanged", words="readinessProbe of container trainer")
    event = await stage.until("events", None, told, "an Event that names the probe")
    assert event["type"] == "Normal"


async def test_an_image_that_cannot_be_pulled_is_told_with_where_its_secret_belongs(
    stage: Stage, operator: Operator
) -> None:
    await stage.create_job("job", redundancy=0)
    await stage.until("pods", "job-0-0", lambda _: True, "the primary")
    waiting = {"reason": "ImagePullBackOff", "message": "401 Unauthorized"}
    state = {"name": "trainer", "image": "any:1", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Pending", "containerStatuses": [{**state, "state": {"waiting": waiting}}]}
    await stage.patch("pods", "job-0-0", {"status": status}, status=True)
    words = f"imagePullSecrets of ServiceAccount job-worker in namespace {stage.namespace}, then delete pod job-0-0"
    named = partial(holds, kind="Training", reason="ImagePullBackOff", words=words)
    await stage.until("trainingjobs", "job", named, "a condition that names the account")
