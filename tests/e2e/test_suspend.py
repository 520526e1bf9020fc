"""Suspend and resume: pods go after a last save, nothing counts as a failure, and training goes on where it was."""

import pytest

from testbed import Testbed
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "pause"


def suspend(bed: Testbed, wanted: bool, **template: object) -> None:
    """Set spec.suspend, and perhaps the template in the same write."""
    path = f"/apis/understudy.dev/v1alpha1/namespaces/{bed.namespace}/trainingjobs/{JOB}"
    bed.kube.patch(path, {"spec": {"suspend": wanted, **template}})


def test_a_suspended_job_runs_nothing_and_goes_on_where_it_was_with_another_template(bed: Testbed) -> None:
    body = jobs.job(JOB, arguments={"save_every": 1000, "pace": 0.01})
    bed.apply(body)
    (before,) = bed.wait_settled(JOB)
    suspend(bed, True)
    status = see.wait_phase(bed, JOB, "Suspended")
    assert not [pod for pod in bed.world.pods.values() if pod.job == JOB and not pod.terminated]
    reached = status.ranks[0].step
    assert status.ranks[0].checkpoint_step == reached > 0
    assert (status.failover_count, status.restarts, status.redundant) == (0, 0, "0/0")
    see.wait_event(bed, JOB, "Suspended")

    template = body["spec"]["template"]
    template["spec"]["containers"][0]["env"].append({"name": "CHANGED", "value": "yes"})
    suspend(bed, False, template=template)
    (after,) = bed.wait_settled(JOB)
    assert after.term == before.term + 1
    primary = bed.primary(JOB, 0).name
    log = bed.log_text(primary)
    assert f"resuming from step {reached} of term {before.term}" in log
    container = see.pod(bed, primary)["spec"]["containers"][0]
    assert {"name": "CHANGED", "value": "yes"} in container["env"]
    status = bed.status(JOB)
    assert (status.failover_count, status.restarts, status.failovers) == (0, 0, ())
    assert see.events(bed, JOB, "RedundantLost") == []


def test_a_job_created_suspended_starts_when_it_is_resumed(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, arguments={"save_every": 50}, suspend=True))
    see.wait_phase(bed, JOB, "Suspended")
    assert not [pod for pod in bed.world.pods.values() if pod.job == JOB]
    suspend(bed, False)
    bed.wait_settled(JOB)
