"""Nobody reaches the API server for longer than a lease: nobody is lost, and nobody is replaced afterwards.

The lease is as short as it may be, so that an outage of seconds outlasts it; a machine short of CPU may not.
"""

import time

import pytest

from testbed import Testbed
from testbed.kube import parse_time, wall
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
    count = cutoff.status(JOB).get("failoverCount", 0)
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
    assert cutoff.status(JOB).get("failoverCount", 0) == count
    cutoff.wait_until(
        lambda: any(began + LEASE_S < step.at < ended for step in log.steps),
        timeout_s=see.WAIT_S,
        what="steps that were taken during the outage, in the log",
    )
