"""Events of a job: each is posted once, under a name made of its key, whichever process posts it.

An Event that an earlier process posted answers 409 and is left as it is. One that the API refuses is logged and given
up: nothing depends on it.
"""

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from understudy_contract import names
from understudy_contract.events import event_type
from understudy_contract.lease import micro_time
from understudy_contract.text import clean
from understudy_kube.client import Api, Conflict, Forbidden, Invalid, NotFound

from understudy_operator.core.actions import Emit
from understudy_operator.core.model import Job, Now

log: Final = logging.getLogger("understudy")

COMPONENT: Final = "understudy-operator"
MESSAGE_MAX_BYTES: Final = 1024
"""The API's limit for an Event's note."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    api_version: str
    kind: str
    namespace: str
    """Empty for one that has none."""
    name: str
    uid: str


async def post(api: Api, job: Job, event: Emit, now: Now) -> None:
    """Post an Event about a job."""
    await post_about(api, Subject(names.API_VERSION, names.KIND, job.namespace, job.name, job.uid), event, now.wall)


async def post_about(api: Api, subject: Subject, event: Emit, wall: datetime) -> None:
    """Post an Event about any object."""
    digest = hashlib.sha256(f"{subject.uid} {event.key}".encode()).hexdigest()[:16]
    stamp = micro_time(wall)[:19] + "Z"
    namespace = subject.namespace or "default"  # where Kubernetes itself keeps Events of nodes
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{subject.name}.{digest}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "name": subject.name,
            "namespace": subject.namespace,
            "uid": subject.uid,
        },
        "type": event_type(event.reason),
        "reason": event.reason,
        "message": clean(event.message, MESSAGE_MAX_BYTES),
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
    }
    try:
        await api.post(f"/api/v1/namespaces/{namespace}/events", msgspec.json.encode(body))
    except Conflict:
        pass  # posted before
    except (Forbidden, Invalid, NotFound) as error:
        log.warning("%s/%s: Event %s was refused: %s", subject.namespace, subject.name, event.reason, error.message)
