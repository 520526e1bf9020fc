"""Why a pod ended, in the words of Kubernetes: eviction, preemption, taints, deadlines, memory, probes.

Kubernetes says it in four places, read in this order:

1. `status.reason` and `status.message`: the kubelet's own verdict (Evicted, DeadlineExceeded, Terminated, OutOfcpu).
   The kubelet writes them once all containers have ended, about a second after the agent has handed over.
2. The condition DisruptionTarget of a pod that is being deleted or has ended: who asked for it. Scheduler, taint
   manager and Eviction API write it before they delete the pod. On a pod that lives on, it is an attempt that failed.
3. The reason of the container `trainer`: OOMKilled. With another code than SIGKILL's it tells of a child that was
   killed at some time, not of the end.
4. Events of the pod (`Pod.killed`, see `unexplained`): that a probe has failed stands in no field of the pod; and of an
   eviction they tell as soon as it begins.

Guarantees that a pod that somebody deleted without a further reason is told as deleted, whatever became of its
container on the way. Does not tell who sent a signal to the container's first process from within. The kubelet's
sentences are passed on, not interpreted, but for one: an eviction over a limit of the pod's own is the program's fault,
and one for want of room on the node is not. Reads no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from understudy_contract.exits import ExitCode
from understudy_contract.reports import Cause
from understudy_contract.text import clean

from understudy_operator.core.actions import END_POD_S
from understudy_operator.core.model import Pod, Terminated

WORDS_BYTES: Final = 300
"""How much of a sentence of Kubernetes goes into a message."""
KILLED: Final = 128 + 9
"""Exit code of a process that SIGKILL ended."""
BY_SIGNAL: Final = frozenset({0, ExitCode.HANDED_OVER, KILLED, 128 + 15})
"""Exit codes of an agent that was told to end by SIGTERM: a redundant pod's is 0, and that of one which was killed
before it had handed over is 137. A primary that has completed exits 0 as well."""
PROVISIONAL: Final = frozenset({Cause.TERMINATED, Cause.POD_DELETED, Cause.PROCESS_EXITED, Cause.CONTAINER_EXITED})
"""Causes that a promotion may have on record because Kubernetes had not said more yet."""
_OF_ENDED: Final = frozenset({"TerminationByKubelet", "DeletionByPodGC"})
"""Reasons of DisruptionTarget that count on a pod that has ended and is not deleted; others announce a deletion."""
TRAINER_MEMORY: Final = "raise resources.limits.memory of container `trainer`, or let the script use less"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a pod ended."""

    cause: Cause
    verb: str
    """What follows the pod's name: `was evicted by its node`."""
    words: str
    """Kubernetes' own sentence; may be empty."""
    remedy: str
    """What to raise or change."""
    program: bool = False
    """It is the job's own fault, and comes again with the same program."""

    @property
    def tail(self) -> str:
        """What follows the verb."""
        return "".join([f": {self.words}" if self.words else "", f"; {self.remedy}" if self.remedy else ""])


_SHUTDOWN: Final = (
    Cause.NODE_SHUTDOWN,
    "was ended by the shutdown of its node",
    "drain a node before it is shut down, if another node is to take over without a pause",
)
_PREEMPTED: Final = (
    Cause.PREEMPTED,
    "was preempted by a pod of a higher priority",
    "give the pods a priorityClassName of a higher priority, or the cluster more room",
)
_STATUS: Final[Mapping[str, tuple[Cause, str, str]]] = {
    "DeadlineExceeded": (
        Cause.POD_DEADLINE,
        "was ended by the activeDeadlineSeconds of its pod template",
        "take activeDeadlineSeconds out of the template, or raise it; spec.activeDeadlineSeconds limits the job",
    ),
    "Terminated": _SHUTDOWN,
    "NodeShutdown": _SHUTDOWN,
    "Shutdown": _SHUTDOWN,
    "Preempting": _PREEMPTED,
    "NodeLost": (Cause.NODE_LOST, "was given up with its node", "see `kubectl describe node`"),
}
"""By status.reason."""
_DISRUPTION: Final[Mapping[str, tuple[Cause, str, str]]] = {
    "PreemptionByScheduler": _PREEMPTED,
    "PreemptionByKubeScheduler": _PREEMPTED,
    "DeletionByTaintManager": (
        Cause.NODE_TAINTED,
        "was deleted for a taint of its node",
        "see the taints in `kubectl describe node`; tolerations of the template let its pods stay",
    ),
    "EvictionByEvictionAPI": (Cause.EVICTED_BY_API, "was evicted through the API, as by `kubectl drain`", ""),
    "DeletionByPodGC": (Cause.NODE_LOST, "was removed because its node is gone", ""),
}
"""By the reason of the condition DisruptionTarget."""


