"""The children that never change, and a trial of the template.

Guarantees that a job which was prepared has its claim, Service, ServiceAccount, Role and RoleBinding, and, if asked
for, that the API server accepted its pod in a dry run, as strictly as it can. All of it is idempotent. Does not put
right what somebody changed in one of them: that would take the right to change any Role of the cluster.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

import msgspec
from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_kube.client import Api, ApiError, Conflict, Forbidden, NotFound, ServerError

from understudy_operator import children
from understudy_operator.core.actions import CreatePod, Placement
from understudy_operator.core.model import Job
from understudy_operator.creation import TroubleError, build_pod, ensure, made_for, owned_by

ABREAST: Final = 16
"""Budgets of one job that are seen to at once, at most. One after the other, those of 64 ranks would take minutes where
a call takes seconds, and all else of the job would wait for the last."""


async def prepare(api: Api, job: Job, *, trial: bool) -> bytes:
    """Make what is missing; return the claim. Raises TroubleError, or ApiError where a later try may succeed."""
    core = f"/api/v1/namespaces/{job.namespace}"
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{job.namespace}"
    if job.policy.claim_template is None:
        claim = await _find_claim(api, job)
    else:
        claim = await ensure(api, job, f"{core}/persistentvolumeclaims", children.claim(job), ours=made_for)
    await ensure(api, job, f"{core}/services", children.service(job))
    if job.policy.account_name is None:
        accounts = f"{core}/serviceaccounts"
        await ensure(api, job, accounts, children.account(job, await _pull_secrets(api, f"{accounts}/default")))
    await ensure(api, job, f"{rbac}/roles", children.worker_role(job))
    await ensure(api, job, f"{rbac}/rolebindings", children.worker_binding(job))
    if trial:
        await _try_template(api, job)
    return claim


async def _pull_secrets(api: Api, account: str) -> list[dict[str, Any]]:
    """Read with which secrets an account pulls images: a namespace gives its own to the default account.

    The account that is made for a job has them from its beginning; what is added to the default account later is not
    carried over, since that would take the right to change any ServiceAccount. The condition of a pod whose image
    cannot be pulled says where to add it.
    """
    try:
        found = msgspec.json.decode(await api.get(account))
    except NotFound:
        return []
    return [{"name": secret["name"]} for secret in found.get("imagePullSecrets") or () if secret.get("name")]


async def keep_budgets(api: Api, job: Job, *, wanted: bool) -> None:
    """Make every rank's PodDisruptionBudget, or remove them; what fails for one rank keeps no other from its own."""
    path = f"/apis/policy/v1/namespaces/{job.namespace}/poddisruptionbudgets"
    room = asyncio.Semaphore(ABREAST)

    async def keep(body: dict[str, Any]) -> None:
        async with room:
            if wanted:
                await ensure(api, job, path, body)
            else:
                await _remove(api, job, f"{path}/{body['metadata']['name']}")

    bodies = [children.disruption_budget(job, names.Rank(rank)) for rank in range(job.policy.ranks)]
    results = await asyncio.gather(*map(keep, bodies), return_exceptions=True)
    for failure in results:
        if isinstance(failure, BaseException):
            raise failure


async def _remove(api: Api, job: Job, path: str) -> None:
    with suppress(NotFound):
        if owned_by(job, await api.get(path)):
            await api.delete(path)


async def _find_claim(api: Api, job: Job) -> bytes:
    name = job.policy.claim_name
    try:
        return await api.get(f"/api/v1/namespaces/{job.namespace}/persistentvolumeclaims/{name}")
    except NotFound:
        raise TroubleError(
            EventReason.CLAIM_MISSING,
            f"PersistentVolumeClaim {name} (spec.checkpoint.claimName) does not exist in namespace {job.namespace}: "
            "create it, or leave claimName out to have one made.",
        ) from None


async def _try_template(api: Api, job: Job) -> None:
    for slot in (None, 0) if job.policy.redundant_template else (None,):
        await _try_pod(api, job, slot)


async def _try_pod(api: Api, job: Job, slot: int | None) -> None:
    trial = CreatePod(f"{job.name}-dry-run", names.Rank(0), slot, names.Term(0), Placement(False, ()))
    pod = build_pod(job, trial)
    pod["metadata"]["generateName"] = pod["metadata"].pop("name") + "-"  # no pod that exists can be in the way
    body = msgspec.json.encode(pod)
    try:
        await api.post(
            f"/api/v1/namespaces/{job.namespace}/pods", body, params={"dryRun": "All", "fieldValidation": "Strict"}
        )
    except ApiError as error:
        if error.is_transient or isinstance(error, Conflict):
            raise
        if isinstance(error, Forbidden | ServerError):  # a quota, a policy, a webhook that is down: right elsewhere
            raise TroubleError(EventReason.REFUSED, f"Pods of this template are refused: {error.message}") from error
        raise TroubleError(EventReason.INVALID_TEMPLATE, f"The pod template is refused: {error.message}") from error
