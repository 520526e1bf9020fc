"""Asks a pod's Events why its container was told to end.

The kubelet tells of a probe that failed in Events alone: `Unhealthy` has the probe's answer, `Killing` says that the
container is ended for it. One list by the pod's uid has both. Guarantees an answer unless the API server is in trouble:
where the operator may not read Events, nothing is known, and that is the answer. Kubernetes forgets Events after an
hour, and a kubelet may drop some under load: then no probe is named. Reads no clock.
"""

import logging
import re
from typing import Final

import msgspec
from understudy_contract.names import TRAINER_CONTAINER
from understudy_kube.client import Api, ApiError

from understudy_operator.core.model import Job, Killed, Pod

log: Final = logging.getLogger("understudy")

EVENTS_MAX: Final = 200
"""Events of one pod that are read: repeated ones are counted in one object, so that a pod has a dozen."""
_KILLING: Final = re.compile(rf"Container {TRAINER_CONTAINER} failed (liveness|startup) probe")
"""The kubelet's sentence, the same since Kubernetes 1.16 (pkg/kubelet/kuberuntime, computePodActions)."""

_FIELD: Final = f"spec.containers{{{TRAINER_CONTAINER}}}"


class _Involved(msgspec.Struct, rename="camel"):
    field_path: str = ""


class _Event(msgspec.Struct, rename="camel"):
    reason: str = ""
    message: str = ""
    involved_object: _Involved = msgspec.field(default_factory=_Involved)


class _Events(msgspec.Struct):
    items: list[_Event] = []


async def why_killed(api: Api, job: Job, pod: Pod) -> Killed:
    """Read the pod's Events; raises ApiError when it is worth another try."""
    path = f"/api/v1/namespaces/{job.namespace}/events"
    params = {"fieldSelector": f"involvedObject.uid={pod.uid}", "limit": str(EVENTS_MAX)}
    try:
        return read_events(await api.get(path, params=params))
    except ApiError as error:
        if error.is_transient:
            raise
        log.warning("%s/%s: Events of pod %s cannot be read: %s", job.namespace, job.name, pod.name, error.message)
    except msgspec.MsgspecError as error:
        log.warning("%s/%s: Events of pod %s are not readable: %s", job.namespace, job.name, pod.name, error)
    return Killed()


def read_events(body: bytes) -> Killed:
    """Find the probe that the kubelet killed the container `trainer` for, and what the probe had answered."""
    events = msgspec.json.decode(body, type=_Events).items
    killing = next((found for e in events if e.reason == "Killing" and (found := _KILLING.match(e.message))), None)
    if killing is None:
        return Killed()
    probe = killing[1]
    failed = [e for e in events if e.reason == "Unhealthy" and e.message.lower().startswith(probe)]
    said = [e.message for e in failed if e.involved_object.field_path in ("", _FIELD)]
    return Killed(probe, said[-1] if said else "")
