"""What can be done to a primary; `undo` puts right what it broke.

A fault takes effect within milliseconds on the embedded cluster. On kind it goes through `docker exec`, which takes
about a tenth of a second more; that time counts as part of the failover.

`aim` looks up all that the fault needs; the function that it returns does it, and returns the wall-clock time just
before it was sent.
"""

import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from understudy_contract.names import Annotation, Label, budget_name
from understudy_contract.reports import Cause

from localcluster import Process
from localcluster.shell import wait_until
from testbed import operator
from testbed.errors import TestbedError
from testbed.kube import BUDGETS, JOBS, PODS, wall
from testbed.pods import Pod
from testbed.testbed import Testbed

Trigger = Callable[[], float]
ALLOWED_WITHIN_S: Final = 30
"""From a warm redundant pod to a budget that counts it: probe, kubelet and controller each take their time."""


def _nothing(testbed: Testbed, node: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to lose a primary."""

    name: str
    title: str
    cause: Cause
    """What the status must call it."""
    aim: Callable[[Testbed, Pod], Trigger]
    goal_s: float
    """Fault to first new step, at the median, on the digits job with a lease of 3 s."""
    lossless: bool = False
    """The primary hands over: no step is lost. Otherwise at most those since the last checkpoint."""
    node: bool = False
    """It takes the whole node away."""
    runs_on: bool = False
    """The old primary may take further steps: what counts is what it had done at the fault."""
    undo: Callable[[Testbed, str], None] = _nothing
    """With the node's name; returns when the node is Ready."""


def _delete(grace_s: int | None) -> Callable[[Testbed, Pod], Trigger]:
    def aim(testbed: Testbed, pod: Pod) -> Trigger:
        path = f"{PODS.format(testbed.namespace)}/{pod.name}"
        testbed.kube.get(path)  # so that the connection is open

        def fire() -> float:
            at = wall()
            testbed.delete_pod(pod.name, grace_s=grace_s)
            return at

        return fire

    return aim


def _kubectl_delete(testbed: Testbed, pod: Pod) -> Trigger:
    command = testbed.kubectl("delete", "pod", pod.name, "--wait=false")

    def fire() -> float:
        at = wall()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return at

    return fire


def agent_and_trainer(testbed: Testbed, pod: Pod) -> tuple[Process, Process]:
    """Find a worker's two processes: the container's first, and that one's first child."""
    found = testbed.cluster.processes(testbed.namespace, pod.name)
    for agent in found:
        trainer = next((process for process in found if process.parent == agent.pid), None)
        if trainer is not None:
            return agent, trainer
    seen = ", ".join(" ".join(process.argv) for process in found)
    raise TestbedError(f"pod {pod.name} has no agent with a trainer, but: {seen or 'no process at all'}")


def _send(which: int, number: signal.Signals) -> Callable[[Testbed, Pod], Trigger]:
    def aim(testbed: Testbed, pod: Pod) -> Trigger:
        victim = agent_and_trainer(testbed, pod)[which]

        def fire() -> float:
            at = wall()
            testbed.cluster.send_signal(victim, number)
            return at

        return fire

    return aim


def _power_cut(testbed: Testbed, pod: Pod) -> Trigger:
    node = testbed.cluster.node(pod.node)

    def fire() -> float:
        at = wall()
        node.power_cut()
        return at

    return fire


def _partition(testbed: Testbed, pod: Pod) -> Trigger:
    node = testbed.cluster.node(pod.node)

    def fire() -> float:
        at = wall()
        node.partition()
        return at

    return fire


def _switchover(testbed: Testbed, pod: Pod) -> Trigger:
    path = f"{JOBS.format(testbed.namespace)}/{pod.job}"
    testbed.kube.get(path)

    def fire() -> float:
        at = wall()
        testbed.kube.patch(path, {"metadata": {"annotations": {Annotation.SWITCHOVER: str(pod.rank)}}})
        return at

    return fire


def _drain(testbed: Testbed, pod: Pod) -> Trigger:
    budget = f"{BUDGETS.format(testbed.namespace)}/{budget_name(pod.job, pod.rank)}"
    wait_until(  # it follows the readiness of pods by seconds; refused at first, kubectl comes again after five
        lambda: testbed.kube.get(budget).get("status", {}).get("disruptionsAllowed", 0) > 0,
        timeout_s=ALLOWED_WITHIN_S,
        what=f"a budget of rank {pod.rank} of {pod.job} that lets {pod.name} go",
    )
    selector = f"--pod-selector={Label.JOB}={pod.job}"
    command = testbed.kubectl("drain", pod.node, "--delete-emptydir-data", "--timeout=120s", selector)

    def fire() -> float:
        at = wall()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return at

    return fire


def _uncordon(testbed: Testbed, node: str) -> None:
    subprocess.run(testbed.kubectl("uncordon", node), check=True, stdout=subprocess.DEVNULL)


def _kill_leader(testbed: Testbed, pod: Pod) -> Trigger:
    name, _, _ = operator.pod(testbed.kube)
    found = testbed.cluster.processes(operator.NAMESPACE, name)
    if not found:
        raise TestbedError(f"operator {name}: its process has just ended by itself; try again when another one leads")
    kill_trainer = _send(1, signal.SIGKILL)(testbed, pod)

    def fire() -> float:
        testbed.cluster.send_signal(found[0], signal.SIGKILL)
        return kill_trainer()

    return fire


def _replace_operator(testbed: Testbed, node: str) -> None:
    operator.replace_crashed(testbed.kube)


def _start(testbed: Testbed, node: str) -> None:
    testbed.cluster.node(node).start()


def _heal(testbed: Testbed, node: str) -> None:
    testbed.cluster.node(node).heal()


DELETE: Final = Fault("delete", "DELETE of the pod", Cause.POD_DELETED, _delete(None), 0.4, lossless=True)
KUBECTL_DELETE: Final = Fault(
    "kubectl-delete",
    "kubectl delete pod",
    Cause.POD_DELETED,
    _kubectl_delete,
    0.5,
    lossless=True,
)
FORCE_DELETE: Final = Fault("force-delete", "DELETE, grace period 0", Cause.POD_DELETED, _delete(0), 0.4, runs_on=True)
KILL_TRAINER: Final = Fault(
    "kill-trainer", "SIGKILL of the trainer", Cause.PROCESS_EXITED, _send(1, signal.SIGKILL), 0.4
)
KILL_AGENT: Final = Fault("kill-agent", "SIGKILL of the agent", Cause.CONTAINER_EXITED, _send(0, signal.SIGKILL), 1.2)
FREEZE_TRAINER: Final = Fault("freeze-trainer", "SIGSTOP of the trainer", Cause.STALLED, _send(1, signal.SIGSTOP), 5.5)
"""The goal holds for a progressDeadlineSeconds of 5."""
SWITCHOVER: Final = Fault("switchover", "annotation switchover", Cause.SWITCHOVER, _switchover, 0.5, lossless=True)
DRAIN: Final = Fault(
    "drain", "kubectl drain of the node", Cause.EVICTED_BY_API, _drain, 0.6, lossless=True, undo=_uncordon
)
KILL_LEADER: Final = Fault(
    "kill-leader",
    "SIGKILL of the leading operator and the trainer",
    Cause.PROCESS_EXITED,
    _kill_leader,
    6.0,
    undo=_replace_operator,
)
"""The goal is the operators' lease, 5 s, and half a second, and a failover."""
POWER_CUT: Final = Fault(
    "power-cut", "power cut of the node", Cause.LEASE_EXPIRED, _power_cut, 3.5, node=True, undo=_start
)
PARTITION: Final = Fault(
    "partition", "partition of the node", Cause.LEASE_EXPIRED, _partition, 3.5, node=True, runs_on=True, undo=_heal
)

ALL: Final = (DELETE, KUBECTL_DELETE, FORCE_DELETE, KILL_TRAINER, KILL_AGENT, POWER_CUT, PARTITION)
MORE: Final = (FREEZE_TRAINER, SWITCHOVER, DRAIN, KILL_LEADER)
"""Planned moves, and what needs a setting or the operator itself."""


@contextmanager
def cut_off(testbed: Testbed, pods: Iterable[Pod]) -> Iterator[None]:
    """Let pods reach everything but the API server for the length of a block; their connections are not closed."""
    server = urlsplit(testbed.kube.host).hostname
    rules = []
    for pod in pods:
        address = testbed.kube.get(f"{PODS.format(testbed.namespace)}/{pod.name}")["status"]["podIP"]
        rules.append((pod.node, ["FORWARD", "-s", address, "-d", str(server), "-j", "DROP"]))
    for node, rule in rules:
        testbed.cluster.node(node).run(["iptables", "-w", "-I", *rule])
    try:
        yield
    finally:
        for node, rule in rules:
            testbed.cluster.node(node).run(["iptables", "-w", "-D", *rule])
