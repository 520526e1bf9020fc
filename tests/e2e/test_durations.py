"""leaseDurationSeconds is changed under a job that runs: shorter, longer, and back."""

import pytest

from testbed import Testbed
from testbed.kube import JOBS, parse_time
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "timed"


def test_a_changed_lease_duration_reaches_running_pods_and_disturbs_nobody(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, lease_s=15, arguments={"save_every": 50, "pace": 0.02}))
    (before,) = bed.wait_settled(JOB)
    pods = {pod.uid for pod in bed.world.pods.values()}
    for duration_s in (4, 30, 6):
        bed.kube.patch(
            f"{JOBS.format(bed.namespace)}/{JOB}", {"spec": {"failover": {"leaseDurationSeconds": duration_s}}}
        )
        bed.wait_until(
            lambda duration_s=duration_s: all(  # type: ignore[misc]
                lease.duration_s == duration_s == lease.patience_s for lease in bed.world.leases.values()
            ),
            timeout_s=see.WAIT_S,
            what=f"all Leases to last {duration_s} s, and their holders to know it",
        )
    last = {name: parse_time(str(lease.renew_time)) for name, lease in bed.world.leases.items()}
    bed.wait_until(
        lambda: all(parse_time(str(lease.renew_time)) > last[name] + 12 for name, lease in bed.world.leases.items()),
        timeout_s=see.WAIT_S,
        what="renewals for two leases",
    )
    (after,) = bed.wait_settled(JOB)
    assert after.term == before.term
    assert {pod.uid for pod in bed.world.pods.values()} == pods
    assert bed.status(JOB).failover_count == 0
