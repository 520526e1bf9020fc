"""Conditions of a job: one finding each, with a sentence that says what is wrong and what to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from understudy_contract.events import EventReason
from understudy_contract.lease import micro_time
from understudy_contract.reports import Cause, Phase

from understudy_operator.core import budget
from understudy_operator.core.actions import Action, Emit
from understudy_operator.core.completion import job_complete, job_failed, job_over, rank_complete
from understudy_operator.core.deadlines import DEADLINE_EXCEEDED
from understudy_operator.core.model import Now, Observation, Pod, RankView, Running, Waiting
from understudy_operator.core.opening import last_saves
from understudy_operator.core.suspension import suspended

STUCK_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons of a waiting container that do not pass by themselves (the kubelet's names)."""
CONTROL_PLANE: Final = "ControlPlaneDegraded"
UNSCHEDULED_S: Final = 10.0
"""A pod that finds no node for this long is worth an Event: until its volume is bound, every first pod finds none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a condition holds, and why."""

    holds: bool
    reason: str
    message: str


def assess(observation: Observation, ready: int, desired: int, now: Now) -> dict[str, Finding]:
    """Assess every condition; `ready` and `desired` count redundant pods."""
    complete = job_complete(observation)
    if job_failed(observation):
        return _failed(observation)
    paused = _suspended(observation) if observation.job.policy.suspend and not complete else None
    return {
        "Training": paused or _training(observation, complete, now),
        "Redundant": paused or _redundant(observation, ready, desired, complete, now),
        "NodeFaultTolerant": paused or _node_fault_tolerant(observation, complete, now),
        "Complete": Finding(
            complete,
            "Completed" if complete else "NotYet",
            "Every rank has completed its training" if complete else "Not every rank has completed its training",
        ),
        "Failed": Finding(False, "NotFailed", "No rank has been given up"),
        CONTROL_PLANE: _control_plane(observation),
    }


def _control_plane(observation: Observation) -> Finding:
    if not observation.control_plane_degraded:
        return Finding(False, "Heard", "Workers are heard, as far as there are any")
    return Finding(
        True,
        "NoWorkerHeard",
        f"The API server answers the operator, but no worker of any job ({sum(observation.hushed.values())} on nodes "
        f"{', '.join(sorted(observation.hushed))}) has renewed its Lease in time. They are taken for cut off, not for "
        "dead: none is replaced. Check the network between them and the API server.",
    )


def _suspended(observation: Observation) -> Finding:
    if suspended(observation):
        return Finding(False, "Suspended", "The job is suspended: set spec.suspend to false to go on")
    living = sorted(pod.name for view in observation.ranks for pod in view.pods.values() if not pod.ended)
    return Finding(
        False, "Suspending", f"Pods save and end, since spec.suspend is true: {', '.join(living) or 'none left'}"
    )


def _failed(observation: Observation) -> dict[str, Finding]:
    given_up = [v.lease.record.given_up for v in observation.ranks if v.lease and v.lease.record.given_up]
    before: Mapping[str, Any] = next(
        (c for c in observation.job.status.get("conditions", ()) if c.get("type") == "Failed"), {}
    )
    reason, message = str(before.get("reason", "Failed")), str(before.get("message", "A rank has been given up"))
    if given_up:
        reason = str(given_up[0].cause)
        late = given_up[0].cause == DEADLINE_EXCEEDED
        advice = "Give it more time" if late else "Correct the script or its image"
        message = f"{given_up[0].message}. {advice} and apply the job anew, under another name."
    over = Finding(False, "Failed", "The job has failed")
    return {
        "Training": over,
        "Redundant": over,
        "NodeFaultTolerant": over,
        "Complete": Finding(False, "Failed", "Not every rank has completed its training"),
        "Failed": Finding(True, reason, message),
        CONTROL_PLANE: _control_plane(observation),
    }


def render(
    found: Mapping[str, Finding], old: Iterable[Mapping[str, Any]], generation: int, now: Now
) -> list[dict[str, Any]]:
    """Render findings as API conditions; a transition time moves only with the status."""
    before = {c.get("type"): c for c in old}
    rendered = []
    for kind, finding in found.items():
        status = "True" if finding.holds else "False"
        was = before.get(kind, {})
        since = was.get("lastTransitionTime") if was.get("status") == status else None
        rendered.append(
            {
                "type": kind,
                "status": status,
                "reason": finding.reason,
                "message": finding.message,
                "lastTransitionTime": since or micro_time(now.wall)[:19] + "Z",
                "observedGeneration": generation,
            }
        )
    return rendered


