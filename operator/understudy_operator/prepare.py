"""The children that never change, and a trial of the template.

Guarantees that a job which was prepared has its claim, Service and ServiceAccount, and, if asked for, that the API
server accepted its pod in a dry run, as strictly as it can. All of it is idempotent. What an earlier job of the name
left without an owner is adopted, and made to say what this job would have made; beyond that nothing is put right that
somebody changed in one of them.

Guarantees that a job's pods are given rights to those Leases only that exist and are the job's own. A Lease of the name
of one of its ranks may be anybody's, such as that by which another program elects its leader. Hence a Role is made
after the Leases, and is named after them, so that more Leases mean another Role beside the first. Does not take rights
back: where somebody deletes a Lease of the job and makes another of its name before the operator does, the right stays
until the job is deleted.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_kube.client import Api, ApiError, Conflict, NotFound
from understudy_kube.refusals import Refusal

from understudy_operator import children
from understudy_operator.core.actions import CreatePod, Placement
from understudy_operator.core.model import Job
from understudy_operator.creation import (
    NameTakenError,
    TroubleError,
    build_pod,
    ensure,
    is_orphan,
    made_for,
    owned_by,
)
from understudy_operator.objects import ClaimObject
from understudy_operator.together import all_of

ABREAST: Final = 16
"""Budgets of one job that are seen to at once, at most. One after the other, those of 64 ranks would take minutes where
a call takes seconds, and all else of the job would wait for the last."""


async def prepare(api: Api, job: Job, *, trial: bool) -> bytes:
    """Make what is missing; return the claim. Raises TroubleError, or ApiError where a later try may succeed."""
    core = f"/api/v1/namespaces/{job.namespace}"
    if job.policy.claim_template is None:
        claim = await _find_claim(api, job)
    else:
        claim = await ensure(api, job, f"{core}/persistentvolumeclaims", children.claim(job), ours=made_for)
    wanted = [(f"{core}/services", children.service(job))]
    if job.policy.account_name is None:
        secrets = await _pull_secrets(api, f"{core}/serviceaccounts/default")
        wanted.append((f"{core}/serviceaccounts", children.account(job, secrets)))
    await _ensure_all(api, job, wanted)
    if trial:
        await _try_template(api, job)
    return claim


async def grant_rights(api: Api, job: Job, leases: Sequence[str]) -> None:
    """Let the job's pods get, watch and patch these Leases."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{job.namespace}"
    wanted = [
        (f"{rbac}/roles", children.worker_role(job, leases)),
        (f"{rbac}/rolebindings", children.worker_binding(job, leases)),
    ]
    await _ensure_all(api, job, wanted)


async def _ensure_all(api: Api, job: Job, wanted: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Make or adopt these objects; raise one NameTakenError that names all which are in the way."""
    taken: list[tuple[str, str]] = []
    for path, body in wanted:
        try:
            await ensure(api, job, path, body)
        except NameTakenError as error:
            taken += error.objects
    if taken:
        raise NameTakenError(job.namespace, *taken)


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
    await all_of(map(keep, bodies))


async def _remove(api: Api, job: Job, path: str) -> None:
    with suppress(NotFound):
        found = await api.get(path)
        if owned_by(job, found) or is_orphan(job, msgspec.json.decode(found, type=ClaimObject).metadata):
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
        if error.refusal is Refusal.INVALID:
            raise TroubleError(EventReason.INVALID_TEMPLATE, f"The pod template is refused: {error.message}") from error
        # A quota, a policy, a webhook: the template may be right elsewhere.
        raise TroubleError(EventReason.REFUSED, f"Pods of this template are refused: {error.message}") from error
