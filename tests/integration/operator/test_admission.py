"""What the API server itself refuses to workers: the policy of manifests/install.yaml, asked with the tokens that real
pods of a real job would have mounted. What RBAC refuses is here too, where it takes both to close a door.
"""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from understudy_contract import names
from understudy_contract.exits import ExitCode, ReleaseReason
from understudy_contract.lease import decode_lease, encode, micro_time, renewal_patch
from understudy_contract.names import Annotation, Label, Term
from understudy_contract.reports import Heartbeat, Notice, Phase, Release
from understudy_kube.client import Api, Forbidden, Invalid

from tests.integration.operator.control_plane import ACCOUNT, SYSTEM, ControlPlane
from tests.integration.operator.process import Operator
from tests.integration.operator.stage import TRAINER, Json, Stage, Worker, decoded

pytestmark = pytest.mark.cluster

POLICY = "ValidatingAdmissionPolicy 'understudy-worker-leases'"
HOLDERS = {Annotation.HEARTBEAT, Annotation.RELEASED, Annotation.NOTICE}
OPERATORS = sorted(set(Annotation) - HOLDERS)


class Tokens:
    """Opens the API with the tokens of ServiceAccounts."""

    def __init__(self, plane: ControlPlane, stack: AsyncExitStack) -> None:
        self._plane, self._stack = plane, stack

    async def api(self, namespace: str, account: str, pod: str = "") -> Api:
        """Open the API with a token of the account, bound to a pod if one is named."""
        token = self._plane.token_of(namespace, account, pod)
        return await self._stack.enter_async_context(Api(self._plane.credentials(token)))


@pytest.fixture
async def tokens(control_plane: ControlPlane) -> AsyncIterator[Tokens]:
    async with AsyncExitStack() as stack:
        yield Tokens(control_plane, stack)


@dataclass(frozen=True, slots=True)
class Job:
    """A job with one rank: its two pods run, and speak with their own tokens."""

    stage: Stage
    primary: Worker
    redundant: Worker


async def begin(stage: Stage, tokens: Tokens, name: str, account: str = "") -> Job:
    """Bring both pods of a job up and let them report; `account` is its template's own, if it has one."""
    pod = {"containers": [TRAINER], **({"serviceAccountName": account} if account else {})}
    failover = {"leaseDurationSeconds": 3600}  # nobody renews here
    await stage.create_job(name, template={"spec": pod}, failover=failover)
    of_pods = account or f"{name}-worker"
    await stage.rights(name, account)
    await stage.run_pod(f"{name}-0-0", "node-a")
    api = await tokens.api(stage.namespace, of_pods, f"{name}-0-0")
    primary = Worker(stage, api, f"{name}-0-0", f"{name}-0", 1)
    await stage.bind(f"{name}-checkpoints", "ReadWriteMany")
    await primary.train(10, 0)
    await stage.run_pod(f"{name}-0-1", "node-b")
    api = await tokens.api(stage.namespace, of_pods, f"{name}-0-1")
    redundant = Worker(stage, api, f"{name}-0-1", f"{name}-0-s0", 1)
    await redundant.stand_by(0)
    return Job(stage, primary, redundant)


@pytest.fixture
async def job(stage: Stage, tokens: Tokens, operator: Operator) -> Job:
    return await begin(stage, tokens, "job")


async def refused(who: Worker, change: Json, *, lease: str = "") -> str:
    """Let a worker ask for a change of a Lease, its own by default; give the policy's words."""
    path = f"{who.stage.path('leases')}/{lease or who.lease}"
    with pytest.raises(Forbidden) as answer:
        await who.api.merge_patch(path, json.dumps(change).encode())
    said = answer.value.message
    assert POLICY in said
    assert f"Lease {who.stage.namespace}/{lease or who.lease} was not changed" in said
    return said


# What a holder may write


async def test_a_holder_renews_its_lease_again_and_again(job: Job) -> None:
    for step in (20, 30):
        beat = (await job.primary.train(step, 0)).current_heartbeat
        assert beat is not None
        assert beat.step == step
    assert (await job.redundant.stand_by(20)).current_heartbeat is not None


