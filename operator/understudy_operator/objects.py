"""API objects as the informers decode them: only what is read, so that a pod costs about a kilobyte.

Guarantees that the words of a pod, which come from its containers, its image or an admission webhook, are cut and
cleaned as they are decoded, and that numbers in its labels and annotations are in their bounds.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import msgspec
from understudy_contract.bounds import COUNT_MAX, TERM_MAX, TEXT_MAX_BYTES
from understudy_contract.lease import LeaseObject, LeaseRecord, micro_time, natural
from understudy_contract.names import TRAINER_CONTAINER, Annotation, Label, Rank, Role, Term
from understudy_contract.text import clean, clean_lines

from understudy_operator.core import model
from understudy_operator.core.pending import GATED

REASON_MAX_BYTES: Final = 128
OUTPUT_MAX_BYTES: Final = 4096
"""Of a container's last output: what the kubelet keeps of it."""


class Owner(msgspec.Struct):
    """One of metadata.ownerReferences."""

    uid: str
    kind: str = ""
    name: str = ""


class Meta(msgspec.Struct, rename="camel"):
    """metadata."""

    name: str
    uid: str
    resource_version: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    owner_references: list[Owner] = []


class _Waiting(msgspec.Struct):
    reason: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        self.reason = clean(self.reason, REASON_MAX_BYTES)
        self.message = clean(self.message, TEXT_MAX_BYTES)


class _Running(msgspec.Struct):
    """That it runs is all that is read."""


class _Terminated(msgspec.Struct, rename="camel"):
    exit_code: int
    reason: str = ""
    message: str = ""
    """The last output of the container, of several lines."""
    finished_at: str | None = None

    def __post_init__(self) -> None:
        self.reason = clean(self.reason, REASON_MAX_BYTES)
        self.message = clean_lines(self.message, OUTPUT_MAX_BYTES)


class _State(msgspec.Struct):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(msgspec.Struct):
    name: str
    state: _State = msgspec.field(default_factory=_State)


class _Condition(msgspec.Struct):
    type: str
    status: str
    reason: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        self.reason = clean(self.reason, REASON_MAX_BYTES)
        self.message = clean(self.message, TEXT_MAX_BYTES)


class _InitContainer(msgspec.Struct, rename="camel"):
    name: str
    restart_policy: str = ""


class _SchedulingGate(msgspec.Struct):
    name: str = ""


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str | None = None
    active_deadline_seconds: int | None = None
    scheduling_gates: list[_SchedulingGate] = []
    init_containers: list[_InitContainer] = []


class _PodStatus(msgspec.Struct, rename="camel"):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    conditions: list[_Condition] = []
    init_container_statuses: list[_ContainerStatus] = []
    container_statuses: list[_ContainerStatus] = []

    def __post_init__(self) -> None:
        self.reason = clean(self.reason, REASON_MAX_BYTES)
        self.message = clean(self.message, TEXT_MAX_BYTES)


class PodObject(msgspec.Struct):
    """A core/v1 Pod."""

    metadata: Meta
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)

    @property
    def trainer(self) -> _State | None:
        """State of the container `trainer`, once the kubelet has told one."""
        return next((s.state for s in self.status.container_statuses if s.name == TRAINER_CONTAINER), None)


class _ClaimStatus(msgspec.Struct, rename="camel"):
    phase: str = "Pending"
    access_modes: list[str] = []


class ClaimObject(msgspec.Struct):
    """A core/v1 PersistentVolumeClaim."""

    metadata: Meta
    status: _ClaimStatus = msgspec.field(default_factory=_ClaimStatus)


class _NodeStatus(msgspec.Struct):
    conditions: list[_Condition] = []


