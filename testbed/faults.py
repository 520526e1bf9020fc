"""What can be done to a primary. Each fault takes effect within milliseconds; `undo` puts right what it broke.

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

from understudy_contract.reports import Cause

from localcluster import Process
from localcluster.processes import Identity
from testbed.errors import TestbedError
from testbed.kube import PODS, wall
from testbed.pods import Pod
from testbed.testbed import Testbed

Trigger = Callable[[], float]


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
    """Find a worker's two processes on this machine: the container's first, and that one's first child."""
    found = testbed.cluster.processes(testbed.namespace, pod.name)
    for agent in found:
        trainer = next((process for process in found if process.parent == agent.pid), None)
        if trainer is not None:
            return agent, trainer
    seen = ", ".join(" ".join(process.argv) for process in found)
    raise TestbedError(f"pod {pod.name} has no agent with a trainer, but: {seen or 'no process at all'}")


def _send(which: int, number: signal.Signals) -> Callable[[Testbed, Pod], Trigger]:
    def aim(testbed: Testbed, pod: Pod) -> Trigger:
        victim = Identity.of(agent_and_trainer(testbed, pod)[which].pid)
        if victim is None:
            raise TestbedError(f"pod {pod.name}: the process to send {number.name} to has just ended by itself")

        def fire() -> float:
            at = wall()
            victim.send(number)
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
FREEZE_TRAINER: Final = Fault("freeze-trainer", "SIGSTOP of the trainer", Cause.STALLED, _send(1, signal.SIGSTOP), 60.5)
"""The goal holds for the default progressDeadlineSeconds."""
POWER_CUT: Final = Fault(
    "power-cut", "power cut of the node", Cause.LEASE_EXPIRED, _power_cut, 3.5, node=True, undo=_start
)
PARTITION: Final = Fault(
    "partition", "partition of the node", Cause.LEASE_EXPIRED, _partition, 3.5, node=True, runs_on=True, undo=_heal
)

ALL: Final = (DELETE, KUBECTL_DELETE, FORCE_DELETE, KILL_TRAINER, KILL_AGENT, POWER_CUT, PARTITION)


@contextmanager
def cut_off(testbed: Testbed, pods: Iterable[Pod]) -> Iterator[None]:
    """Let pods reach everything but the API server for the length of a block; no connection of theirs is told of it."""
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


def signal_to(process: Process, number: signal.Signals) -> None:
    """Send a signal to a process that was found a moment ago, if it still lives."""
    found = Identity.of(process.pid)
    if found is not None:
        found.send(number)
