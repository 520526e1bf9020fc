"""The conditions of a job, and the Events about what keeps its pods from coming up.

Each condition comes from one Finding: whether it holds, one word for programs, and a sentence for people that says what
is wrong and what to do. Guarantees that a condition's transition time changes only when its status does, and that its
message is one line of at most MESSAGE_MAX_BYTES. A job that is complete, failed or suspended has the same conditions as
any other, with a reason that says so. Trusts the operator's monotonic clock for what has lasted long enough to be told;
the wall clock is for the transition times alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.lease import micro_time
from understudy_contract.reports import Cause, Phase
from understudy_contract.status import Condition, ConditionType, JobStatus
from understudy_contract.text import clean

from understudy_operator.core import adoption, budget
from understudy_operator.core.actions import Action, Emit
from understudy_operator.core.completion import job_over, rank_complete
from understudy_operator.core.deadlines import DEADLINE_EXCEEDED
from understudy_operator.core.detection import judge_redundant
from understudy_operator.core.faults import Fault
from understudy_operator.core.model import Now, Observation, Pod, RankView
from understudy_operator.core.pending import GATED, Finding, claim_refused, problem, stuck, volume_trouble
from understudy_operator.core.states import JobState
from understudy_operator.core.suspension import living, suspended
from understudy_operator.core.template import changes
from understudy_operator.core.training import training

MESSAGE_MAX_CHARS: Final = 800
"""Of what failed: an Event has room for 1024."""
MESSAGE_MAX_BYTES: Final = 4096
"""Of a condition's message, which may list every pod of a job; the CRD takes 32 KiB."""
_ADVICE: Final[Mapping[str, str]] = {
    DEADLINE_EXCEEDED: "Give it more time",
    Cause.OOM_KILLED: "Give it more memory, or let it use less",
    Cause.EVICTED: "Raise the limit that it exceeds, or let it use less",
    Cause.LIVENESS_PROBE: "Correct the probe or the script",
    Cause.STARTUP_PROBE: "Correct the probe or the script",
}
"""What to do about a job that has failed, by cause; for any other: correct the script or its image."""
UNSCHEDULED_S: Final = 10.0
"""A pod that finds no node for this long is worth an Event: until its volume is bound, every first pod finds none."""


def assess(job: JobState, ready: int, desired: int, now: Now) -> dict[ConditionType, Finding]:
    """Assess every condition; `ready` and `desired` count redundant pods."""
    observation = job.observation
    complete = job.complete
    if job.failed:
        return _failed(observation)
    paused = _suspended(observation) if observation.job.policy.suspend and not complete else None
    return {
        ConditionType.TRAINING: paused or training(job, complete, now),
        ConditionType.REDUNDANT: paused or _redundant(observation, ready, desired, complete, now),
        ConditionType.NODE_FAULT_TOLERANT: paused or _node_fault_tolerant(observation, complete, now),
        ConditionType.COMPLETE: Finding(
            complete,
            "Completed" if complete else "NotYet",
            "Every rank has completed its training" if complete else "Not every rank has completed its training",
        ),
        ConditionType.FAILED: Finding(False, "NotFailed", "No rank has been given up"),
        ConditionType.CONTROL_PLANE_DEGRADED: _control_plane(observation),
    }


def _control_plane(observation: Observation) -> Finding:
    idle = job_over(observation) or observation.job.policy.suspend  # nobody looks at such a job again
    if idle or not observation.fleet.control_plane_degraded:
        return Finding(False, "Heard", "Workers are heard, as far as there are any")
    silent = observation.fleet.silent_workers_by_node
    return Finding(
        True,
        "NoWorkerHeard",
        f"The API server answers the operator, but no worker of any job ({sum(silent.values())} on nodes "
        f"{', '.join(sorted(silent))}) has renewed its Lease in time. They are taken for cut off, not for "
        "dead: none is replaced. Check the network between them and the API server.",
    )


