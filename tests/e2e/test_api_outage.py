"""Nobody reaches the API server for longer than a lease: nobody is lost, and nobody is replaced afterwards.

The lease is as short as it may be, so that an outage of seconds outlasts it; a machine short of CPU may not.
"""

import time

import pytest

from testbed import Testbed, operator
from testbed.kube import PODS, parse_time, wall
from testbed.slow_api import slow_api
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "cutoff"
LEASE_S = 3


@pytest.fixture(scope="module")
def cutoff(module_bed: Testbed) -> Testbed:
    """A job at work."""
    module_bed.apply(jobs.job(JOB, lease_s=LEASE_S, arguments={"save_every": 50, "pace": 0.02}))
    module_bed.wait_settled(JOB)
    return module_bed


@pytest.mark.parametrize("outage_s", [LEASE_S + 1, 3 * LEASE_S])
def test_an_outage_of_the_api_server_costs_no_primary(cutoff: Testbed, outage_s: float) -> None:
    (before,) = cutoff.wait_settled(JOB)
    pods = {pod.uid for pod in cutoff.world.pods.values()}
    count = cutoff.status(JOB).failover_count or 0
    log = cutoff.logs.of(cutoff.primary(JOB, 0).name)
    with cutoff.cluster.api_outage():
        began = wall()
        time.sleep(outage_s)  # so long is the fault; nothing is waited for
        ended = wall()
    cutoff.wait_until(
        lambda: (
            len(cutoff.world.leases) == 2
            and all(
                lease.renew_time is not None and parse_time(lease.renew_time) > ended + 2 * LEASE_S
                for lease in cutoff.world.leases.values()
            )
        ),
        timeout_s=see.WAIT_S,
        what="renewals for two leases after the outage",
    )
    (after,) = cutoff.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.uid) == (before.term, before.primary and before.primary.uid)
    assert {pod.uid for pod in cutoff.world.pods.values()} == pods
    assert (cutoff.status(JOB).failover_count or 0) == count
    cutoff.wait_until(
        lambda: any(began + LEASE_S < step.at < ended for step in log.steps),
        timeout_s=see.WAIT_S,
        what="steps that were taken during the outage, in the log",
    )


def test_an_outage_of_a_minute_under_load_stops_nobody_and_costs_nothing(bed: Testbed) -> None:
    names = [f"loaded-{index}" for index in range(3)]
    for name in names:
        bed.apply(jobs.job(name, ranks=2, lease_s=LEASE_S, arguments={"save_every": 50, "pace": 0.05}))
    before = {name: [(state.term, state.primary) for state in bed.wait_settled(name)] for name in names}
    pods = {pod.uid for pod in bed.world.pods.values()}
    logs = [bed.logs.of(bed.primary(name, rank).name) for name in names for rank in range(2)]
    with bed.cluster.api_outage():
        began = wall()
        time.sleep(60)  # so long is the fault
        ended = wall()
    settled = {name: [(state.term, state.primary) for state in bed.wait_settled(name)] for name in names}
    bed.wait_until(
        lambda: all(
            lease.renew_time is not None and parse_time(lease.renew_time) > ended + 5 * LEASE_S
            for lease in bed.world.leases.values()
        ),
        timeout_s=see.WAIT_S,
        what="renewals for five leases after the outage",
    )
    assert {name: [term for term, _ in state] for name, state in settled.items()} == {
        name: [term for term, _ in state] for name, state in before.items()
    }
    assert {pod.uid for pod in bed.world.pods.values()} == pods
    assert [bed.status(name).failover_count for name in names] == [0, 0, 0]
    bed.wait_until(
        lambda: all(any(ended - 10 < step.at < ended for step in log.steps) for log in logs),
        timeout_s=see.WAIT_S,
        what="steps of every rank at the end of the outage, in the logs",
    )
    assert all(any(began < step.at < began + 10 for step in log.steps) for log in logs)


def test_an_api_server_that_takes_two_seconds_for_each_call_costs_no_primary(bed: Testbed) -> None:
    names = {"short": LEASE_S, "usual": 10}
    for name, lease_s in names.items():
        bed.apply(jobs.job(name, lease_s=lease_s, arguments={"save_every": 50, "pace": 0.05}))
    for name in names:
        bed.wait_settled(name)
    pods = {pod.uid for pod in bed.world.pods.values()}
    leader = bed.kube.get(f"{PODS.format(operator.NAMESPACE)}/{operator.pod(bed.kube)[0]}")
    asking = {pod["status"]["podIP"] for pod in (leader, *(see.pod(bed, name) for name in bed.world.pods))}
    assert len(asking) == 5
    with slow_api(bed, 2.0, watched=asking) as seen:
        time.sleep(45)  # so long is the fault
    assert seen.callers == asking, "every agent and the operator went through the slow way"
    for name in names:
        (state,) = bed.wait_settled(name)
        assert state.term == 1
    assert {pod.uid for pod in bed.world.pods.values()} == pods
    assert [bed.status(name).failover_count for name in names] == [0, 0]
