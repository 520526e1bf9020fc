"""Creating what may exist already, and telling our own from another's.

An object of the right name that belongs to another job is never touched: it is in the way, and the job says so until
it is gone.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from understudy_contract.names import Label
from understudy_kube.client import Api, Conflict

from understudy_operator.core.actions import EventReason
from understudy_operator.core.model import Job
from understudy_operator.objects import ClaimObject


class TroubleError(Exception):
    """A job cannot have what it needs until somebody acts; the message says who and what."""

    def __init__(self, reason: EventReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def create(
    api: Api, job: Job, path: str, body: dict[str, Any], *, ours: Callable[[Job, bytes], bool] | None = None
) -> bytes:
    """Create an object, or take the one that an earlier try made; raises TroubleError for another's."""
    try:
        return await api.post(path, msgspec.json.encode(body))
    except Conflict:
        name = body["metadata"]["name"]
        found = await api.get(f"{path}/{name}")
        if (ours or owned_by)(job, found):
            return found
        raise TroubleError(
            EventReason.NAME_TAKEN,
            f"{body['kind']} {name} in namespace {job.namespace} exists already and is not this job's: "
            "delete it, or rename the job.",
        ) from None


def owned_by(job: Job, body: bytes) -> bool:
    """Tell whether an object's owner is this very job, not an earlier one of its name."""
    meta = msgspec.json.decode(body, type=ClaimObject).metadata
    return any(owner.uid == job.uid for owner in meta.owner_references)


def made_for(job: Job, body: bytes) -> bool:
    """Accept the claim that an earlier job of the same name left: its checkpoints stay, under that job's uid."""
    return msgspec.json.decode(body, type=ClaimObject).metadata.labels.get(Label.JOB) == job.name