class NodeObject(msgspec.Struct):
    """A core/v1 Node."""

    metadata: Meta
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)

    @property
    def ready(self) -> bool:
        """Condition Ready is True."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


def claim_record(claim: ClaimObject) -> model.Claim:
    """Interpret a claim."""
    bound = claim.status.phase == "Bound"
    modes = tuple(claim.status.access_modes) if bound else ()
    job_uid = claim.metadata.labels.get(Label.JOB_UID, "")
    return model.Claim(claim.metadata.name, claim.status.phase, modes, job_uid)


def node_record(node: NodeObject) -> tuple[str, bool]:
    """Interpret a node: name and readiness."""
    return node.metadata.name, node.ready


def slim_pod(pod: PodObject) -> PodObject:
    """Keep of a pod what is read: its labels and annotations may have 256 kB each, and belong to whoever made it."""
    meta = pod.metadata
    meta.labels = {label: meta.labels[label] for label in Label if label in meta.labels}
    meta.annotations = (
        {Annotation.TERM: meta.annotations[Annotation.TERM]} if Annotation.TERM in meta.annotations else {}
    )
    return pod


def slim_lease(lease: LeaseObject) -> LeaseRecord:
    """Keep of a Lease what is read."""
    labels = lease.metadata.labels
    lease.metadata.labels = {label: labels[label] for label in Label if label in labels}
    return lease.record()


def pod_view(
    pod: PodObject,
    *,
    seen_since: float,
    running_since: float,
    deleting_since: float | None,
    ending_since: float | None = None,
    killed: model.Killed | None = None,
) -> model.Pod:
    """Interpret a pod; the times are the operator's own, monotonic."""
    meta = pod.metadata
    role = meta.labels.get(Label.ROLE)
    term = natural(meta.annotations.get(Annotation.TERM), TERM_MAX)
    unscheduled = next((c for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"), None)
    disrupted = next((c for c in pod.status.conditions if c.type == "DisruptionTarget" and c.status == "True"), None)
    # The condition outlives the gates by a moment: no scheduler has looked at such a pod yet.
    if unscheduled is not None and unscheduled.reason == GATED:
        unscheduled = None
    return model.Pod(
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        rank=Rank(natural(meta.labels.get(Label.RANK), COUNT_MAX) or 0),
        role=Role(role) if role in tuple(Role) else None,
        term=None if term is None else Term(term),
        node=pod.spec.node_name,
        created=meta.creation_timestamp,
        phase=pod.status.phase,
        reason=pod.status.reason,
        deleting_since=deleting_since,
        deletion_time=_deletion_time(meta),
        scheduling=unscheduled.message if unscheduled else "",
        container=_container(pod, running_since),
        waiting=tuple(_others_waiting(pod)),
        failed_init=_failed_init(pod),
        gates=tuple(gate.name for gate in pod.spec.scheduling_gates),
        seen_since=seen_since,
        message=pod.status.message,
        disruption=(disrupted.reason, disrupted.message) if disrupted else None,
        killed=killed,
        orphaned=not meta.owner_references,
        ending_since=ending_since,
        active_deadline_s=pod.spec.active_deadline_seconds,
    )


def _deletion_time(meta: Meta) -> str:
    """Tell when the deletion was asked for: Kubernetes writes down when the grace period will be over."""
    if meta.deletion_timestamp is None:
        return ""
    try:
        over = datetime.fromisoformat(meta.deletion_timestamp)
        return micro_time(over - timedelta(seconds=meta.deletion_grace_period_seconds or 0))
    except (ValueError, OverflowError):  # whoever deletes a pod chooses the period, up to 2^63 s
        return meta.deletion_timestamp


def _container(pod: PodObject, running_since: float) -> model.Container:
    state = pod.trainer
    if state is None:
        return None
    if state.terminated is not None:
        return _end(state.terminated)
    if state.running is not None:
        return model.Running(running_since)
    return model.Waiting(state.waiting.reason, state.waiting.message) if state.waiting else None


def _end(end: _Terminated) -> model.Terminated:
    return model.Terminated(end.exit_code, end.reason, end.message, end.finished_at or "")


def _others_waiting(pod: PodObject) -> Iterator[tuple[str, model.Waiting]]:
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = status.state.waiting
        if waiting is not None and status.name != TRAINER_CONTAINER:
            yield status.name, model.Waiting(waiting.reason, waiting.message)


def _failed_init(pod: PodObject) -> tuple[str, model.Terminated] | None:
    """Find the init container that failed; one that is restarted whenever it ends is a sidecar, and cannot fail so."""
    sidecars = {container.name for container in pod.spec.init_containers if container.restart_policy == "Always"}
    for status in pod.status.init_container_statuses:
        end = status.state.terminated
        if end is not None and end.exit_code != 0 and status.name not in sidecars:
            return status.name, _end(end)
    return None
