"""When this process first saw a thing, by its own monotonic clock: what no API object tells.

The API's times are wall-clock times of other machines, so that none of them is compared with anything. A restart of the
operator forgets all of this: a pod then looks younger than it is, and a node is suspect no more. Of Leases hearing.py
keeps the times.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from understudy_operator.objects import PodObject

SUSPICION_S: Final = 60.0
"""How long a node is avoided after a pod on it fell silent, unless one is heard from there again: the node controller
itself needs 40 to 55 s to taint a lost node."""


@dataclass(slots=True)
class PodSighting:
    """When a pod was first seen, and when it was first seen to be something."""

    seen_since: float
    running_since: float = math.inf
    deleting_since: float | None = None
    ending_since: float | None = None
    """Its container has ended, or its agent has said that it is ending."""


class Sightings:
    """What this process has seen of pods, nodes and the control plane."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pods: dict[str, PodSighting] = {}
        self._suspects: dict[str, float] = {}
        self._degraded_at: dict[int, float] = {}
        """When the control plane was found degraded last, as jobs with leases of this many seconds see it."""

    def pod(self, uid: str) -> PodSighting:
        """Return what was seen of a pod that is there."""
        return self._pods[uid]

    def pod_changed(self, pod: PodObject) -> None:
        """Take in a pod as it is now."""
        now, state = self._clock(), pod.trainer
        seen = self._pods.setdefault(pod.metadata.uid, PodSighting(now))
        if pod.metadata.deletion_timestamp and seen.deleting_since is None:
            seen.deleting_since = now
        if state is not None and state.running is not None and seen.running_since == math.inf:
            seen.running_since = now
        if state is not None and state.terminated is not None:
            self.pod_ends(pod.metadata.uid)

    def pod_ends(self, uid: str) -> None:
        """Take note that a pod is ending."""
        seen = self._pods.get(uid)
        if seen is not None and seen.ending_since is None:
            seen.ending_since = self._clock()

    def pod_gone(self, uid: str) -> None:
        """Forget a pod that is gone."""
        self._pods.pop(uid, None)

    def suspect(self, node: str) -> None:
        """Avoid a node for a while: a pod on it fell silent."""
        now = self._clock()
        self._suspects = {name: self._suspects[name] for name in self.suspects(now)} | {node: now}

    def heard_from(self, node: str) -> None:
        """Avoid a node no more: a pod on it was heard."""
        self._suspects.pop(node, None)

    def suspects(self, at: float) -> frozenset[str]:
        """Name the nodes that are to be avoided."""
        return frozenset(node for node, since in self._suspects.items() if at < since + SUSPICION_S)

    def degraded(self, lease_s: int, at: float) -> None:
        """Take note that jobs with leases of `lease_s` find the control plane degraded."""
        self._degraded_at[lease_s] = at

    def degraded_at(self, lease_s: int) -> float:
        """Return when such jobs found it degraded last; -inf: never."""
        return self._degraded_at.get(lease_s, -math.inf)
