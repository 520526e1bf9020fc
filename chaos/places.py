"""Faults of nodes and of their network: power, partition, workers cut off from the API, drain, preemption."""

import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

from understudy_contract.names import TRAINER_CONTAINER, Label
from understudy_contract.reports import Cause

from chaos.draw import Draw, between, pick
from chaos.strike import Causes, Kind, Strike, Target, Thing
from chaos.ward import GUEST_PRIORITY, LEASE_S, SHAPES, Ward
from localcluster import Node
from testbed import TestbedError, faults
from testbed.jobs import WORKER_IMAGE
from testbed.kube import PODS, Object, wall
from testbed.pods import Pod

LOST: Final[Causes] = frozenset({Cause.LEASE_EXPIRED, Cause.CONTAINER_EXITED, Cause.POD_DELETED})
"""What a dead node may be called: its silence, or, when it is back soon, what its kubelet finds of its containers."""
SILENT: Final[Causes] = frozenset({Cause.LEASE_EXPIRED})
DELETED: Final[Causes] = frozenset({Cause.POD_DELETED})
DRAINED_WITHIN_S: Final = 240
BLIP_S: Final = 2.0
"""A third of a lease: one renewal is lost and the next is not."""


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

    def fire() -> float:
        at = wall()
        node.power_cut()
        return at

    return Strike(
        what=f"power cut of {node.name}, with {named(there)}",
        fire=fire,
        must=dict.fromkeys(hit, LOST),
        may=dict.fromkeys(targets(there), LOST),
        undo=node.start,
        lasts_s=between(draw.amount, 1, 2 * LEASE_S),
    )


def partition(ward: Ward, draw: Draw) -> Strike:
    """Cut a node off for longer than a lease."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    # A rank all of whose pods are there is not given up while its node counts as Ready, which is 40 s.
    relieved = {t for t in hit if any(pod.node != node.name for pod in ward.pods(t))}
    return Strike(
        what=f"partition of {node.name}, with {named(there)}",
        fire=cut(node),
        must=dict.fromkeys(relieved, SILENT),
        may=dict.fromkeys(targets(there), LOST),
        undo=node.heal,
        lasts_s=between(draw.amount, LEASE_S + 6, 3 * LEASE_S),
        runs_on=True,
    )


def blip(ward: Ward, draw: Draw) -> Strike:
    """Cut a node off for less than a lease: nothing may come of it."""
    node = node_of(ward, draw)
    what = f"partition of {node.name} for less than a lease, with {named(on(ward, node.name))}"
    return Strike(what, cut(node), undo=node.heal, lasts_s=between(draw.amount, 0.1, BLIP_S))


def cut(node: Node) -> faults.Trigger:
    """Make a partition to be sent."""

    def fire() -> float:
        at = wall()
        node.partition()
        return at

    return fire


def cut_off_all(ward: Ward, draw: Draw) -> Strike:
    """Let no worker reach the API server for longer than a lease: none may be replaced for it."""
    pods = ward.all_pods()
    return cut_off(ward, pods, f"all {len(pods)} workers cut off from the API", {}, draw)


def cut_off_primary(ward: Ward, draw: Draw) -> Strike:
    """Let one primary not reach the API server: it is given up, trains on, and must find out."""
    target = ward.target(draw.where)
    pod = ward.primary(target)
    return cut_off(ward, [pod], f"{pod.name}, primary of {target}, cut off from the API", {target: SILENT}, draw)


def cut_off(ward: Ward, pods: list[Pod], what: str, must: dict[Target, Causes], draw: Draw) -> Strike:
    """Aim at some workers' way to the API server."""
    stack = ExitStack()

    def fire() -> float:
        at = wall()
        stack.enter_context(faults.cut_off(ward.testbed, pods))
        return at

    lasts_s = between(draw.amount, LEASE_S + 4, 3 * LEASE_S)
    return Strike(what, fire, must=must, undo=stack.close, lasts_s=lasts_s, runs_on=True)


