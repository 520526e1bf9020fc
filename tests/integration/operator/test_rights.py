"""What the operator and a worker may do: enough, and nothing else. Asked of the API server's own authorizer."""

import asyncio
import itertools
import json

import pytest
from understudy_contract.reports import Phase
from understudy_kube.client import Api, Forbidden

from tests.integration.operator.control_plane import ACCOUNT, SYSTEM, ControlPlane
from tests.integration.operator.process import Operator
from tests.integration.operator.stage import TRAINER, WAIT_S, Json, Stage, Worker, decoded

pytestmark = pytest.mark.cluster

Right = tuple[str, str, str]
"""Verb, API group, resource."""

OPERATOR: set[Right] = {
    *itertools.product(("get", "list", "watch", "patch", "delete"), ["understudy.dev"], ["trainingjobs"]),
    ("patch", "understudy.dev", "trainingjobs/status"),
    *itertools.product(("get", "list", "watch", "create", "patch", "delete"), [""], ["pods"]),
    *itertools.product(("get", "list", "watch", "create", "patch"), ["coordination.k8s.io"], ["leases"]),
    *itertools.product(("get", "list", "watch", "create"), [""], ["persistentvolumeclaims"]),
    *itertools.product(("get", "create", "patch"), [""], ["services", "serviceaccounts"]),
    *itertools.product(("get", "create", "patch"), ["rbac.authorization.k8s.io"], ["roles", "rolebindings"]),
    *itertools.product(("get", "create", "patch", "delete"), ["policy"], ["poddisruptionbudgets"]),
    *itertools.product(("get", "list", "watch"), [""], ["nodes"]),
    *itertools.product(("create", "list"), [""], ["events"]),
}
"""All that the operator is granted."""

