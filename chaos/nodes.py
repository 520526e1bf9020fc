"""Faults of nodes: power of one or two, drain, preemption by a guest."""

import subprocess
from collections.abc import Iterable
from typing import Final

from understudy_contract.names import TRAINER_CONTAINER, Label
from understudy_contract.reports import Cause

from chaos.draw import Draw, between, pick
from chaos.strike import Causes, Kind, Strike, Thing, timed
from chaos.target import Target
from chaos.ward import GUEST_PRIORITY, LEASE_S, Ward
from localcluster import Node
from testbed import TestbedError
from testbed.jobs import WORKER_IMAGE
from testbed.kube import PODS, Object
from testbed.pods import Pod

LOST: Final[Causes] = frozenset({Cause.LEASE_EXPIRED, Cause.CONTAINER_EXITED, Cause.POD_DELETED})
"""What a dead node may be called: its silence, or, when it is back soon, what its kubelet finds of its containers."""
GONE: Final[Causes] = frozenset({Cause.POD_DELETED, Cause.TERMINATED})
"""What a pod that was evicted or preempted may be called by an operator that was away meanwhile: it finds it gone, or
told to end."""
DRAINED: Final[Causes] = GONE | {Cause.EVICTED_BY_API}
PREEMPTED: Final[Causes] = GONE | {Cause.PREEMPTED}
DRAINED_WITHIN_S: Final = 240
THREE_NODES: Final = 3


def node_of(ward: Ward, draw: Draw) -> Node:
    """Choose a node by one of the workers on it: an empty one is not worth breaking."""
    there = sorted(ward.all_pods(), key=lambda pod: pod.name)
    if not there:
        raise TestbedError("no worker runs on any node")
    return ward.cluster.node(there[pick(draw.where, len(there))].node)


def power_cut(ward: Ward, draw: Draw) -> Strike:
    """Cut a node's power for some seconds."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    return Strike(
        what=f"power cut of {node.name}, with {named(there)}",
        fire=timed(node.power_cut),
        must=dict.fromkeys(hit, LOST),
        may=dict.fromkeys(targets(there), LOST),
        takes=names(there),
        undo=node.start,
        lasts_s=between(draw.amount, 1, 2 * LEASE_S),
    )


def two_nodes(ward: Ward, draw: Draw) -> Strike:
    """Cut the power of two nodes at once, where a third is left: ranks may have no pod any more."""
    nodes = ward.cluster.nodes  # three of them: see __main__
    spared = nodes[pick(draw.where, len(nodes))]
    dark = [node for node in nodes if node is not spared][:2]
    hit = {target: pod for node in dark for target, pod in ward.primaries_on(node.name).items()}
    there = [pod for node in dark for pod in on(ward, node.name)]

    def send() -> None:
        for node in dark:
            node.power_cut()

    def undo() -> None:
        for node in dark:
            node.start()

    return Strike(
        what=f"power cut of {' and '.join(node.name for node in dark)}, with {named(there)}",
        fire=timed(send),
        must=dict.fromkeys(hit, LOST),
        may=dict.fromkeys(targets(there), LOST),
        takes=names(there),
        undo=undo,
        lasts_s=between(draw.amount, 1, 2 * LEASE_S),
    )


def drain(ward: Ward, draw: Draw) -> Strike:
    """Drain a node of the workers with kubectl, then open it again."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    selector = f"--pod-selector={Label.JOB}"
    words = ("drain", node.name, selector, "--delete-emptydir-data", f"--timeout={DRAINED_WITHIN_S}s")
    running: list[subprocess.Popen[str]] = []

    def send() -> None:
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(ward.testbed.kubectl(*words), stdout=pipe, stderr=subprocess.STDOUT, text=True))

    def undo() -> None:
        said, _ = running[0].communicate(timeout=DRAINED_WITHIN_S + 30)
        subprocess.run(ward.testbed.kubectl("uncordon", node.name), check=True, capture_output=True)
        if running[0].returncode:
            raise TestbedError(f"kubectl drain {node.name} did not end: {said.strip().splitlines()[-1:]}")

    return Strike(
        what=f"kubectl drain of {node.name}, with {named(there)}",
        fire=timed(send),
        must=dict.fromkeys(hit, DRAINED),
        may=dict.fromkeys(targets(there), DRAINED),
        takes=names(there),
        undo=undo,
        waits=True,
        lossless=True,
    )


def preempt(ward: Ward, draw: Draw) -> Strike:
    """Let a guest of higher priority take a whole node, for some seconds; an operator has to go as well."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    path = PODS.format(ward.testbed.namespace)
    name = f"guest-{draw.number}"
    guest = _guest(name, node.name, ward.kube.get(f"/api/v1/nodes/{node.name}")["status"]["allocatable"]["cpu"])

    def undo() -> None:
        ward.testbed.wait_until(
            lambda: (pod := ward.world.pods.get(name)) is not None and pod.running,
            timeout_s=DRAINED_WITHIN_S,
            what=f"the start of {name} on {node.name}, from which it preempts all workers",
        )
        ward.testbed.delete_pod(name, grace_s=0)

    return Strike(
        what=f"preemption of all workers on {node.name}: {named(there)}",
        fire=timed(lambda: ward.kube.create(path, guest)),
        must=dict.fromkeys(hit, PREEMPTED),
        may=dict.fromkeys(targets(there), PREEMPTED),
        takes=names(there),
        undo=undo,
        lasts_s=between(draw.amount, 1, 10),
        waits=True,
        lossless=True,
    )


def _guest(name: str, node: str, cores: str) -> Object:
    container = {
        "name": TRAINER_CONTAINER,
        "image": WORKER_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": cores}},
    }
    spec = {
        "containers": [container],
        "priorityClassName": GUEST_PRIORITY,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "restartPolicy": "Never",
    }
    return {"metadata": {"name": name}, "spec": spec}


def on(ward: Ward, node: str) -> list[Pod]:
    """Return the workers on a node."""
    return [pod for pod in ward.all_pods() if pod.node == node]


def targets(pods: Iterable[Pod]) -> set[Target]:
    """Return the ranks that pods belong to."""
    return {Target(pod.job, pod.rank) for pod in pods}


def names(pods: Iterable[Pod]) -> frozenset[str]:
    """Return the names of pods."""
    return frozenset(pod.name for pod in pods)


def named(pods: Iterable[Pod]) -> str:
    """Name pods, primaries first."""
    ordered = sorted(pods, key=lambda pod: (pod.role, pod.name))
    return ", ".join(f"{pod.name} ({pod.role or 'no role'})" for pod in ordered) or "no worker"


NODE: Final = frozenset({Thing.NODE})
KINDS: Final = (
    Kind("power-cut", "power cut of a node", power_cut, NODE, ends_operators=True),
    Kind("two-nodes", "power cut of two nodes at once", two_nodes, NODE, ends_operators=True),
    Kind("drain", "kubectl drain", drain, NODE, asks=True),
    Kind("preempt", "preemption by a guest", preempt, NODE, asks=True, ends_operators=True),
)