def drain(ward: Ward, draw: Draw) -> Strike:
    """Drain a node of the workers with kubectl, then open it again."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    selector = f"--pod-selector={Label.JOB}"
    words = ("drain", node.name, selector, "--delete-emptydir-data", f"--timeout={DRAINED_WITHIN_S}s")
    running: list[subprocess.Popen[str]] = []

    def fire() -> float:
        at = wall()
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(ward.testbed.kubectl(*words), stdout=pipe, stderr=subprocess.STDOUT, text=True))
        return at

    def undo() -> None:
        said, _ = running[0].communicate(timeout=DRAINED_WITHIN_S + 30)
        subprocess.run(ward.testbed.kubectl("uncordon", node.name), check=True, capture_output=True)
        if running[0].returncode:
            raise TestbedError(f"kubectl drain {node.name} did not end: {said.strip().splitlines()[-1:]}")

    return Strike(
        what=f"kubectl drain of {node.name}, with {named(there)}",
        fire=fire,
        must=dict.fromkeys(hit, DELETED),
        undo=undo,
        lossless=True,
    )


def preempt(ward: Ward, draw: Draw) -> Strike:
    """Let a guest of higher priority take all that workers have of a node, for some seconds."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    path = PODS.format(ward.testbed.namespace)
    name = f"guest-{draw.number}"
    guest = _guest(name, node.name, _free_for_a_guest(ward, node.name))

    def fire() -> float:
        at = wall()
        ward.kube.create(path, guest)
        return at

    def undo() -> None:
        ward.testbed.wait_until(
            lambda: (pod := ward.world.pods.get(name)) is not None and pod.running,
            timeout_s=DRAINED_WITHIN_S,
            what=f"the start of {name} on {node.name}, from which it preempts all workers",
        )
        ward.testbed.delete_pod(name, grace_s=0)

    return Strike(
        what=f"preemption of all workers on {node.name}: {named(there)}",
        fire=fire,
        must=dict.fromkeys(hit, DELETED),
        undo=undo,
        lasts_s=between(draw.amount, 1, 10),
        lossless=True,
    )


def _free_for_a_guest(ward: Ward, node: str) -> int:
    """Return the thousandths of a core that no pod but our workers asks for on a node."""
    pods = ward.kube.get("/api/v1/pods", fieldSelector=f"spec.nodeName={node}")["items"]
    others = [pod for pod in pods if pod["metadata"].get("labels", {}).get(Label.JOB) not in SHAPES]
    asked = [
        c.get("resources", {}).get("requests", {}).get("cpu", "0") for p in others for c in p["spec"]["containers"]
    ]
    cores: str = ward.kube.get(f"/api/v1/nodes/{node}")["status"]["allocatable"]["cpu"]
    return _millicores(cores) - sum(map(_millicores, asked))


def _millicores(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else int(1000 * float(quantity))


def _guest(name: str, node: str, millicores: int) -> Object:
    container = {
        "name": TRAINER_CONTAINER,
        "image": WORKER_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": f"{millicores}m"}},
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


def named(pods: Iterable[Pod]) -> str:
    """Name pods, primaries first."""
    ordered = sorted(pods, key=lambda pod: (pod.role, pod.name))
    return ", ".join(f"{pod.name} ({pod.role or 'no role'})" for pod in ordered) or "no worker"


NODE: Final = frozenset({Thing.NODE})
KINDS: Final = (
    Kind("power-cut", "power cut of a node", power_cut, NODE),
    Kind("partition", "partition of a node", partition, NODE),
    Kind("blip", "partition shorter than a lease", blip, NODE),
    Kind("cut-off-all", "all workers cut off from the API", cut_off_all, NODE, asks=True),
    Kind("cut-off-primary", "a primary cut off from the API", cut_off_primary, NODE, asks=True),
    Kind("drain", "kubectl drain", drain, NODE, asks=True),
    Kind("preempt", "preemption by a guest", preempt, NODE, asks=True),
)
