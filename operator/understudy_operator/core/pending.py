"""Why a part of a job is not there yet: a pod, its claim, or an object that the API refuses. Reads no clock."""

from dataclasses import dataclass
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import TRAINER_CONTAINER, worker_account_name

from understudy_operator.core.model import Observation, Pod, Running, Waiting

STUCK_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    }
)
"""Reasons of a waiting container that do not pass by themselves (the kubelet's names). The trainer, which is started
once, waits for none of the last."""
ALIKE_MAX: Final = 10
"""Objects in the way that one message names, where each was found by itself."""
GATED: Final = "SchedulingGated"
"""Reason of a pod that no scheduler looks at before its gates are taken off (Kubernetes' name)."""
INITIALIZING: Final = "PodInitializing"
"""Reason of a trainer that waits for the pod's init containers."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a condition holds, and why."""

    holds: bool
    reason: str
    message: str


def stuck(observation: Observation, pod: Pod) -> Finding | None:
    """Say why a pod, or a container of it, does not start, if it does not by itself."""
    if pod.deleting_since is not None or pod.ended:
        return None
    trainer = ((TRAINER_CONTAINER, pod.container),) if isinstance(pod.container, Waiting) else ()
    for name, waiting in (*trainer, *pod.waiting):
        if waiting.reason in STUCK_REASONS:
            return _unstarted(observation, pod, name, waiting)
    if pod.gates and not isinstance(pod.container, Running):
        gates = ", ".join(pod.gates)
        return Finding(
            False,
            GATED,
            f"Pod {pod.name} is held back by scheduling gates ({gates}): it is scheduled once whoever admits it, a "
            "queue for one, has taken them off.",
        )
    if pod.scheduling and not isinstance(pod.container, Running):
        claim = observation.claim
        if claim is not None and not claim.bound:
            return Finding(
                False,
                "ClaimPending",
                f"Claim {claim.name} is not bound, so that pod {pod.name} cannot be scheduled: check its StorageClass, "
                f"size and access modes with `kubectl describe pvc {claim.name}`. The scheduler says: {pod.scheduling}",
            )
        return Finding(
            False,
            "Unschedulable",
            f"Pod {pod.name} finds no node: {pod.scheduling} {_room(pod.scheduling)}.",
        )
    return None


def _room(scheduling: str) -> str:
    """Say what gives a pod a node, by the words of the scheduler."""
    if "free ports" in scheduling:
        return (
            "Take the host ports out of the template, or add nodes: each pod of a job needs them on a node of its own"
        )
    if "Insufficient" in scheduling or "Too many pods" in scheduling:
        return "Free resources, or lower the template's requests"
    return "Compare the template's nodeSelector, affinity, tolerations and volumes with the nodes"


def _unstarted(observation: Observation, pod: Pod, name: str, waiting: Waiting) -> Finding:
    reason, said = waiting.reason, waiting.message or "no details"
    if reason == "CrashLoopBackOff":
        see = f"see `kubectl logs {pod.name} -c {name} --previous`"
        return Finding(False, reason, f"Container {name} of pod {pod.name} ends again and again ({said}): {see}.")
    hint = _pull(observation, pod) if "Image" in reason else "correct the pod template"
    message = f"Container {name} of pod {pod.name} cannot start ({reason}): {said}; {hint}."
    return Finding(False, reason, message)


def _pull(observation: Observation, pod: Pod) -> str:
    job = observation.job
    account = job.policy.account_name or worker_account_name(job.name)
    return (
        "check the image's name and that the nodes can pull it. If its registry asks for a password, name the secret "
        f"in imagePullSecrets of ServiceAccount {account} in namespace {job.namespace}, then delete pod {pod.name}"
    )


def claim_refused(observation: Observation) -> str:
    """Say why the claim cannot be used; empty if it can."""
    claim = observation.claim
    if claim is None or not claim.single_pod:
        return ""
    return (
        f"Claim {claim.name} is ReadWriteOncePod: only one pod could mount it, and a redundant pod must. Give a claim "
        "that is ReadWriteOnce (all pods on one node) or ReadWriteMany."
    )


def problem(observation: Observation) -> Finding | None:
    """Say what keeps pods from being made; those that exist go on. All that is in the way is said at once."""
    found = observation.problem
    if found is None:
        return None
    alike = [p.message for p in observation.told_problems if p.reason == found.reason == EventReason.NAME_TAKEN]
    message = " ".join(list(dict.fromkeys(alike))[:ALIKE_MAX]) or found.message
    return Finding(False, str(found.reason), message)


def volume_trouble(record: LeaseRecord, who: str) -> Finding | None:
    """Say what the present holder of a Lease has told of the volume; a promotion and an assignment clear the notice."""
    notice = record.notice
    if notice is None or notice.reason != EventReason.VOLUME_TROUBLE:
        return None
    return Finding(False, str(EventReason.VOLUME_TROUBLE), f"{who}: {notice.message}")