async def test_a_holder_renews_releases_and_notes_in_one_write(job: Job) -> None:
    beat = Heartbeat(pod=job.primary.pod, term=1, phase=Phase.TRAINING, step=7)
    release = Release(Term(1), ReleaseReason.PROCESS_EXITED, 137, "signal 9 (SIGKILL)")
    now = datetime.now(UTC)
    notice = Notice("CheckpointDamaged", "step 5 does not match its manifest", micro_time(now))
    body = renewal_patch(beat, now, release=release, notice=notice)
    found = decode_lease(await job.primary.api.json_patch(f"{job.stage.path('leases')}/job-0", body))
    assert (found.heartbeat, found.release, found.notice) == (beat, release, notice)


# What a holder may not


async def test_a_holder_cannot_raise_its_term(job: Job) -> None:
    assert "spec.leaseTransitions" in await refused(job.primary, {"spec": {"leaseTransitions": 2}})


async def test_a_holder_cannot_pass_its_lease_on(job: Job) -> None:
    said = await refused(job.primary, {"spec": {"holderIdentity": "job-0-1", "leaseTransitions": 2}})
    assert "spec.holderIdentity" in said
    assert "spec.leaseTransitions" in said


async def test_a_holder_cannot_empty_its_lease(job: Job) -> None:
    assert "spec.holderIdentity" in await refused(job.primary, {"spec": {"holderIdentity": None}})


async def test_a_holder_cannot_change_how_long_its_lease_lasts(job: Job) -> None:
    assert "spec.leaseDurationSeconds" in await refused(job.primary, {"spec": {"leaseDurationSeconds": 7200}})


async def test_a_holder_cannot_add_a_field_that_nobody_set(job: Job) -> None:
    assert "spec.acquireTime" in await refused(job.primary, {"spec": {"acquireTime": "2026-01-02T03:04:05.000000Z"}})


@pytest.mark.parametrize(("label", "value"), [(Label.RANK, "1"), (Label.JOB_UID, None), ("team", "ml")])
async def test_a_holder_cannot_change_labels(job: Job, label: str, value: str | None) -> None:
    assert "metadata.labels" in await refused(job.primary, {"metadata": {"labels": {label: value}}})


async def test_a_holder_cannot_disown_its_lease(job: Job) -> None:
    assert "metadata.ownerReferences" in await refused(job.primary, {"metadata": {"ownerReferences": None}})


async def test_a_holder_cannot_keep_its_lease_from_being_deleted(job: Job) -> None:
    assert "metadata.finalizers" in await refused(job.primary, {"metadata": {"finalizers": ["example.com/mine"]}})


@pytest.mark.parametrize("annotation", [*OPERATORS, "example.com/any"])
async def test_a_holder_cannot_write_an_annotation_of_others(job: Job, annotation: str) -> None:
    said = await refused(job.primary, {"metadata": {"annotations": {annotation: "7"}}})
    assert f"annotation {annotation};" in said


async def test_a_holder_cannot_remove_an_annotation_of_others(job: Job) -> None:
    wiped = {Annotation.INCARNATION: None, Annotation.FAILURES: None}
    said = await refused(job.primary, {"metadata": {"annotations": wiped}})
    assert Annotation.INCARNATION in said
    assert Annotation.FAILURES in said


@pytest.mark.parametrize("annotation", sorted(HOLDERS))
async def test_a_holder_cannot_fill_its_lease_and_renews_it_without_the_words_all_the_same(
    job: Job, annotation: Annotation
) -> None:
    said = await refused(job.primary, {"metadata": {"annotations": {annotation: "x" * 40_000}}})
    assert f"more than 32768 characters into annotation {annotation};" in said
    assert (await job.primary.train(20, 0)).current_heartbeat is not None


async def test_a_holder_cannot_hide_a_change_in_a_renewal(job: Job) -> None:
    beat = Heartbeat(pod=job.primary.pod, term=1, phase=Phase.TRAINING)
    patch = [
        *json.loads(renewal_patch(beat, datetime.now(UTC))),
        {"op": "add", "path": "/spec/leaseTransitions", "value": 2},
    ]
    with pytest.raises(Forbidden, match=r"spec\.leaseTransitions"):
        await job.primary.api.json_patch(f"{job.stage.path('leases')}/job-0", json.dumps(patch).encode())


# What others may not


async def test_a_redundant_pod_cannot_renew_the_lease_of_its_primary(job: Job) -> None:
    as_primary = Worker(job.stage, job.redundant.api, job.primary.pod, job.primary.lease, 1)
    with pytest.raises(Forbidden, match='pod "job-0-1" asked, and pod "job-0-0" holds it'):
        await as_primary.train(10, 0)


