"""When does the silence of a Lease's holder count as its loss? The rules, as a table.

A silence begins when the holder was heard last, or later, when it could be heard again (`Lease.silent_since`). It is
weak evidence: a worker that is dead, one that is cut off, and an operator that hears nobody look alike from here. To
replace a worker that lives costs steps, or a cold start. So each rule after the first column of times keeps one mistake
from being made.

| who is silent | counts after | but not while | because |
|---|---|---|---|
| primary, a redundant pod speaks against it | its lease | | had both been cut off, that pod would be late |
| primary, no redundant pod does | its lease | its node is Ready | a cold start is dear, and it may be cut off |
| | | its volume is on one node | no pod can go on elsewhere |
| | | all were cut off less than a lease ago | they do not all come back at once |
| | | nobody was heard after it was due | of many that are cut off, one is overdue first |
| promoted, no report yet, a redundant pod speaks | a third, or 2 s | | it was at work, and has to answer |
| promoted, no report yet, none does | its lease | as for a primary | |
| new, no report yet, its container runs | AGENT_START_S | | a busy node starts slowly |
| new, no report yet, its node is not Ready | at once | | it has never trained |
| new, no report yet, waiting to start | never | | pending.py says what it waits for |
| redundant pod | its lease | nobody was heard after it was due | of many that are cut off, one is overdue first |
| | | workers were heard for less than a lease | of many that are cut off, one is heard again first |
| | | all were cut off less than a lease ago | they do not all come back at once |
| | | it is on the one node of its volume, not Ready | its successor could not start either |

What the third column says of a primary holds while its container runs: with no process left, nothing can renew. "Nobody
was heard after it was due" counts only where workers are on several nodes, for somebody has to be there to be heard.

A redundant pod speaks against its primary if it is ready, was heard within LATE of its lease, and before that without a
gap for half its lease, at least ACKNOWLEDGE_S (candidates.py). While it is not clear whether others are silent as well,
a silence is judged again after LOOK_AGAIN of a lease.

Guarantees nothing about the holder: it may live, cut off from the API server. The compare-and-set of the promotion
refuses a holder that has renewed after all, and the term in the checkpoint's path fences one that still runs. Trusts
the operator's monotonic clock, and no renewTime. Pure.
"""

import math
from typing import Final

from understudy_operator.core.fleet import Fleet
from understudy_operator.core.model import Lease, Pod, Running

AGENT_START_S: Final = 120.0
"""From a running container to the agent's first report: a second, and more than 30 seen where 20 processes shared
a core. Generous, since a start that is given up is followed by another one, which makes such a node only busier."""
ACKNOWLEDGE_S: Final = 2.0
"""A successor is given a renewal interval to acknowledge, and this at least: an API server that is slow by a second
must not run through all the redundant pods of a rank."""
LOOK_AGAIN: Final = 1 / 6
"""Share of a lease after which a silence is judged again, while it is not clear whether others are silent as well."""


def primary_lost_at(lease: Lease, pod: Pod, fleet: Fleet, *, standby_ready: bool, horizon: float = math.inf) -> float:
    """Return when the silence of a rank's holder counts as its loss; now or in the past: it does.

    `standby_ready`: a redundant pod speaks against it. `horizon`: when to look again if nothing follows from silence.
    """
    node_ready = pod.node is not None and fleet.nodes.get(pod.node, False)
    running = isinstance(pod.container, Running)
    if not lease.acknowledged and not was_redundant(lease):
        return _new_pod_lost_at(lease, pod, fleet, node_ready, horizon)
    patience_s: float = lease.record.patience_s
    if standby_ready and not lease.acknowledged:
        patience_s = min(patience_s, max(patience_s / 3, ACKNOWLEDGE_S))
    due = lease.silent_since + patience_s
    if due > fleet.at or standby_ready or not running:
        return due
    if node_ready or fleet.one_node or _cut_off(lease, fleet):
        return horizon
    if fleet.on_several_nodes and fleet.any_worker_heard_at < due:
        return min(fleet.at + patience_s * LOOK_AGAIN, horizon)
    return due


def _new_pod_lost_at(lease: Lease, pod: Pod, fleet: Fleet, node_ready: bool, horizon: float) -> float:
    """Return when a pod that was made for its role, and has never reported, counts as lost."""
    if pod.node is not None and not node_ready:
        return fleet.at
    if isinstance(pod.container, Running):
        return max(pod.container.since, lease.silent_since) + AGENT_START_S
    return horizon


def redundant_lost_at(lease: Lease, pod: Pod, fleet: Fleet) -> float:
    """Return when the silence of a redundant pod counts as its loss; now or in the past: it does.

    Its primary is at work meanwhile, so its silence can be judged as that of a primary beside a redundant pod.
    """
    stays = _cut_off(lease, fleet) or (fleet.one_node and not fleet.nodes.get(pod.node or "", False))
    due = primary_lost_at(lease, pod, fleet, standby_ready=not stays)
    if due > fleet.at or not lease.acknowledged:
        return due
    patience_s = lease.record.patience_s
    alone = fleet.any_worker_heard_at < due or lease.any_worker_steady_since + patience_s > fleet.at
    return fleet.at + patience_s * LOOK_AGAIN if alone else due


def was_redundant(lease: Lease) -> bool:
    """Tell whether the holder was redundant before this term: then it is at work, and has to answer soon."""
    last = lease.record.promotion
    return last is not None and last.term == lease.record.term and not last.cold


def _cut_off(lease: Lease, fleet: Fleet) -> bool:
    """Tell whether all workers are cut off, or were up to a lease ago: they do not all come back at once."""
    return fleet.at < fleet.degraded_at + lease.record.patience_s