def events(observation: Observation, now: Now) -> list[Action]:
    """List the Events about pods and claims that do not come up."""
    if job_over(observation) or observation.job.policy.suspend:
        return []
    found: list[Action] = []
    told: set[tuple[str, str]] = set()
    for (action, _), problem in observation.problems.items():
        if (action, problem.reason) not in told:  # a quota refuses the pods of all ranks alike
            told.add((action, problem.reason))
            found.append(Emit(f"problem {action} {problem.reason} {problem.since}", problem.reason, problem.message))
    refused = _claim_refused(observation)
    if refused:
        found.append(Emit("claim refused", EventReason.CLAIM_REFUSED, refused))
    claim = observation.claim
    if claim is not None and claim.bound and not claim.shared and not refused:
        tolerance = _node_fault_tolerant(observation, False, now)
        found.append(Emit("one node", EventReason.NOT_NODE_FAULT_TOLERANT, tolerance.message))
    degraded: Mapping[str, Any] = next(
        (c for c in observation.job.status.get("conditions", ()) if c.get("type") == CONTROL_PLANE), {}
    )
    if degraded.get("status") == "True":  # each time anew, as told in the status
        key = f"control plane {degraded.get('lastTransitionTime')}"
        found.append(Emit(key, EventReason.CONTROL_PLANE_DEGRADED, str(degraded.get("message"))))
    for view in observation.ranks:
        for pod in view.pods.values():
            stuck = _stuck(observation, pod)
            if stuck is not None and now.at >= pod.seen_since + (UNSCHEDULED_S if pod.scheduling else 0):
                found.append(Emit(f"stuck {pod.name} {stuck.reason}", EventReason.POD_PENDING, stuck.message))
    return found


def _stuck(observation: Observation, pod: Pod) -> Finding | None:
    if pod.deleting_since is not None or pod.ended or isinstance(pod.container, Running):
        return None
    if isinstance(pod.container, Waiting) and pod.container.reason in STUCK_REASONS:
        reason, said = pod.container.reason, pod.container.message
        hint = (
            "check the image's name and that the nodes can pull it" if "Image" in reason else "correct the pod template"
        )
        return Finding(False, reason, f"Pod {pod.name} cannot start ({reason}): {said or 'no details'}; {hint}.")
    if pod.scheduling:
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
            f"Pod {pod.name} finds no node: {pod.scheduling} Free resources, or lower the template's requests.",
        )
    return None


def _claim_refused(observation: Observation) -> str:
    claim = observation.claim
    if claim is None or not claim.single_pod:
        return ""
    return (
        f"Claim {claim.name} is ReadWriteOncePod: only one pod could mount it, and a redundant pod must. Give a claim "
        "that is ReadWriteOnce (all pods on one node) or ReadWriteMany."
    )


def _training(observation: Observation, complete: bool, now: Now) -> Finding:
    if complete:
        return Finding(False, "Completed", "The training is over")
    if refused := _claim_refused(observation):
        return Finding(False, str(EventReason.CLAIM_REFUSED), refused)
    for view in observation.ranks:
        finding = _rank_training(observation, view, now)
        if finding is not None:
            return _problem(observation) or finding
    return Finding(True, "Training", "Every rank trains")


def _problem(observation: Observation) -> Finding | None:
    """Say what keeps pods from being made; those that exist go on."""
    if observation.problem is None:
        return None
    return Finding(False, str(observation.problem.reason), observation.problem.message)


def _rank_training(observation: Observation, view: RankView, now: Now) -> Finding | None:
    if view.lease is None:
        if saving := last_saves(observation):
            who = ", ".join(saving)
            return Finding(False, "Starting", f"Waiting for the last saves of an earlier job of this name: {who}")
        return Finding(False, "Starting", f"Rank {view.rank} has no pod yet")
    record = view.lease.record
    if rank_complete(view):
        return None
    if view.primary is not None and _trains(view):
        return _silent(observation, view.primary, record.patience_s) if view.lease.silent(now.at) else None
    if view.primary is not None:
        if view.primary.deleting_since is not None and not view.primary.ended:
            return Finding(False, "HandingOver", f"Pod {record.holder} was deleted: it saves, and hands over")
        stuck = _stuck(observation, view.primary)
        if stuck is not None:
            return stuck
        if view.primary.ended and view.primary.reason:
            ended = f"Pod {record.holder} was ended by its node ({view.primary.reason}): see `kubectl describe pod`"
            return Finding(False, "Ended", f"{ended}. A new pod is made, with growing pauses.")
    return _failing(view) or Finding(False, "Starting", f"Pod {record.holder} of rank {view.rank} is starting")