async def test_a_primary_cannot_renew_the_lease_of_a_redundant_pod(job: Job) -> None:
    as_redundant = Worker(job.stage, job.primary.api, job.redundant.pod, job.redundant.lease, 1)
    with pytest.raises(Forbidden, match='pod "job-0-0" asked, and pod "job-0-1" holds it'):
        await as_redundant.stand_by(0)


async def test_a_redundant_pod_cannot_promote_itself(job: Job) -> None:
    change = {"spec": {"holderIdentity": job.redundant.pod, "leaseTransitions": 2}}
    assert 'pod "job-0-0" holds it' in await refused(job.redundant, change, lease=job.primary.lease)


async def test_a_redundant_pod_cannot_release_the_lease_of_its_primary(job: Job) -> None:
    release = Release(Term(1), ReleaseReason.HANDED_OVER, ExitCode.HANDED_OVER)
    change = {"metadata": {"annotations": {Annotation.RELEASED: encode(release)}}}
    assert 'pod "job-0-0" holds it' in await refused(job.redundant, change, lease=job.primary.lease)


async def test_a_token_that_belongs_to_no_pod_is_refused(job: Job, tokens: Tokens) -> None:
    api = await tokens.api(job.stage.namespace, "job-worker")
    with pytest.raises(
        Forbidden, match=f"token of system:serviceaccount:{job.stage.namespace}:job-worker belongs to no"
    ):
        await Worker(job.stage, api, "job-0-0", "job-0", 1).train(10, 0)


async def test_after_a_promotion_the_successor_renews_and_the_old_primary_is_refused_with_and_without_tests(
    job: Job,
) -> None:
    await job.primary.hand_over(15)
    await job.stage.lease_until("job-0", lambda r: (r.holder, r.term) == ("job-0-1", 2), "the promotion")
    successor = Worker(job.stage, job.redundant.api, job.redundant.pod, job.primary.lease, 2)
    assert (await successor.train(16, 15)).current_heartbeat is not None
    with pytest.raises(Invalid):
        await job.primary.train(16, 15)
    said = await refused(job.primary, {"metadata": {"annotations": {Annotation.HEARTBEAT: "{}"}}})
    assert 'pod "job-0-1" holds it' in said


async def test_two_jobs_of_one_account_cannot_write_each_others_leases(
    stage: Stage, tokens: Tokens, operator: Operator
) -> None:
    await stage.create("serviceaccounts", {"metadata": {"name": "shared"}})
    mine, _ = [await begin(stage, tokens, name, "shared") for name in ("mine", "theirs")]
    said = await refused(mine.primary, {"spec": {"leaseTransitions": 9}}, lease="theirs-0")
    assert 'pod "mine-0-0" asked, and pod "theirs-0-0" holds it' in said


