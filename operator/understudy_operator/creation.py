"""Creating what may exist already, and telling our own from another's.

An object of the right name that belongs to another job is never touched: it is in the way, and the job says so until
it is gone. So is a Lease of its own that has lost the label by which it is watched. One that has this job's name in its
label and no owner was made for an earlier job of this name, which was deleted without its children or restored from a
backup: it is adopted, and made to say what this job would have created. Leases and pods are adopted elsewhere, as a
whole (core/adoption.py).
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_contract.lease import decode_lease
from understudy_contract.names import Label
from understudy_kube import shallow
from understudy_kube.client import Api, Conflict, NotFound

from understudy_operator import children
from understudy_operator.core.actions import CreatePod
from understudy_operator.core.model import Job
from understudy_operator.objects import ClaimObject, Meta

log: Final = logging.getLogger("understudy")


KEPT_AS_FOUND: Final = ("Lease", "Pod", "PersistentVolumeClaim")
"""Kinds that are not adopted one by one: Leases and pods are as a whole, and a claim has no owner."""

_ANY: Final = msgspec.json.Decoder(ClaimObject)
"""Reads the metadata of any object."""


class TroubleError(Exception):
    """A job cannot have what it needs until somebody acts; the message says who and what."""

    def __init__(self, reason: EventReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NameTakenError(TroubleError):
    """An object that is not this job's has the name of one of its children."""

    def __init__(self, namespace: str, *objects: tuple[str, str]) -> None:
        """Name the objects, each by kind and name, and the one command that removes them all."""
        names = ", ".join(f"{kind} {name}" for kind, name in objects)
        exist, these, them = ("exists", "is", "it") if len(objects) == 1 else ("exist", "are", "them")
        command = " ".join(f"{kind.lower()}/{name}" for kind, name in objects)
        super().__init__(
            EventReason.NAME_TAKEN,
            f"{names} in namespace {namespace} {exist} already and {these} not this job's: delete {them}, or rename "
            f"the job. `kubectl delete {command} -n {namespace}`",
        )
        self.namespace = namespace
        self.objects = objects


def build_pod(job: Job, order: CreatePod) -> dict[str, Any]:
    """Build a pod of a job's template; TroubleError for one with a list or a map where a pod has something else.

    Only the API server validates the template, so a pod must be built before it can be checked.
    """
    try:
        return children.pod(job, order)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TroubleError(
            EventReason.INVALID_TEMPLATE,
            f"No pod can be made of the pod template: a list or a map is not where a Pod has one ({error}). Compare it "
            "with `kubectl explain pod.spec.containers`.",
        ) from error


async def create(
    api: Api, job: Job, path: str, body: dict[str, Any], *, ours: Callable[[Job, bytes], bool] | None = None
) -> bytes:
    """Create an object, or take the one that an earlier try made; raises TroubleError for another's."""
    try:
        return await api.post(path, msgspec.json.encode(body))
    except Conflict:
        found = await api.get(f"{path}/{body['metadata']['name']}")
        return await _accept(api, job, path, body, found, ours or owned_by)


async def ensure(
    api: Api, job: Job, path: str, body: dict[str, Any], *, ours: Callable[[Job, bytes], bool] | None = None
) -> bytes:
    """Take an object that should exist, or create it; raises TroubleError for another's.

    Asks first: a quota that this very object fills refuses to create it before it looks whether it exists.
    """
    try:
        found = await api.get(f"{path}/{body['metadata']['name']}")
    except NotFound:
        return await create(api, job, path, body, ours=ours)
    return await _accept(api, job, path, body, found, ours or owned_by)


async def _accept(
    api: Api, job: Job, path: str, body: dict[str, Any], found: bytes, ours: Callable[[Job, bytes], bool]
) -> bytes:
    kind, meta = body["kind"], shallow.decode(found, _ANY).metadata
    if kind == "Lease" and (ours(job, found) or is_orphan(job, meta)):
        if Label.JOB_UID in meta.labels:
            return found
        # The watch never shows it, so that it would be taken in, and missed again, without end.
        raise TroubleError(
            EventReason.NAME_TAKEN,
            f"Lease {meta.name} in namespace {job.namespace} has lost its label {Label.JOB_UID}, without which it is "
            f"not watched: put it back with `kubectl label lease {meta.name} -n {job.namespace} "
            f"{Label.JOB_UID}={job.identity}`.",
        )
    foreign = meta.labels.get(Label.JOB_UID) != job.identity  # the identity was adopted after it was made
    if kind not in KEPT_AS_FOUND and (is_orphan(job, meta) or (foreign and owned_by(job, found))):
        change = {**body, "metadata": {**body["metadata"], "uid": meta.uid, "resourceVersion": meta.resource_version}}
        log.info("%s/%s: adopting %s %s", job.namespace, job.name, kind, meta.name)
        return await api.merge_patch(f"{path}/{meta.name}", msgspec.json.encode(change))
    if ours(job, found):
        return found
    if any(owner.kind == names.KIND and owner.name == job.name for owner in meta.owner_references):
        message = f"{kind} {meta.name} in namespace {job.namespace} is left of an earlier job of this name"
        raise TroubleError(EventReason.NAME_TAKEN, f"{message}: waiting until it has been removed.")
    holder = decode_lease(found).holder if kind == "Lease" else ""
    if holder:
        raise TroubleError(
            EventReason.NAME_TAKEN,
            f"Lease {meta.name} in namespace {job.namespace} exists already, is not this job's, and is held by {holder}"
            f". Wait for the end of {holder}, or stop it, before you delete the Lease; or rename the job.",
        )
    raise NameTakenError(job.namespace, (kind, meta.name))


def is_orphan(job: Job, meta: Meta) -> bool:
    """Tell whether an object was made for an earlier job of this name and has no owner any more."""
    return not meta.owner_references and meta.labels.get(Label.JOB) == job.name and meta.deletion_timestamp is None


def owned_by(job: Job, body: bytes) -> bool:
    """Tell whether an object's owner is this very job, not an earlier one of its name."""
    meta = shallow.decode(body, _ANY).metadata
    return any(owner.uid == job.uid for owner in meta.owner_references)


def made_for(job: Job, body: bytes) -> bool:
    """Accept the claim that an earlier job of the same name left: its checkpoints stay, under that job's uid."""
    return shallow.decode(body, _ANY).metadata.labels.get(Label.JOB) == job.name
