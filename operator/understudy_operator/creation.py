"""Creating what may exist already, and telling our own from another's.

An object of the right name that belongs to another job is never touched: it is in the way, and the job says so until
it is gone. So is a Lease of its own that has lost the label by which it is watched.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from understudy_contract import names
from understudy_contract.events import EventReason
from understudy_contract.names import Label
from understudy_kube import shallow
from understudy_kube.client import Api, Conflict, NotFound

from understudy_operator import children
from understudy_operator.core.actions import CreatePod
from understudy_operator.core.model import Job
from understudy_operator.objects import ClaimObject

_ANY: Final = msgspec.json.Decoder(ClaimObject)
"""Reads the metadata of any object."""


class TroubleError(Exception):
    """A job cannot have what it needs until somebody acts; the message says who and what."""

    def __init__(self, reason: EventReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def build_pod(job: Job, order: CreatePod) -> dict[str, Any]:
    """Build a pod of a job's template; TroubleError for one with a list or a map where a pod has something else.

    The CRD leaves the template to the API server, which is asked about the pod made of it: so far it has to come.
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
        return _accept(job, body, found, ours or owned_by)


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
    return _accept(job, body, found, ours or owned_by)


def _accept(job: Job, body: dict[str, Any], found: bytes, ours: Callable[[Job, bytes], bool]) -> bytes:
    meta = shallow.decode(found, _ANY).metadata
    what = f"{body['kind']} {meta.name} in namespace {job.namespace}"
    if ours(job, found):
        if body["kind"] != "Lease" or Label.JOB_UID in meta.labels:
            return found
        # The watch never shows it, so that it would be taken in, and missed again, without end.
        message = (
            f"{what} has lost its label {Label.JOB_UID}, without which it is not watched: put it back with `kubectl "
            f"label lease {meta.name} -n {job.namespace} {Label.JOB_UID}={job.uid}`, or delete the Lease."
        )
    elif any(owner.kind == names.KIND and owner.name == job.name for owner in meta.owner_references):
        message = f"{what} is left of an earlier job of this name: waiting until it has been removed."
    else:
        message = f"{what} exists already and is not this job's: delete it, or rename the job."
    raise TroubleError(EventReason.NAME_TAKEN, message)


def owned_by(job: Job, body: bytes) -> bool:
    """Tell whether an object's owner is this very job, not an earlier one of its name."""
    meta = shallow.decode(body, _ANY).metadata
    return any(owner.uid == job.uid for owner in meta.owner_references)


def made_for(job: Job, body: bytes) -> bool:
    """Accept the claim that an earlier job of the same name left: its checkpoints stay, under that job's uid."""
    return shallow.decode(body, _ANY).metadata.labels.get(Label.JOB) == job.name
