"""The redundant pods that may take a rank over, and what each of them proves about a silent primary. Pure.

Trusts the operator's monotonic clock, by which the Leases were heard.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from understudy_contract.reports import CheckpointRef, Phase

from understudy_operator.core.model import LATE, Pod, RankView, Running
from understudy_operator.core.silence import ACKNOWLEDGE_S


@dataclass(frozen=True, slots=True)
class Candidate:
    """A redundant pod that may be promoted."""

    pod: Pod
    loaded: CheckpointRef | None
    ready: bool
    fresh: bool
    """Heard within half its lease: it may be promoted at once."""
    timely: bool
    """Heard so lately that it may speak against a silent primary: had both been cut off, it would be late by now."""
    steady_at: float
    """When it may speak against a silent primary. If both were cut off, the first to be heard again proves nothing."""
    expires_at: float
    """When its own Lease is over, if it is not heard again: until then it may be waited for."""


def candidates(view: RankView, nodes: Mapping[str, bool], at: float) -> Iterator[Candidate]:
    """List the redundant pods that live, as far as their Leases and nodes tell."""
    for slot, lease in enumerate(view.slots):
        pod = view.slot_pod(slot)
        if lease is None or pod is None or pod.deleting_since is not None or not isinstance(pod.container, Running):
            continue
        if pod.node is None or not nodes.get(pod.node, False):
            continue
        record = lease.record
        beat, patience_s = record.current_heartbeat, record.patience_s
        silent_s = at - lease.silent_since
        if beat is None or record.current_release is not None or silent_s >= patience_s:
            continue
        yield Candidate(
            pod=pod,
            loaded=beat.loaded,
            ready=beat.phase is Phase.READY,
            fresh=silent_s < patience_s / 2,
            timely=silent_s < LATE * patience_s,
            steady_at=lease.steady_since + max(patience_s / 2, ACKNOWLEDGE_S),
            expires_at=lease.silent_since + patience_s,
        )