def _failing(view: RankView) -> Finding | None:
    """Say why a rank that does not train failed before."""
    assert view.lease is not None
    record = view.lease.record
    failed = budget.application_failures(record)
    if failed > 0 and record.promotion is not None:
        times = "once" if failed == 1 else f"{failed} times"
        return Finding(
            False,
            "Failing",
            f"Rank {view.rank} has failed {times} without a new checkpoint; last: "
            f"{record.promotion.message}. Correct the script or its image; it is tried again with growing pauses.",
        )
    if record.failures > 0 and record.promotion is not None and record.promotion.cause == Cause.VOLUME_TROUBLE:
        mend = "Mend the volume; what was saved is left as it is, and it is tried again with growing pauses."
        return Finding(False, "VolumeTrouble", f"Rank {view.rank} cannot begin; {record.promotion.message}. {mend}")
    return None


def _silent(observation: Observation, pod: Pod, silent_s: int) -> Finding:
    if observation.control_plane_degraded:
        why = "No worker is heard: it is taken for cut off, not for dead, and is not replaced."
    elif pod.node is not None and observation.nodes.get(pod.node, False):
        why = "Its node is Ready and no redundant pod is warm, so it is not replaced: delete it if it hangs."
    elif observation.one_node:
        why = f"Node {pod.node} is not Ready, and its volume can be mounted on no other: bring the node back."
    else:
        why = "It is being replaced."
    return Finding(False, "Silent", f"Pod {pod.name} has not renewed its Lease for {silent_s} s. {why}")


def _trains(view: RankView) -> bool:
    assert view.lease is not None and view.primary is not None
    alive = view.primary.deleting_since is None and not view.primary.ended
    return alive and view.lease.record.current_release is None and view.lease.phase in (Phase.TRAINING, Phase.FINISHING)


def _redundant(observation: Observation, ready: int, desired: int, complete: bool, now: Now) -> Finding:
    if complete:
        return Finding(False, "Completed", "The training is over")
    if observation.job.policy.redundancy == 0:
        return Finding(False, "NotRequested", "spec.redundancy is 0: a failure costs a cold start")
    if ready >= desired:
        return Finding(True, "Ready", f"All {desired} redundant pods are warm")
    if problem := _problem(observation):
        return problem
    for view in observation.ranks:
        for slot in range(len(view.slots)):
            pod = view.slot_pod(slot)
            stuck = _stuck(observation, pod) if pod is not None else None
            if stuck is not None:
                return stuck
            lease = view.slots[slot]
            if lease is not None and pod is not None and lease.phase is Phase.READY and lease.silent(now.at):
                silent = f"Redundant pod {pod.name} has not renewed its Lease for {lease.record.patience_s} s"
                return Finding(False, "Silent", silent)
            if lease is not None and lease.record.failures > 0:
                return Finding(
                    False,
                    "Failing",
                    f"Redundant slot {slot} of rank {view.rank} has failed {lease.record.failures} times in a row: "
                    f"see the log of {lease.record.holder}",
                )
    return Finding(False, "Starting", f"{ready} of {desired} redundant pods are warm")


def _node_fault_tolerant(observation: Observation, complete: bool, now: Now) -> Finding:
    claim = observation.claim
    if complete:
        return Finding(False, "Completed", "The training is over")
    if claim is None or not claim.bound:
        return Finding(False, "ClaimPending", "The checkpoints' claim is not bound")
    if not claim.shared:
        return Finding(
            False,
            "ReadWriteOnce",
            f"The volume of claim {claim.name} can be mounted on one node only: all pods run there, and the loss of "
            "that node stops the training until it returns. Use a ReadWriteMany volume to survive it.",
        )
    for view in observation.ranks:
        if not rank_complete(view) and not _spread(view, now):
            return Finding(
                False, "SameNode", f"Rank {view.rank} has no warm redundant pod on another node than its primary"
            )
    return Finding(True, "OtherNodes", "Every rank has a warm redundant pod on another node than its primary")


def _spread(view: RankView, now: Now) -> bool:
    warm = [view.slot_pod(slot) for slot in range(len(view.slots)) if view.warm(slot, now.at)]
    return view.primary is not None and any(pod is not None and pod.node != view.primary.node for pod in warm)
