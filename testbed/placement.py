"""Where pods are before a node is lost: the loss must hit the primary, and neither its successor nor the operator that
leads. Another replica of the operator may be lost with it: that one only knew.

Moves pods by ordinary means, which nobody counts: a hand-over for a primary, a deletion for a redundant pod.
"""

from typing import Final

from testbed import operator
from testbed.errors import TestbedError
from testbed.testbed import Testbed

ATTEMPTS: Final = 8
"""The scheduler prefers the other node, but may choose otherwise while a node has just come back."""


def expose(testbed: Testbed, job: str, rank: int) -> None:
    """Bring a rank's primary to a node without the operator, its redundant pods to others; wait for a whole job."""
    for _ in range(ATTEMPTS):
        testbed.wait_settled(job)
        safe = operator.node(testbed.kube)
        state = testbed.world.rank(job, rank)
        primary = testbed.primary(job, rank)
        beside = [pod for pod in state.redundant if pod.node == primary.node]
        if primary.node == safe and len(beside) < len(state.redundant):
            hand_over(testbed, job, rank)
        elif beside:
            replace(testbed, beside[0].name)
        elif primary.node != safe:
            return
    raise TestbedError(
        f"rank {rank} of {job} could not be spread over two nodes in {ATTEMPTS} attempts: "
        f"{testbed.world.describe(job)}; pods share a node, and its loss, when only one node can mount the job's volume"
    )


def hand_over(testbed: Testbed, job: str, rank: int) -> None:
    """Delete a primary's pod and wait for the next primary."""
    before = testbed.world.rank(job, rank)
    testbed.delete_pod(testbed.primary(job, rank).name)
    testbed.wait_until(
        lambda: (now := testbed.world.rank(job, rank)).term > before.term and now.training,
        timeout_s=60,
        what=f"a new primary of rank {rank} of {job} after the deletion of its pod",
    )


def replace(testbed: Testbed, pod: str) -> None:
    """Delete a redundant pod and wait until it is gone."""
    testbed.delete_pod(pod)
    testbed.wait_until(
        lambda: pod not in testbed.world.pods,
        timeout_s=120,
        what=f"the end of the redundant pod {pod}",
    )
