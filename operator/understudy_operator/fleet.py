"""The workers of all jobs, as one job has to see them: what it judges a silence by (core/fleet.py).

A worker is at work if its pod runs and it has reported, and has not released its Lease. Whether it is heard depends on
who asks. What a worker with a longer lease said last is too old to tell whether workers can be heard now: it speaks for
nobody, until it is silent by its own lease. Otherwise one job whose lease lasts an hour would make every other job
believe for an hour that workers are heard. Without side effects; trusts the times in hearing.py.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from understudy_contract.lease import LeaseRecord
from understudy_kube.informer import Key

from understudy_operator.core import model
from understudy_operator.hearing import Hearing
from understudy_operator.objects import PodObject

COMPARABLE: Final = 6
"""Leases that are at most so many times as long as a job's own are renewed often enough, every second lease of the job,
to speak for its workers."""

Leases = Mapping[Key, LeaseRecord]
Pods = Mapping[Key, PodObject]


def silent_workers_by_node(leases: Leases, pods: Pods, hearing: Hearing, at: float, lease_s: int) -> Mapping[str, int]:
    """Count the silent workers by node if none is heard, as a job with leases of `lease_s` sees it; else return none.

    The first that is heard ends the search.
    """
    found: Counter[str] = Counter()
    for key, record, node in _at_work(leases, pods):
        silent_s = at - hearing.lease(key, record).silent_since
        if silent_s < _heard_within_s(record.patience_s, lease_s):
            return {}
        if silent_s >= record.patience_s:
            found[node] += 1
    return found


def on_several_nodes(leases: Leases, pods: Pods, lease_s: int) -> bool:
    """Tell whether workers that will soon be heard, if they live, are on several nodes; the second ends the search.

    Soon, for a job with leases of `lease_s`: it waits for a word of any of them.
    """
    work = _at_work(leases, pods)
    nodes = (node for _, record, node in work if record.patience_s <= COMPARABLE * lease_s)
    first = next(nodes, None)
    return any(node != first for node in nodes)


def _at_work(leases: Leases, pods: Pods) -> Iterator[tuple[Key, LeaseRecord, str]]:
    """Find the Leases whose holders are at work, of all jobs, with their nodes."""
    for key, record in leases.items():
        pod = pods.get((record.namespace, record.holder))
        if pod is None or record.current_heartbeat is None or record.current_release is not None:
            continue
        # What has reported runs, also where a restored etcd has forgotten that its container was started.
        runs = pod.trainer is None or pod.trainer.terminated is None
        if runs and not pod.metadata.deletion_timestamp and pod.spec.node_name:
            yield key, record, pod.spec.node_name


def _heard_within_s(patience_s: int, lease_s: int) -> float:
    """Say for how long a worker counts as heard after a renewal, for a job with leases of `lease_s`.

    For its own lease, if that is no longer; else for as long as the job's lasts. One that renews seldom, but not much
    more so, counts until it is late, or there would be moments between its renewals in which it did not.
    """
    if patience_s <= lease_s:
        return patience_s
    return max(lease_s, model.LATE * patience_s) if patience_s <= COMPARABLE * lease_s else lease_s