VERBS = (
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "escalate",
    "bind",
    "impersonate",
)
RESOURCES = (
    ("understudy.dev", "trainingjobs"),
    ("understudy.dev", "trainingjobs/status"),
    ("", "pods"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "pods/eviction"),
    ("", "secrets"),
    ("", "configmaps"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "services"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "events"),
    ("", "users"),
    ("coordination.k8s.io", "leases"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("policy", "poddisruptionbudgets"),
    ("apps", "deployments"),
    ("batch", "jobs"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
)


async def may(api: Api, verb: str, group: str, resource: str, *, namespace: str, name: str = "") -> bool:
    """Ask whether the owner of `api`'s token may do this."""
    plural, _, sub = resource.partition("/")
    wanted = {
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": sub,
        "namespace": namespace,
        "name": name,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return bool(decoded(await api.post(path, json.dumps(body).encode()))["status"]["allowed"])


@pytest.mark.parametrize(("group", "resource"), RESOURCES)
async def test_the_operator_may_do_what_is_listed_and_no_more(
    control_plane: ControlPlane, group: str, resource: str
) -> None:
    async with Api(control_plane.credentials(control_plane.token_of(SYSTEM, ACCOUNT))) as api:
        allowed = {verb for verb in VERBS if await may(api, verb, group, resource, namespace="default")}
    assert allowed == {verb for verb, *kind in OPERATOR if kind == [group, resource]}


async def test_a_worker_may_get_watch_and_patch_its_jobs_leases_and_nothing_else(
    control_plane: ControlPlane, stage: Stage, operator: Operator
) -> None:
    await stage.create_job("mine", ranks=2, redundancy=2)
    await stage.create_job("theirs")
    own = [f"mine-{rank}{slot}" for rank in (0, 1) for slot in ("", "-s0", "-s1")]
    foreign = ["theirs-0", "theirs-0-s0", "mine-2", "mine-0-s2", ""]
    await stage.rights("mine")
    token = control_plane.token_of(stage.namespace, "mine-worker")
    async with Api(control_plane.credentials(token)) as api:

        async def granted(group: str, resource: str, name: str = "") -> set[str]:
            return {v for v in VERBS if await may(api, v, group, resource, namespace=stage.namespace, name=name)}

        await _granted(api, stage, own[-1])
        for name in own:
            assert await granted("coordination.k8s.io", "leases", name) == {"get", "watch", "patch"}, name
        for name in foreign:
            assert await granted("coordination.k8s.io", "leases", name) == set(), name
        for group, resource in RESOURCES:
            assert await granted(group, resource) == set(), resource


async def test_an_account_that_a_suspended_jobs_template_is_given_gets_the_workers_role(
    stage: Stage, operator: Operator
) -> None:
    await stage.create_job("mine")
    await stage.rights("mine")
    for account in ("own", "other"):
        await stage.patch("trainingjobs", "mine", {"spec": {"suspend": True}})
        template = {"spec": {"containers": [TRAINER], "serviceAccountName": account}}
        await stage.patch("trainingjobs", "mine", {"spec": {"template": template}})
        await stage.patch("trainingjobs", "mine", {"spec": {"suspend": False}})
        await stage.rights("mine", account)


async def _granted(api: Api, stage: Stage, lease: str) -> None:
    """Wait until the owner of a token may renew a Lease: the API server learns of a new Role by a watch of its own."""
    async with asyncio.timeout(WAIT_S):
        while not await may(  # noqa: ASYNC110 - the authorizer does not tell
            api, "patch", "coordination.k8s.io", "leases", namespace=stage.namespace, name=lease
        ):
            await asyncio.sleep(0.05)


async def test_a_lease_of_others_that_stands_in_the_way_is_named_and_not_given_to_the_workers(
    control_plane: ControlPlane, stage: Stage, operator: Operator
) -> None:
    await stage.create("leases", {"metadata": {"name": "vote-0"}, "spec": {"holderIdentity": "somebody-else"}})
    await stage.create_job("vote", ranks=2)
    found = await stage.until("trainingjobs", "vote", lambda job: _training(job) == "NameTaken", "NameTaken")
    assert "Lease vote-0 in namespace" in json.dumps(found["status"]["conditions"])
    await stage.rights("vote")
    async with Api(control_plane.credentials(control_plane.token_of(stage.namespace, "vote-worker"))) as api:
        await _granted(api, stage, "vote-1")
        for verb in VERBS:
            assert not await may(api, verb, "coordination.k8s.io", "leases", namespace=stage.namespace, name="vote-0")
        with pytest.raises(Forbidden):
            await api.merge_patch(f"{stage.path('leases')}/vote-0", b'{"spec": {"holderIdentity": "vote-0-0"}}')
        await stage.delete("leases", "vote-0")
        await _granted(api, stage, "vote-0")
    assert (await stage.get("leases", "vote-0"))["metadata"]["ownerReferences"][0]["name"] == "vote"


def _training(job: Json) -> str:
    conditions = job.get("status", {}).get("conditions", ())
    return next((str(c["reason"]) for c in conditions if c["type"] == "Training"), "")


async def test_a_workers_own_token_renews_its_lease_and_is_refused_elsewhere(
    control_plane: ControlPlane, stage: Stage, operator: Operator
) -> None:
    await stage.create_job("mine")
    await stage.create_job("theirs")
    for name in ("mine", "theirs"):
        await stage.rights(name)
    await stage.until("pods", "mine-0-0", lambda _: True, "the primary")
    token = control_plane.token_of(stage.namespace, "mine-worker", "mine-0-0")
    async with Api(control_plane.credentials(token)) as api:
        await _granted(api, stage, "mine-0")
        seen = await Worker(stage, api, "mine-0-0", "mine-0", 1).renew(Phase.STARTING)
        assert seen.current_heartbeat is not None
        with pytest.raises(Forbidden):
            await Worker(stage, api, "theirs-0-0", "theirs-0", 1).renew(Phase.STARTING)
        with pytest.raises(Forbidden):
            await api.get(stage.path("leases"))
        for kind in ("secrets", "pods", "configmaps"):
            with pytest.raises(Forbidden):
                await api.get(stage.path(kind))