def _suspended(observation: Observation) -> Finding:
    if suspended(observation):
        return Finding(False, "Suspended", "The job is suspended: set spec.suspend to false to go on")
    left = [name for view in observation.ranks for name in living(observation.job, view)]
    return Finding(
        False, "Suspending", f"Pods save and end, since spec.suspend is true: {', '.join(left) or 'none left'}"
    )


def _failed(observation: Observation) -> dict[ConditionType, Finding]:
    given_up = [v.lease.record.given_up for v in observation.ranks if v.lease and v.lease.record.given_up]
    before = observation.job.status.condition(ConditionType.FAILED)
    reason, message = (before.reason, before.message) if before else ("Failed", "A rank has been given up")
    if given_up:
        reason = str(given_up[0].cause)
        advice = _ADVICE.get(given_up[0].cause, "Correct the script or its image")
        anew = "delete it and apply it anew, with checkpoint.resume: Latest if it is to go on from its checkpoints"
        message = f"{given_up[0].message}. {advice}, {anew}."
    over = Finding(False, "Failed", "The job has failed")
    return {
        ConditionType.TRAINING: over,
        ConditionType.REDUNDANT: over,
        ConditionType.NODE_FAULT_TOLERANT: over,
        ConditionType.COMPLETE: Finding(False, "Failed", "Not every rank has completed its training"),
        ConditionType.FAILED: Finding(True, reason, message),
        ConditionType.CONTROL_PLANE_DEGRADED: _control_plane(observation),
    }


def has_been_in_error(observation: Observation) -> bool:
    """Tell whether the status already has the condition about the operator's own errors, or needs it now."""
    known = observation.job.status.condition(ConditionType.OPERATOR_ERROR) is not None
    return known or any(p.reason == EventReason.OPERATOR_ERROR for p in observation.problems.values())


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


def error_events(status: JobStatus) -> list[Action]:
    """List the Event about an error of the operator that a status tells of."""
    error = status.condition(ConditionType.OPERATOR_ERROR)
    if error is None or not error.holds:
        return []
    return [Emit(f"operator error {error.message}", EventReason.OPERATOR_ERROR, error.message)]


def render(
    found: Mapping[ConditionType, Finding], old: Iterable[Condition], generation: int, now: Now
) -> tuple[Condition, ...]:
    """Render findings as API conditions; a transition time moves only with the status."""
    before = {condition.type: condition for condition in old}
    rendered = []
    for kind, finding in found.items():
        status = "True" if finding.holds else "False"
        was = before.get(kind)
        since = was.last_transition_time if was is not None and was.status == status else None
        rendered.append(
            Condition(
                type=kind,
                status=status,
                reason=finding.reason or "Unknown",
                message=clean(finding.message, MESSAGE_MAX_BYTES),
                last_transition_time=since or micro_time(now.wall)[:19] + "Z",
                observed_generation=generation,
            )
        )
    return tuple(rendered)


def events(observation: Observation, now: Now) -> list[Action]:
    """List the Events about pods and claims that do not come up."""
    if job_over(observation) or observation.job.policy.suspend:
        return []
    found = adoption.events(observation)
    told: set[tuple[str, str]] = {
        (kind, EventReason.OPERATOR_ERROR) for kind, _ in observation.problems
    }  # `error_events`
    for (action, _), refusal in observation.problems.items():
        if not refusal.passing and (action, refusal.reason) not in told:  # a quota refuses the pods of all ranks alike
            told.add((action, refusal.reason))
            found.append(Emit(f"problem {action} {refusal.reason} {refusal.since}", refusal.reason, refusal.message))
    refused = claim_refused(observation)
    if refused:
        found.append(Emit("claim refused", EventReason.CLAIM_REFUSED, refused))
    if changed := "; ".join(changes(observation.job.policy.template)):
        message = f"Pods differ from spec.template, see docs/reference/template.md: {changed}."
        found.append(Emit(f"template {changed}", EventReason.TEMPLATE_CHANGED, message))
    claim = observation.claim
    if claim is not None and claim.bound and not claim.shared and not refused:
        tolerance = _node_fault_tolerant(observation, False, now)
        found.append(Emit("one node", EventReason.NOT_NODE_FAULT_TOLERANT, tolerance.message))
    degraded = observation.job.status.condition(ConditionType.CONTROL_PLANE_DEGRADED)
    if degraded is not None and degraded.holds:  # one Event for each time that it became true
        key = f"control plane {degraded.last_transition_time}"
        found.append(Emit(key, EventReason.CONTROL_PLANE_DEGRADED, degraded.message))
    return [*found, *_held_up(observation, now)]


