"""Workers are cut off from the API server, the operator is not: nobody who trains is replaced or deleted for it."""

from collections.abc import Iterator

import pytest
from understudy_contract.names import Label

from testbed import Testbed
from testbed.faults import cut_off
from testbed.pods import Pod
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

LEASE_S = 3


def living(bed: Testbed) -> list[Pod]:
    """The pods that run."""
    return [pod for pod in bed.world.pods.values() if pod.running and not pod.deleting]


def primaries(bed: Testbed, names: list[str]) -> list[tuple[int, str]]:
    """Term and primary of each job, once all is in order."""
    return [(state.term, state.primary.uid) for name in names for state in bed.wait_settled(name) if state.primary]


@pytest.fixture(params=[jobs.SHARED, jobs.PINNED], ids=["on two nodes", "on one node"])
def pair(request: pytest.FixtureRequest, bed: Testbed) -> Iterator[list[str]]:
    """Two jobs at work, with a lease as short as it may be; bound to one node each, or not."""
    checkpoint = request.param
    names = ["one", "two"]
    # A worker of any namespace that is heard speaks against silent ones: none of an earlier test may be left.
    others = "no worker of an earlier test is left"
    see.until(bed, "/api/v1/pods", lambda found: not found, others, labelSelector=str(Label.JOB_UID))
    for name in names:
        arguments = {"save_every": 50, "pace": 0.02}
        bed.apply(jobs.job(name, lease_s=LEASE_S, checkpoint=checkpoint, arguments=arguments))
    for name in names:
        bed.wait_settled(name)
        if checkpoint is jobs.PINNED:
            see.on_one_node(bed, name)
    yield names


def test_when_no_worker_is_heard_none_is_replaced_and_all_train_on(bed: Testbed, pair: list[str]) -> None:
    before, pods = primaries(bed, pair), {pod.uid for pod in bed.world.pods.values()}
    log = bed.logs.of(bed.primary("one", 0).name)
    with cut_off(bed, living(bed)):
        for name in pair:
            see.wait_condition(bed, name, "ControlPlaneDegraded", "cut off", status="True")
        reached = log.steps[-1].step
        bed.wait_until(lambda: log.steps[-1].step > reached + 100, timeout_s=see.WAIT_S, what="100 more steps")
    for name in pair:
        see.wait_condition(bed, name, "ControlPlaneDegraded", status="False")
    assert primaries(bed, pair) == before
    assert {pod.uid for pod in bed.world.pods.values()} == pods
    assert [bed.status(name).failover_count for name in pair] == [0, 0]
