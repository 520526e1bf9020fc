"""Conditions of a job: one finding each, with a sentence that says what is wrong and what to do."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from understudy_contract.events import EventReason
from understudy_contract.lease import micro_time
from understudy_contract.reports import Phase

from understudy_operator.core import budget
from understudy_operator.core.actions import Action, Emit
from understudy_operator.core.completion import job_complete, job_failed, job_over, rank_complete
from understudy_operator.core.deadlines import DEADLINE_EXCEEDED
from understudy_operator.core.faults import Fault
from understudy_operator.core.model import Now, Observation, Pod, RankView
from understudy_operator.core.pending import Finding, claim_refused, problem, stuck
from understudy_operator.core.suspension import living, suspended
from understudy_operator.core.training import training

CONTROL_PLANE: Final = "ControlPlaneDegraded"
OPERATOR_ERROR: Final = "OperatorError"
MESSAGE_MAX_CHARS: Final = 800
"""Of what failed: an Event has room for 1024."""
UNSCHEDULED_S: Final = 10.0
"""A pod that finds no node for this long is worth an Event: until its volume is bound, every first pod finds none."""


def assess(observation: Observation, ready: int, desired: int, now: Now) -> dict[str, Finding]:
    """Assess every condition; `ready` and `desired` count redundant pods."""
    complete = job_complete(observation)
    if job_failed(observation):
        return _failed(observation)
    paused = _suspended(observation) if observation.job.policy.suspend and not complete else None
    return {
        "Training": paused or training(observation, complete, now),
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
    idle = job_over(observation) or observation.job.policy.suspend  # nobody looks at such a job again
    if idle or not observation.control_plane_degraded:
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
    left = [name for view in observation.ranks for name in living(observation.job, view)]
    return Finding(
        False, "Suspending", f"Pods save and end, since spec.suspend is true: {', '.join(left) or 'none left'}"
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
        anew = "delete it and apply it anew, with checkpoint.resume: Latest if it is to go on from its checkpoints"
        message = f"{given_up[0].message}. {advice}, {anew}."
    over = Finding(False, "Failed", "The job has failed")
    return {
        "Training": over,
        "Redundant": over,
        "NodeFaultTolerant": over,
        "Complete": Finding(False, "Failed", "Not every rank has completed its training"),
        "Failed": Finding(True, reason, message),
        CONTROL_PLANE: _control_plane(observation),
    }


def has_been_in_error(observation: Observation) -> bool:
    """Tell whether the status says, or is to say, that a part of the operator's work failed."""
    told = any(entry.get("type") == OPERATOR_ERROR for entry in observation.job.status.get("conditions", ()))
    return told or any(p.reason == EventReason.OPERATOR_ERROR for p in observation.problems.values())


def operator_error(observation: Observation, faults: Iterable[Fault]) -> Finding:
    """Say which parts of the operator's work for this job failed by an error of its own."""
    refused = (p.message for p in observation.problems.values() if p.reason == EventReason.OPERATOR_ERROR)
    found = sorted({*map(str, faults), *refused})
    if not found:
        return Finding(False, "NoError", "Every part of the operator's work for this job is done")
    return Finding(
        True,
        "Failed",
        f"{'; '.join(found)[:MESSAGE_MAX_CHARS]}. This is an error of the operator: report it, with its log. Primaries "
        "that fail are replaced all the same.",
    )


def error_events(status: Mapping[str, Any]) -> list[Action]:
    """List the Event about an error of the operator that a status tells of."""
    errors = [c for c in status["conditions"] if c["type"] == OPERATOR_ERROR and c["status"] == "True"]
    return [Emit(f"operator error {c['message']}", EventReason.OPERATOR_ERROR, c["message"]) for c in errors]


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
    told: set[tuple[str, str]] = {
        (kind, EventReason.OPERATOR_ERROR) for kind, _ in observation.problems
    }  # `error_events`
    for (action, _), refusal in observation.problems.items():
        if (action, refusal.reason) not in told:  # a quota refuses the pods of all ranks alike
            told.add((action, refusal.reason))
            found.append(Emit(f"problem {action} {refusal.reason} {refusal.since}", refusal.reason, refusal.message))
    refused = claim_refused(observation)
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
            held_up = stuck(observation, pod)
            if held_up is not None and now.at >= pod.seen_since + (UNSCHEDULED_S if pod.scheduling else 0):
                found.append(Emit(f"stuck {pod.name} {held_up.reason}", EventReason.POD_PENDING, held_up.message))
    return found


def _redundant(observation: Observation, ready: int, desired: int, complete: bool, now: Now) -> Finding:
    if complete:
        return Finding(False, "Completed", "The training is over")
    if observation.job.policy.redundancy == 0:
        return Finding(False, "NotRequested", "spec.redundancy is 0: a failure costs a cold start")
    if ready >= desired:
        return Finding(True, "Ready", f"All {desired} redundant pods are warm")
    if refusal := problem(observation):
        return refusal
    for view in observation.ranks:
        for slot in range(len(view.slots)):
            pod = view.slot_pod(slot)
            # A sidecar that cannot start keeps no pod from being warm.
            held_up = stuck(observation, pod) if pod is not None and not view.warm(slot, now.at) else None
            if held_up is not None:
                return held_up
            lease = view.slots[slot]
            if lease is not None and pod is not None and lease.phase is Phase.READY and lease.silent(now.at):
                silent = f"Redundant pod {pod.name} has not renewed its Lease for {lease.record.patience_s} s"
                return Finding(False, "Silent", silent)
            if lease is not None and (failures := budget.slot_standing(lease.record)) > 0:
                return Finding(
                    False,
                    "Failing",
                    f"Redundant slot {slot} of rank {view.rank} has failed {failures} times in a row: "
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
            return Finding(False, "SameNode", _same_node(view, now))
    return Finding(True, "OtherNodes", "Every rank has a warm redundant pod on another node than its primary")


def _spread(view: RankView, now: Now) -> bool:
    return view.primary is not None and any(pod.node != view.primary.node for pod in _warm(view, now))


def _same_node(view: RankView, now: Now) -> str:
    said = f"Rank {view.rank} has no warm redundant pod on another node than its primary"
    node = view.primary.node if view.primary is not None else None
    if not (beside := [pod.name for pod in _warm(view, now) if pod.node == node]):
        return said
    # Nothing is moved by itself: whether another node would take a pod is known to the scheduler alone.
    return f"{said}; once another node has room, delete {' or '.join(beside)}, and its successor may go there"


def _warm(view: RankView, now: Now) -> list[Pod]:
    pods = (view.slot_pod(slot) for slot in range(len(view.slots)) if view.warm(slot, now.at))
    return [pod for pod in pods if pod is not None]