def _held_up(observation: Observation, now: Now) -> Iterator[Emit]:
    for pod in (pod for view in observation.ranks for pod in view.pods.values()):
        finding = stuck(observation, pod)
        if finding is not None and now.at >= pod.seen_since + (UNSCHEDULED_S if pod.scheduling or pod.gates else 0):
            reason = EventReason.POD_GATED if finding.reason == GATED else EventReason.POD_PENDING
            yield Emit(f"stuck {pod.name} {finding.reason}", reason, finding.message)


def _redundant(observation: Observation, ready: int, desired: int, complete: bool, now: Now) -> Finding:
    if complete:
        return Finding(False, "Completed", "The training is over")
    if observation.job.policy.redundancy == 0:
        return Finding(False, "NotRequested", "spec.redundancy is 0: a failure costs a cold start")
    if ready >= desired:
        return Finding(True, "Ready", f"All {desired} redundant pods are warm")
    if refusal := problem(observation):
        return refusal
    slots = ((view, slot) for view in observation.ranks for slot in range(len(view.slots)))
    found = (_slot_held_up(observation, view, slot, now) for view, slot in slots)
    starting = Finding(False, "Starting", f"{ready} of {desired} redundant pods are warm")
    return next((finding for finding in found if finding is not None), starting)


def _slot_held_up(observation: Observation, view: RankView, slot: int, now: Now) -> Finding | None:
    """Say why a redundant slot has no warm pod, if it gets none by itself."""
    pod, lease = view.slot_pod(slot), view.slots[slot]
    # A pod may be warm although one of its sidecars cannot start.
    held_up = stuck(observation, pod) if pod is not None and not view.warm(slot, now.at) else None
    if held_up is not None or lease is None:
        return held_up
    if pod is not None and lease.phase is Phase.READY and lease.silent(now.at):
        silent = f"Redundant pod {pod.name} has not renewed its Lease for {lease.record.patience_s} s"
        return Finding(False, "Silent", silent)
    if (failed := budget.survived(lease.record)) > 0:
        return Finding(
            False,
            "Failing",
            f"The trainer of redundant pod {lease.record.holder} has failed {failed} times in a row, and was started "
            f"again in its pod: see its log; last: {budget.last_survived(lease.record)}",
        )
    if (losses := budget.slot_losses(lease.record, pod, now.at)) > 1:
        return Finding(False, "Failing", _lost_again(observation, view, slot, losses, now))
    if pod is not None and not pod.ended and lease.phase is Phase.STARTING:
        return volume_trouble(lease.record, f"Redundant pod {pod.name} waits for its volume")
    return None


def _lost_again(observation: Observation, view: RankView, slot: int, losses: int, now: Now) -> str:
    """Say how often a redundant slot has lost its pod, and why its present pod has ended, if it has."""
    lease, pod = view.slots[slot], view.slot_pod(slot)
    said = f"Redundant slot {slot} of rank {view.rank} has lost {losses} pods in a row"
    if lease is not None and pod is not None:
        lost = judge_redundant(lease, pod, observation.fleet, pending=False)
        said += f"; now {lost.message}" if not isinstance(lost, float) else ""
    return f"{said}. A new one is started with growing pauses: see the job's Events RedundantLost, and the pods' logs."


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
    # The operator moves no pod by itself: only the scheduler knows whether another node would take it.
    return f"{said}; once another node has room, delete {' or '.join(beside)}, and its successor may go there"


def _warm(view: RankView, now: Now) -> list[Pod]:
    pods = (view.slot_pod(slot) for slot in range(len(view.slots)) if view.warm(slot, now.at))
    return [pod for pod in pods if pod is not None]
