"""What the operator and a worker may do: enough, and nothing else. Asked of the API server's own authorizer."""

import itertools
import json
from functools import partial

import pytest
from understudy_contract.names import MAX_REDUNDANCY
from understudy_contract.reports import Phase
from understudy_kube.client import Api, Forbidden

from tests.integration.operator.control_plane import ACCOUNT, SYSTEM, ControlPlane
from tests.integration.operator.process import Operator
from tests.integration.operator.stage import TRAINER, Json, Stage, Worker, decoded

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
    ("create", "", "events"),
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
    own = [f"mine-{rank}{slot}" for rank in (0, 1) for slot in ("", *(f"-s{n}" for n in range(MAX_REDUNDANCY)))]
    foreign = ["theirs-0", "theirs-0-s0", "mine-2", f"mine-0-s{MAX_REDUNDANCY}", ""]
    await stage.until("rolebindings", "mine-worker", lambda _: True, "the workers' RoleBinding")
    token = control_plane.token_of(stage.namespace, "mine-worker")
    async with Api(control_plane.credentials(token)) as api:

        async def granted(group: str, resource: str, name: str = "") -> set[str]:
            return {v for v in VERBS if await may(api, v, group, resource, namespace=stage.namespace, name=name)}

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
    await stage.until("rolebindings", "mine-worker", lambda _: True, "the workers' RoleBinding")
    for account in ("own", "other"):
        await stage.patch("trainingjobs", "mine", {"spec": {"suspend": True}})
        template = {"spec": {"containers": [TRAINER], "serviceAccountName": account}}
        await stage.patch("trainingjobs", "mine", {"spec": {"template": template}})
        await stage.patch("trainingjobs", "mine", {"spec": {"suspend": False}})
        names_it = partial(_names, account=account)
        bound = await stage.until("rolebindings", None, names_it, f"a binding of {account}")
        assert bound["roleRef"]["name"] == "mine-worker"


def _names(binding: Json, account: str) -> bool:
    return bool(binding["subjects"][0]["name"] == account)


async def test_a_workers_own_token_renews_its_lease_and_is_refused_elsewhere(
    control_plane: ControlPlane, stage: Stage, operator: Operator
) -> None:
    await stage.create_job("mine")
    await stage.create_job("theirs")
    for name in ("mine", "theirs"):
        await stage.until("rolebindings", f"{name}-worker", lambda _: True, "the workers' RoleBinding")
        await stage.until("leases", f"{name}-0", lambda _: True, "the rank's Lease")
    await stage.until("pods", "mine-0-0", lambda _: True, "the primary")
    token = control_plane.token_of(stage.namespace, "mine-worker", "mine-0-0")
    async with Api(control_plane.credentials(token)) as api:
        seen = await Worker(stage, api, "mine-0-0", "mine-0", 1).renew(Phase.STARTING)
        assert seen.current_heartbeat is not None
        with pytest.raises(Forbidden):
            await Worker(stage, api, "theirs-0-0", "theirs-0", 1).renew(Phase.STARTING)
        with pytest.raises(Forbidden):
            await api.get(stage.path("leases"))
        for kind in ("secrets", "pods", "configmaps"):
            with pytest.raises(Forbidden):
                await api.get(stage.path(kind))