async def test_rights_that_a_job_brings_do_not_widen_what_it_may_write(
    stage: Stage, tokens: Tokens, operator: Operator
) -> None:
    """Its account may replace any Lease of the namespace, by RBAC: one of no job it does, one of a job it does not."""
    await stage.create("serviceaccounts", {"metadata": {"name": "strong"}})
    rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}
    await stage.create("roles", {"metadata": {"name": "strong"}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "strong"}
    account = {"kind": "ServiceAccount", "name": "strong", "namespace": stage.namespace}
    await stage.create("rolebindings", {"metadata": {"name": "strong"}, "roleRef": role, "subjects": [account]})
    job = await begin(stage, tokens, "job", "strong")
    await stage.create("leases", {"metadata": {"name": "other"}, "spec": {"leaseTransitions": 1}})
    for name, term in (("other", 2), ("job-0", 2)):
        found = await stage.get("leases", name)
        found["spec"]["leaseTransitions"] = term
        replace = job.primary.api.request("PUT", f"{stage.path('leases')}/{name}", body=json.dumps(found).encode())
        if name == "other":
            assert decoded(await replace)["spec"]["leaseTransitions"] == term
        else:
            with pytest.raises(Forbidden, match=r"spec\.leaseTransitions"):
                await replace


# Whom the policy leaves alone


async def test_a_person_may_edit_anything(job: Job) -> None:
    change = {"metadata": {"labels": {"team": "ml"}, "annotations": {Annotation.FAILURES: "0"}}}
    found = await job.stage.patch("leases", "job-0-s0", change | {"spec": {"leaseDurationSeconds": 61}})
    assert (found["metadata"]["labels"]["team"], found["spec"]["leaseDurationSeconds"]) == ("ml", 61)


@pytest.mark.parametrize(
    ("namespace", "account"), [(SYSTEM, ACCOUNT), ("kube-system", "generic-garbage-collector")], ids=["operator", "gc"]
)
async def test_a_controller_of_jobs_may_edit_leases_in_its_own_namespace(
    api: Api, tokens: Tokens, control_plane: ControlPlane, namespace: str, account: str
) -> None:
    if account != ACCOUNT:
        control_plane.request(
            "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}}
        )
    name = f"shared-{uuid.uuid4().hex[:8]}"
    path = Stage(api, namespace).path("leases")
    meta = {"name": name, "labels": {Label.JOB_UID: "none"}}
    await api.post(path, json.dumps({"metadata": meta, "spec": {"leaseTransitions": 1}}).encode())
    own = await tokens.api(namespace, account)
    found = decoded(await own.merge_patch(f"{path}/{name}", b'{"spec": {"leaseTransitions": 2}}'))
    assert found["spec"]["leaseTransitions"] == 2


# What RBAC refuses


async def lacks_the_right(api: Api, verb: str, method: str, path: str, body: Json | None = None) -> None:
    """Send a request that the account has no right to, whatever the policy says."""
    sent = None if body is None else json.dumps(body).encode()
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    with pytest.raises(Forbidden) as answer:
        await api.request(method, path, body=sent, content_type=kind)
    assert f"cannot {verb} resource" in answer.value.message


async def test_a_worker_cannot_touch_pods_not_even_its_own(job: Job) -> None:
    pods, api = job.stage.path("pods"), job.primary.api
    for name in (job.primary.pod, job.redundant.pod):
        await lacks_the_right(api, "get", "GET", f"{pods}/{name}")
        await lacks_the_right(
            api, "patch", "PATCH", f"{pods}/{name}", {"metadata": {"labels": {Label.ROLE: "primary"}}}
        )
        await lacks_the_right(api, "delete", "DELETE", f"{pods}/{name}")
    pod = {"metadata": {"name": "job-0-9"}, "spec": {"containers": [TRAINER]}}
    await lacks_the_right(api, "create", "POST", pods, pod)


async def test_a_worker_cannot_read_secrets(job: Job) -> None:
    secrets = job.stage.path("secrets")
    await job.stage.create("secrets", {"metadata": {"name": "any"}})
    await lacks_the_right(job.primary.api, "list", "GET", secrets)
    await lacks_the_right(job.primary.api, "get", "GET", f"{secrets}/any")


async def test_a_worker_can_neither_create_nor_delete_nor_list_leases(job: Job) -> None:
    leases, api = job.stage.path("leases"), job.primary.api
    await lacks_the_right(api, "create", "POST", leases, {"metadata": {"name": "mine"}})
    await lacks_the_right(api, "delete", "DELETE", f"{leases}/job-0")
    await lacks_the_right(api, "list", "GET", leases)
    await lacks_the_right(api, "update", "PUT", f"{leases}/job-0", await job.stage.get("leases", "job-0"))


async def test_a_worker_cannot_make_a_missing_lease_of_its_job_by_applying_it(job: Job) -> None:
    """A patch that applies can create, and a new Lease has no holder to compare with: RBAC decides.

    A worker has no right to create; nor to patch a Lease that is not there.
    """
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "job-0-s4"}}
    path = f"{job.stage.path('leases')}/job-0-s4"
    with pytest.raises(Forbidden, match="cannot patch resource"):
        await job.primary.api.request(
            "PATCH",
            path,
            body=json.dumps(body).encode(),
            content_type="application/apply-patch+yaml",
            params={"fieldManager": "mine"},
        )


async def test_a_worker_cannot_touch_its_job(job: Job) -> None:
    jobs = job.stage.path(names.PLURAL)
    await lacks_the_right(job.primary.api, "patch", "PATCH", f"{jobs}/job", {"spec": {"redundancy": 0}})
    await lacks_the_right(job.primary.api, "delete", "DELETE", f"{jobs}/job")
