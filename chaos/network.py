"""Faults of the network: nodes cut off for long or short, workers that do not reach the API server."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from understudy_contract.reports import Cause

from chaos.draw import Draw, between
from chaos.nodes import LOST, NODE, named, names, node_of, on, targets
from chaos.strike import Causes, Kind, Strike, timed
from chaos.target import Target
from chaos.ward import LEASE_S, Ward
from localcluster import Node
from testbed import faults, operator
from testbed.pods import Pod

SILENT: Final[Causes] = frozenset({Cause.LEASE_EXPIRED})
NOT_READY_S: Final = 65.0
"""Kubernetes calls a silent node NotReady after 40 to 55 s. If all workers were there, they are then waited for for a
lease: they may come back one after the other."""
BLIP_S: Final = 2.0
"""A third of a lease: one renewal is lost and the next is not."""


def partition(ward: Ward, draw: Draw) -> Strike:
    """Cut a node off for longer than a lease."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    # A rank all of whose pods are there is not given up while its node counts as Ready, which is 40 s.
    relieved = {t for t in hit if any(pod.node != node.name for pod in ward.pods(t))}
    return Strike(
        what=f"partition of {node.name}, with {named(there)}",
        fire=timed(node.partition),
        must=dict.fromkeys(relieved if acted_on(ward, node) else (), SILENT),
        may=dict.fromkeys(targets(there), LOST),
        undo=node.heal,
        lasts_s=between(draw.amount, LEASE_S + 6, 3 * LEASE_S),
        runs_on=True,
    )


def long_partition(ward: Ward, draw: Draw) -> Strike:
    """Cut a node off until it counts as lost: then even a rank whose pods are all there starts anew elsewhere."""
    node = node_of(ward, draw)
    hit, there = ward.primaries_on(node.name), on(ward, node.name)
    return Strike(
        what=f"partition of {node.name} until it is NotReady, with {named(there)}",
        fire=timed(node.partition),
        must=dict.fromkeys(hit if acted_on(ward, node) else (), SILENT),
        may=dict.fromkeys(targets(there), LOST),
        undo=node.heal,
        lasts_s=between(draw.amount, NOT_READY_S, NOT_READY_S + 10),
        runs_on=True,
    )


def acted_on(ward: Ward, node: Node) -> bool:
    """Tell whether an operator is left while a node is cut off: an earlier fault may have brought all of them there."""
    return any(pod["spec"]["nodeName"] != node.name for pod in operator.pods(ward.kube))


def blip(ward: Ward, draw: Draw) -> Strike:
    """Cut a node off for less than a lease: nothing may come of it."""
    node = node_of(ward, draw)
    what = f"partition of {node.name} for less than a lease, with {named(on(ward, node.name))}"
    return Strike(what, timed(node.partition), undo=node.heal, lasts_s=between(draw.amount, 0.1, BLIP_S))


def cut_off_all(ward: Ward, draw: Draw) -> Strike:
    """Let no worker reach the API server for longer than a lease: none may be replaced for it."""
    pods = ward.all_pods()
    strike = cut_off(ward, pods, f"all {len(pods)} workers cut off from the API", {}, draw)
    return replace(strike, deafens=True, cut=names(pods))


def cut_off_primary(ward: Ward, draw: Draw) -> Strike:
    """Let one primary not reach the API server: it is given up, trains on, and must find out."""
    target = ward.target(draw.where)
    pod = ward.primary(target)
    return cut_off(ward, [pod], f"{pod.name}, primary of {target}, cut off from the API", {target: SILENT}, draw)


def cut_off(ward: Ward, pods: list[Pod], what: str, must: dict[Target, Causes], draw: Draw) -> Strike:
    """Aim at some workers' way to the API server."""
    stack = ExitStack()
    fire = timed(lambda: stack.enter_context(faults.cut_off(ward.testbed, pods)))
    lasts_s = between(draw.amount, LEASE_S + 4, 3 * LEASE_S)
    return Strike(what, fire, must=must, undo=stack.close, lasts_s=lasts_s, runs_on=True)


KINDS: Final = (
    Kind("partition", "partition of a node", partition, NODE),
    Kind("long-partition", "partition until the node is NotReady", long_partition, NODE, ends_operators=True),
    Kind("blip", "partition shorter than a lease", blip, NODE),
    Kind("cut-off-all", "all workers cut off from the API", cut_off_all, NODE, asks=True),
    Kind("cut-off-primary", "a primary cut off from the API", cut_off_primary, NODE, asks=True),
)
