"""A job that was deleted without its children and applied again: the garbage collector, the operator and the workers of
a real cluster. What is adopted under which condition is in tests/unit/operator/test_adoption.py.
"""

import pytest

from testbed import Testbed
from tests.e2e import jobs, see
from tests.e2e.test_lifecycle import CHILDREN, GIVEN, names

pytestmark = pytest.mark.cluster

JOB = "moved"
JOBS = "/apis/understudy.dev/v1alpha1/namespaces/{}/trainingjobs"


def test_a_training_that_lost_its_job_goes_on_under_the_next_one_and_ends_with_it(bed: Testbed) -> None:
    manifest = jobs.job(JOB, checkpoint=jobs.SHARED, arguments={"save_every": 20, "pace": 0.02})
    bed.apply(manifest)
    (before,) = bed.wait_settled(JOB)
    assert before.primary is not None
    see.steps_on(bed, JOB)
    folder = see.rank_folder(bed, JOB)
    see.kubectl(bed, "delete", "tj", JOB, "--cascade=orphan", "--timeout=60s")
    bed.kube.create(JOBS.format(bed.namespace), {**manifest, "metadata": {"name": JOB, "namespace": bed.namespace}})
    see.wait_event(bed, JOB, "Adopted", folder.parent.name)
    (after,) = bed.wait_settled(JOB)
    assert after.primary is not None
    assert (after.primary.name, after.primary.uid, after.term) == (before.primary.name, before.primary.uid, before.term)
    see.steps_on(bed, JOB)

    bed.delete_pod(after.primary.name)
    failover = see.wait_failover(bed, JOB, before.term + 1)
    assert (failover.cause, failover.lost_steps) == ("PodDeleted", 0)
    bed.wait_settled(JOB)
    assert see.newest(folder).term == before.term + 1, "in the folder that the first job's checkpoints are in"

    see.kubectl(bed, "delete", "tj", JOB, "--timeout=120s")
    for kind, path in CHILDREN.items():
        given = GIVEN.get(kind, set())
        what = f"the end of the job's {kind}"
        see.until(bed, f"{path}/namespaces/{bed.namespace}/{kind}", lambda left: names(left) <= given, what)  # noqa: B023
