"""Is the holder of a Lease lost, and why?

The first of these that is true tells: it has released its Lease; its pod is gone; its container has ended; its pod is
being deleted and it takes too long to hand over; it has not started and another pod is ready; it is silent for too
long. What a silence proves stands in silence.py, why Kubernetes ended a pod in causes.py.

Guarantees that a release counts only in the term that it names, and that a pod which hands over is waited for, up to
`hand_over_s`. Does not guarantee that a holder which counts as lost is dead. Trusts the operator's monotonic clock;
wall clocks are only repeated. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from understudy_contract.exits import ExitCode, ReleaseReason, describe_exit
from understudy_contract.names import AGENT_COMMAND
from understudy_contract.reports import Cause, Phase, Release

from understudy_operator.core.causes import KILLED, Reason, told
from understudy_operator.core.fleet import Fleet
from understudy_operator.core.model import Lease, Pod, Running, Terminated
from understudy_operator.core.silence import primary_lost_at, redundant_lost_at, was_redundant

CAUSES: Final[Mapping[str, Cause]] = {
    ReleaseReason.NOT_INTEGRATED: Cause.NOT_INTEGRATED,
    ReleaseReason.STALLED: Cause.STALLED,
    ReleaseReason.OOM_KILLED: Cause.OOM_KILLED,
    ReleaseReason.VOLUME_TROUBLE: Cause.VOLUME_TROUBLE,
}
"""Causes that a release names itself."""
AGENT_EXITS: Final[Mapping[int, str]] = {
    ExitCode.SUPERSEDED: "it found a newer primary of its rank",
    ExitCode.HANDED_OVER: "it handed over, which its Lease does not say: was etcd restored?",
}
"""Exit codes that the agent sets itself, used when the Lease has no release: no fault of the program."""
OOM: Final = " (OOMKilled): raise its memory limit"
LAST_WORDS_CHARS: Final = 300
"""How much of a container's last output goes into a message."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A holder is lost."""

    cause: Cause
    message: str
    failed_at: str
    """Wall clock of whoever knew, RFC 3339; empty: not known better than the detection."""
    application: bool
    """The job's own program failed, as opposed to its pod being taken away, or its volume."""
    silent: bool = False
    exact_step: bool = False
    """The last reported step is the last one it took."""


def judge_primary(
    lease: Lease, pod: Pod | None, fleet: Fleet, *, hand_over_s: float, standby_ready: bool, pending: bool
) -> Failure | float:
    """Say why a rank's holder is lost, or when to look again (monotonic seconds, inf: on the next event).

    `standby_ready`: a redundant pod is ready and was heard in time. `pending`: this process is about to create the pod.
    """
    release = lease.record.current_release
    if release is not None:
        return math.inf if release.reason == ReleaseReason.COMPLETED else _released(lease, release, pod)
    if pod is None:
        if pending:
            return _unstarted(lease, "was not created yet") if standby_ready and not lease.acknowledged else math.inf
        why = "or was never made" if perhaps_unmade(lease, pod) else "deleted without a hand-over"
        return Failure(Cause.POD_DELETED, f"pod {lease.record.holder} is gone, {why}", "", application=False)
    if pod.ended:
        return _ended(pod)
    if pod.deleting_since is not None:
        late_at = pod.deleting_since + hand_over_s
        if lease.phase in (Phase.TRAINING, Phase.FINISHING) and fleet.at < late_at:
            due = min(late_at, primary_lost_at(lease, pod, fleet, standby_ready=standby_ready, horizon=late_at))
            if due > fleet.at:
                return due
            why = f"has not renewed its Lease for {lease.record.patience_s} s since"
            ending = _why_told_to_end(lease, pod)
            message = f"pod {pod.name} {ending.verb} and {why}{ending.tail}"
            return Failure(ending.cause, message, pod.deletion_time, application=False, silent=True)
        began = lease.phase in (Phase.TRAINING, Phase.FINISHING)
        why = "took longer than handOverSeconds to hand over" if began else "had not begun to train"
        ending = _why_told_to_end(lease, pod)
        message = f"pod {pod.name} {ending.verb} and {why}{ending.tail}"
        return Failure(ending.cause, message, pod.deletion_time, application=False)
    if standby_ready and not lease.acknowledged and not isinstance(pod.container, Running):
        return _unstarted(lease, "has not started")
    due = primary_lost_at(lease, pod, fleet, standby_ready=standby_ready)
    return due if due > fleet.at else _silent(lease, pod, fleet)


def judge_redundant(lease: Lease, pod: Pod | None, fleet: Fleet, *, pending: bool) -> Failure | float:
    """Say why a slot's holder is lost, or when to look again."""
    if pod is None:
        gone = Failure(Cause.POD_DELETED, f"pod {lease.record.holder} is gone", "", application=False)
        return math.inf if pending else gone
    if pod.deleting_since is not None:
        ending = _why_told_to_end(lease, pod)
        message = f"pod {pod.name} {ending.verb}{ending.tail}"
        return Failure(ending.cause, message, pod.deletion_time, application=False)
    release = lease.record.current_release
    if release is not None:
        return _released(lease, release, pod)
    if pod.ended:
        return _ended(pod)
    due = redundant_lost_at(lease, pod, fleet)
    return due if due > fleet.at else _silent(lease, pod, fleet)


