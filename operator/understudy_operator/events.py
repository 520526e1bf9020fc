"""Events of a job: each is posted once, under a name made of its key, whichever process posts it.

An Event that an earlier process posted answers 409 and is left as it is. One that the API refuses is logged and given
up: nothing depends on it.
"""

import hashlib
import logging
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


async def post(api: Api, job: Job, event: Emit, now: Now) -> None:
    """Post an Event about a job."""
    digest = hashlib.sha256(f"{job.uid} {event.key}".encode()).hexdigest()[:16]
    stamp = micro_time(now.wall)[:19] + "Z"
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{job.name}.{digest}", "namespace": job.namespace},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": job.name,
            "namespace": job.namespace,
            "uid": job.uid,
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
        await api.post(f"/api/v1/namespaces/{job.namespace}/events", msgspec.json.encode(body))
    except Conflict:
        pass  # posted before
    except (Forbidden, Invalid, NotFound) as error:
        log.warning("%s/%s: Event %s was refused: %s", job.namespace, job.name, event.reason, error.message)
