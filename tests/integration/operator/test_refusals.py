"""The words by which a real API server refuses, against the table that tells its parts from each other."""

import asyncio
import json

import pytest
from understudy_kube.client import Api, ApiError
from understudy_kube.refusals import Refusal, exceeded

from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.stage import Json, Stage

pytestmark = pytest.mark.cluster

POD: Json = {"metadata": {"name": "pod"}, "spec": {"containers": [{"name": "a", "image": "any:1"}]}}
PLAIN: Json = POD["spec"]
TRIES, PAUSE_S = 600, 0.05
"""Generous: mostly the second try is refused."""


@pytest.fixture(autouse=True)
async def account(stage: Stage) -> None:
    """The account that pods get; no controller makes it here."""
    await stage.create("serviceaccounts", {"metadata": {"name": "default"}})


async def refused(stage: Stage, spec: Json = PLAIN, api: Api | None = None) -> ApiError:
    """Try a pod, and return why it is refused."""
    body = json.dumps({**POD, "spec": spec}).encode()
    with pytest.raises(ApiError) as caught:
        await (api or stage.api).post(stage.path("pods"), body, params={"dryRun": "All", "fieldValidation": "Strict"})
    return caught.value


async def refused_soon(stage: Stage, spec: Json = PLAIN, words: str = "") -> ApiError:
    """Try a pod again and again, since admission reads from caches, until it is refused with these words."""
    body = json.dumps({**POD, "spec": spec}).encode()
    for _ in range(TRIES):
        try:
            await stage.api.post(stage.path("pods"), body, params={"dryRun": "All"})
        except ApiError as error:
            if words in error.message:
                return error
        await asyncio.sleep(PAUSE_S)
    raise AssertionError(f"no pod was refused with {words!r} after {TRIES} tries")


async def quota_of(stage: Stage, hard: Json, used: Json, resource: str) -> ApiError:
    """Make a quota, count what is used as its controller would, and wait until it refuses."""
    await stage.create("resourcequotas", {"metadata": {"name": "objects"}, "spec": {"hard": hard}})
    await stage.patch("resourcequotas", "objects", {"status": {"hard": hard, "used": used}}, status=True)
    return await refused_soon(stage, words=resource)


async def test_a_quota_that_is_used_up_is_named_with_what_to_raise(stage: Stage) -> None:
    error = await quota_of(stage, {"count/pods": "3"}, {"count/pods": "3"}, "count/pods")
    assert error.refusal is Refusal.QUOTA and exceeded(error.message) == {"count/pods"}
    assert "raise spec.hard of ResourceQuota objects for count/pods" in error.message
    assert "used: count/pods=3, limited: count/pods=3" in error.message and "grant" not in error.message


async def test_a_quota_that_wants_to_know_more(stage: Stage) -> None:
    error = await quota_of(stage, {"requests.cpu": "1"}, {"requests.cpu": "0"}, "requests.cpu")
    assert error.refusal is Refusal.QUOTA_UNSTATED and "ResourceQuota objects counts" in error.message


async def test_a_limit_range(stage: Stage) -> None:
    item = {"type": "Container", "max": {"memory": "256Mi"}}
    await stage.create("limitranges", {"metadata": {"name": "small"}, "spec": {"limits": [item]}})
    container = {"name": "a", "image": "any:1", "resources": {"limits": {"memory": "512Mi"}}}
    error = await refused_soon(stage, {"containers": [container]})
    assert error.refusal is Refusal.LIMIT_RANGE, error.message


async def test_pod_security(stage: Stage) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    patch = json.dumps({"metadata": {"labels": labels}}).encode()
    await stage.api.merge_patch(f"/api/v1/namespaces/{stage.namespace}", patch)
    error = await refused_soon(stage)
    assert error.refusal is Refusal.POD_SECURITY, error.message


async def test_an_account_and_a_priority_that_are_not_there(stage: Stage) -> None:
    error = await refused(stage, {**PLAIN, "serviceAccountName": "robot"})
    assert error.refusal is Refusal.ACCOUNT_MISSING, error.message
    assert f"create ServiceAccount {stage.namespace}/robot" in error.message
    error = await refused(stage, {**PLAIN, "priorityClassName": "urgent"})
    assert error.refusal is Refusal.PRIORITY_MISSING and "create PriorityClass urgent" in error.message


async def test_a_right_that_is_missing_and_nothing_else_is_blamed_on_rights(
    stage: Stage, control_plane: ControlPlane
) -> None:
    token = control_plane.token_of(stage.namespace, "default")
    async with Api(control_plane.credentials(token)) as nobody:
        error = await refused(stage, api=nobody)
    assert error.refusal is Refusal.RIGHT and "grant the account this verb" in error.message


async def test_a_pod_that_is_wrong_itself(stage: Stage) -> None:
    assert (await refused(stage, {"containers": [{"name": "a"}]})).refusal is Refusal.INVALID
    assert (await refused(stage, {**PLAIN, "imagee": "x"})).refusal is Refusal.INVALID


async def test_a_namespace_that_goes(stage: Stage) -> None:
    await stage.api.delete(f"/api/v1/namespaces/{stage.namespace}")
    error = await refused_soon(stage)
    assert error.refusal is Refusal.TERMINATING, error.message


async def test_a_webhook_that_is_down(stage: Stage) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    hook = {
        "name": "side.example.org",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
    }
    body = {"metadata": {"name": stage.namespace}, "webhooks": [hook]}
    await stage.api.post(path, json.dumps(body).encode())
    try:
        error = await refused_soon(stage)
    finally:
        await stage.api.delete(f"{path}/{stage.namespace}")
    assert error.refusal is Refusal.WEBHOOK_DOWN and not error.is_transient
    assert "mend the service behind webhook side.example.org" in error.message
