"""Asks a pod's Events why its container was told to end.

The kubelet tells of a probe that failed in Events alone. `Unhealthy` has the probe's answer. `Killing` says "Container
trainer failed liveness probe" where the pod has another container that runs on; where it has none, the kubelet ends
the whole pod, and says "Stopping container trainer" as for any other end. So a probe is also named that failed in the
moment of the kill, by the kubelet's clock, which wrote both. An eviction is told in an Event before it begins, which is
earlier than in the pod's status. One list by the pod's uid has all of them.

Guarantees an answer unless the API server is in trouble: where the operator may not read Events, nothing is known, and
that is the answer. Kubernetes forgets Events after an hour, and a kubelet may drop some under load: then no probe is
named. A probe that fails for the first time in the very seconds in which somebody else ends the container is blamed
for it. Trusts no clock of the operator.
"""

import logging
import re
from datetime import datetime
from typing import Final

import msgspec
from understudy_contract.names import TRAINER_CONTAINER
from understudy_kube.client import Api, ApiError

from understudy_operator.core.model import Job, Killed, Pod

log: Final = logging.getLogger("understudy")

EVENTS_MAX: Final = 200
"""Events of one pod that are read: repeated ones are counted in one object, so that a pod has a dozen."""
SAME_MOMENT_S: Final = 5.0
"""From the last failure of a probe to the kill that follows from it: milliseconds, and Events have whole seconds. Less
than the 10 s between two probes by default."""
_KILLING: Final = re.compile(rf"Container {TRAINER_CONTAINER} failed (liveness|startup) probe")
_VERDICTS: Final = frozenset({"Evicted", "DeadlineExceeded", "Preempting"})
"""Reasons of Events that status.reason repeats, once the containers have ended."""
_UNHEALTHY: Final = re.compile("(Liveness|Startup) probe ")
"""The kubelet's sentences, the same since Kubernetes 1.16 (pkg/kubelet/kuberuntime, pkg/kubelet/prober)."""

_FIELD: Final = f"spec.containers{{{TRAINER_CONTAINER}}}"


class _Involved(msgspec.Struct, rename="camel"):
    field_path: str = ""


class _Event(msgspec.Struct, rename="camel"):
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
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
    """Find the verdict of the kubelet, or the probe that it killed the container `trainer` for, and its sentence."""
    found = msgspec.json.decode(body, type=_Events).items
    for event in found:
        if event.reason in _VERDICTS:
            return Killed(event.reason, event.message)
    events = [event for event in found if event.involved_object.field_path in ("", _FIELD)]
    killing = [event for event in events if event.reason == "Killing"]
    failed = [event for event in events if event.reason == "Unhealthy" and _UNHEALTHY.match(event.message)]
    for kill in killing:
        if (named := _KILLING.match(kill.message)) is not None:
            said = [event.message for event in failed if event.message.lower().startswith(named[1])]
            return Killed(named[1], said[-1] if said else "")
    for probe in reversed(failed):
        if any(_same_moment(probe, kill) for kill in killing):
            return Killed(probe.message.split()[0].lower(), probe.message)
    return Killed()


def _same_moment(one: _Event, other: _Event) -> bool:
    try:
        first, second = (datetime.fromisoformat(event.last_timestamp or "") for event in (one, other))
        return abs((first - second).total_seconds()) <= SAME_MOMENT_S
    except (ValueError, TypeError):
        return False
