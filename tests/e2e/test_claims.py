"""Where the checkpoints lie, and where pods may therefore stand."""

import pytest

from testbed import Testbed
from testbed.kube import Object
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster


def make_claim(testbed: Testbed, name: str, mode: str = "ReadWriteMany", **annotations: str) -> None:
    """Make a claim that is the user's own."""
    body: Object = {
        "metadata": {
            "name": name,
            "annotations": {key.replace("__", "/"): value for key, value in annotations.items()},
        },
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}},
    }
    testbed.kube.create(f"/api/v1/namespaces/{testbed.namespace}/persistentvolumeclaims", body)


def test_on_a_volume_of_one_node_all_pods_stand_there_and_the_job_says_what_that_means(bed: Testbed) -> None:
    bed.apply(jobs.job("pinned", ranks=2, checkpoint=jobs.PINNED, arguments={"pace": 0.05}))
    ranks = bed.wait_settled("pinned")
    nodes = {pod.node for rank in ranks for pod in (*rank.redundant, rank.primary) if pod}
    assert len(nodes) == 1
    message = see.wait_condition(bed, "pinned", "NodeFaultTolerant")
    assert "can be mounted on one node only" in message
    assert "Use a ReadWriteMany volume to survive it" in message
    see.wait_event(bed, "pinned", "NotNodeFaultTolerant", "one node only")
    bed.delete_pod(bed.primary("pinned", 0).name)
    bed.wait_until(lambda: bed.world.rank("pinned", 0).term == 2, timeout_s=see.WAIT_S, what="the promotion")
    bed.wait_settled("pinned")
    assert {pod.node for pod in bed.world.pods.values()} == nodes, "the replacement, too"


def test_an_existing_shared_claim_is_used_and_pods_spread_over_two_nodes(bed: Testbed) -> None:
    make_claim(bed, "mine")
    bed.apply(jobs.job("guest", checkpoint={"claimName": "mine"}, arguments={"pace": 0.05}))
    (rank,) = bed.wait_settled("guest")
    assert rank.primary is not None
    assert {rank.primary.node, *(pod.node for pod in rank.redundant)} == set(bed.cluster.state.nodes)
    see.wait_condition(bed, "guest", "NodeFaultTolerant", "another node", status="True")
    assert see.checkpoints(see.rank_folder(bed, "guest", claim="mine"))
    claims = bed.kube.get(f"/api/v1/namespaces/{bed.namespace}/persistentvolumeclaims")["items"]
    assert [claim["metadata"]["name"] for claim in claims] == ["mine"], "none is made beside it"


def test_a_claim_that_is_not_there_is_said_and_waited_for(bed: Testbed) -> None:
    bed.apply(jobs.job("early", redundancy=0, checkpoint={"claimName": "later"}, arguments={"pace": 0.05}))
    message = see.wait_condition(bed, "early", "Training", "later")
    assert "PersistentVolumeClaim later (spec.checkpoint.claimName) does not exist" in message
    assert "create it, or leave claimName out" in message
    see.wait_event(bed, "early", "ClaimMissing", "later")
    assert not bed.world.pods
    make_claim(bed, "later")
    bed.wait_settled("early")
