"""The workers of all jobs taken together: the other side of every silence.

One silent worker may be dead. If all workers are silent, something between them and the API server is likelier to have
failed, and nobody is to be replaced. So a silence is judged by what else was heard. Built once for each observation,
as a job with leases of its own length has to see it: a worker whose lease is longer counts as heard only for as long.

Times are those of the operator's monotonic clock. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of all workers. A silence is judged by it, and by the Lease and its pod."""

    at: float
    """When this was so: now."""
    nodes: Mapping[str, bool]
    """Readiness by node name."""
    silent_workers_by_node: Mapping[str, int]
    """How many workers are silent on each node, if none of any job is heard; empty while one is, or there are none."""
    was_degraded_at: float
    """When this process found the control plane degraded last, before now; -inf: never."""
    on_several_nodes: bool
    """Workers that are soon heard, if they live, are at work on several nodes."""
    any_worker_heard_at: float
    """When any worker of any job was heard last."""
    one_node: bool
    """The job's volume can be mounted on one node only: none of its pods can go on elsewhere."""

    @property
    def control_plane_degraded(self) -> bool:
        """Several workers fell silent and none is heard, on several nodes or on one that is Ready itself.

        That they are cut off is likelier than that all are dead.
        """
        silent = self.silent_workers_by_node
        several = sum(silent.values()) > 1
        return several and (len(silent) > 1 or any(self.nodes.get(node, False) for node in silent))

    @property
    def degraded_at(self) -> float:
        """When the control plane was degraded last; `at`: it is now."""
        return self.at if self.control_plane_degraded else self.was_degraded_at