def _unstarted(lease: Lease, what: str) -> Failure:
    """Give a cold start up for a redundant pod that became ready first: the new one may find no node, or no image."""
    message = f"pod {lease.record.holder} {what}, and a redundant pod is ready"
    return Failure(Cause.LEASE_EXPIRED, message, "", application=False)


def _released(lease: Lease, release: Release, pod: Pod | None) -> Failure:
    beat = lease.record.heartbeat
    who = f"pod {lease.record.holder}"
    failed_at = lease.record.renew_time or ""
    if release.reason == ReleaseReason.HANDED_OVER:
        ending = _why_told_to_end(lease, pod)
        message = f"{who} {ending.verb} and handed over after step {beat.step if beat else 0}{ending.tail}"
        return Failure(ending.cause, message, failed_at, application=False, exact_step=True)
    words = release.message or describe_exit(release.exit_code)
    if pod is not None and pod.deleting_since is not None:
        ending = _why_told_to_end(lease, pod)
        message = f"{who} {ending.verb}: {words}{ending.tail}"
        return Failure(ending.cause, message, failed_at, application=False, exact_step=True)
    # A reason that a later worker knows is at least an end.
    cause = CAUSES.get(release.reason, Cause.PROCESS_EXITED)
    ours = release.exit_code == ExitCode.SUPERSEDED  # a higher term on the volume is no fault of the program
    program = not ours and cause is not Cause.VOLUME_TROUBLE
    return Failure(cause, f"the trainer of {who} ended: {words}", failed_at, application=program, exact_step=True)


def _why_told_to_end(lease: Lease, pod: Pod | None) -> Reason:
    """Say who told a worker to end. A kubelet's reason comes only once the container has ended: causes.completed."""
    if lease.record.switches_over:
        return Reason(Cause.SWITCHOVER, "was asked to switch over", "", "")
    if pod is None:
        return Reason(Cause.POD_DELETED, "was deleted", "", "")
    if (reason := told(pod)) is not None:
        return reason
    if pod.deleting_since is not None:
        return Reason(Cause.POD_DELETED, "was deleted", "", "")
    return Reason(Cause.TERMINATED, "was told to end", "", "")


def _ended(pod: Pod) -> Failure:
    init = None if isinstance(pod.container, Terminated) else pod.failed_init
    what, end = ("the container", pod.container) if init is None else (f"init container {init[0]}", init[1])
    reason = told(pod)
    if reason is not None:
        finished_at = end.finished_at if isinstance(end, Terminated) else ""
        message = f"pod {pod.name} {reason.verb}{reason.tail}"
        return Failure(reason.cause, message, finished_at, application=reason.program)
    if not isinstance(end, Terminated):
        return Failure(Cause.POD_DELETED, f"pod {pod.name} was ended: {pod.phase}", "", application=False)
    by_agent = AGENT_EXITS.get(end.exit_code) if init is None else None
    if AGENT_COMMAND in end.message and ("not found" in end.message or "no such file" in end.message):
        words = f"its image has no {AGENT_COMMAND}: build it FROM understudy-worker"
    elif by_agent:
        words = by_agent
    else:
        words = f"{describe_exit(end.exit_code)}{OOM if end.reason == 'OOMKilled' else ''}"
        if end.message:
            words += f"; last words: {_last_lines(end.message)}"
    if pod.deleting_since is not None:
        return Failure(Cause.POD_DELETED, f"pod {pod.name} was deleted: {words}", end.finished_at, application=False)
    # A node that comes back knows no more of its containers than that they are gone: the kubelet's words, containerd's.
    lost = end.reason == "ContainerStatusUnknown" or (end.reason, end.exit_code) == ("Unknown", 255)
    message = f"{what} of pod {pod.name} ended: {words}"
    cause = Cause.OOM_KILLED if end.reason == "OOMKilled" and end.exit_code == KILLED else Cause.CONTAINER_EXITED
    return Failure(cause, message, end.finished_at, application=not (lost or by_agent))


def _last_lines(text: str) -> str:
    """Give the last whole lines of an output, as many as a sentence bears, on one line."""
    kept = ""
    for line in reversed(text.strip().splitlines()):
        joined = f"{line.strip()} / {kept}" if kept else line.strip()
        if kept and len(joined) > LAST_WORDS_CHARS:
            break
        kept = joined
    return kept[-LAST_WORDS_CHARS:]


def perhaps_unmade(lease: Lease, pod: Pod | None) -> bool:
    """Tell whether a rank's holder may never have been created: an earlier operator may have ended before it did so."""
    return pod is None and not lease.acknowledged and not was_redundant(lease)


def _silent(lease: Lease, pod: Pod, fleet: Fleet) -> Failure:
    where = f" on node {pod.node}" if pod.node else ""
    if not lease.acknowledged:
        starts = not was_redundant(lease) and fleet.nodes.get(pod.node or "", False)
        hint = ": see in the log of the one after it whether it reaches the API server" if starts else ""
        message = f"pod {pod.name}{where} never reported{hint}"
        return Failure(Cause.LEASE_EXPIRED, message, "", application=False, silent=True)
    return Failure(
        Cause.LEASE_EXPIRED,
        f"pod {pod.name}{where} did not renew its Lease for {lease.record.patience_s} s",
        lease.record.renew_time or "",
        application=False,
        silent=True,
    )