def told(pod: Pod) -> Reason | None:
    """Say why a pod ended or is ending, if Kubernetes gives a reason beyond a deletion or an exit code."""
    if pod.reason and not _ended_by_operator(pod):
        return _by_status(pod)
    if pod.deleting_since is not None:
        return _by_disruption(pod)
    if not pod.ended:
        return None
    if pod.disruption is not None and pod.disruption[0] in _OF_ENDED:
        return _by_disruption(pod)
    end = pod.container
    if isinstance(end, Terminated) and end.reason == "OOMKilled" and end.exit_code == KILLED:
        return Reason(Cause.OOM_KILLED, "ran out of memory (OOMKilled)", "", TRAINER_MEMORY, program=True)
    return _by_events(pod)


def _ended_by_operator(pod: Pod) -> bool:
    """Tell whether the deadline that a pod has exceeded is the operator's own, which ends what outlives the trainer."""
    return pod.reason == "DeadlineExceeded" and pod.active_deadline_s == END_POD_S


def unexplained(pod: Pod) -> bool:
    """Tell whether the pod's Events have to be asked: its container was told to end, and no field of it says why."""
    end = pod.container
    by_signal = isinstance(end, Terminated) and end.exit_code in BY_SIGNAL
    return by_signal and pod.killed is None and pod.deleting_since is None and told(pod) is None


def completed(cause: str, message: str, pod: Pod) -> tuple[str, str] | None:
    """Give cause and message of a loss that was put on record before Kubernetes gave its reason; None: as it was.

    A deletion explains only an end of which nothing else was known: after any other loss the operator itself deletes
    the pod, if it does not end.
    """
    deleting = pod.deleting_since is not None
    if cause not in PROVISIONAL or (deleting and not pod.reason and cause != Cause.TERMINATED):
        return None
    reason = told(pod)
    if reason is None and deleting:
        return str(Cause.POD_DELETED), f"{message}: it was deleted"
    if reason is None or reason.cause == cause:
        return None
    return str(reason.cause), f"{message}: it {reason.verb}{reason.tail}"


def _by_status(pod: Pod) -> Reason:
    words = one_line(pod.message)
    if (reason := _verdict(pod.reason, words)) is not None:
        return reason
    if pod.container is None or not isinstance(pod.container, Terminated):
        # The kubelet refuses what the scheduler has given it: OutOfcpu, OutOfpods, NodeAffinity, and more.
        return Reason(Cause.NODE_REFUSED, f"was refused by its node ({pod.reason})", words, "")
    return Reason(Cause.CONTAINER_EXITED, f"was ended by Kubernetes ({pod.reason})", words, "")


def _verdict(reason: str, words: str) -> Reason | None:
    """Translate a verdict of the kubelet that has a name here."""
    if reason == "Evicted":
        return _evicted(words)
    if reason not in _STATUS:
        return None
    cause, verb, remedy = _STATUS[reason]
    return Reason(cause, verb, words, remedy)


def _evicted(words: str) -> Reason:
    verb = "was evicted by its node"
    own = "exceed" in words and not words.startswith("The node")
    if not own:
        remedy = "request what the script needs (resources.requests), or give the node more room"
    elif "EmptyDir" in words:
        remedy = "raise sizeLimit of that volume, or let the script clear it"
    else:
        remedy = "raise resources.limits.ephemeral-storage, or let the script write to a volume"
    return Reason(Cause.EVICTED, verb, words, remedy, program=own)


def _by_disruption(pod: Pod) -> Reason | None:
    if pod.disruption is None:
        return None
    reason, message = pod.disruption
    words = one_line(message)
    if reason in _DISRUPTION:
        cause, verb, remedy = _DISRUPTION[reason]
        return Reason(cause, verb, words, remedy)
    if reason == "TerminationByKubelet":
        return _evicted(words)
    return Reason(Cause.POD_DELETED, f"was disrupted ({reason})", words, "")


def _by_events(pod: Pod) -> Reason | None:
    if pod.killed is None or not pod.killed.by:
        return None
    probe = pod.killed.by
    if (reason := _verdict(probe, one_line(pod.killed.words))) is not None:
        return reason
    cause = Cause.STARTUP_PROBE if probe == "startup" else Cause.LIVENESS_PROBE
    verb = f"was killed by the {probe} probe of container `trainer`"
    remedy = (
        "take that probe out of the template (progressDeadlineSeconds and startupDeadlineSeconds find a script that "
        "hangs), or let it pass on a redundant pod, which takes no steps"
    )
    return Reason(cause, verb, one_line(pod.killed.words), remedy, program=True)


def one_line(text: str) -> str:
    """Put a sentence of Kubernetes on one line, and cut it."""
    return clean(text, WORDS_BYTES).rstrip(" .:")
