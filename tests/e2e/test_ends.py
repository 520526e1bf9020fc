"""How a job ends by the clock, what stays of it, and how one of the same name goes on from that."""

import pytest

from testbed import Testbed
from testbed.kube import JOBS
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "ends"
KEPT = f"{JOB}-checkpoints"


def test_a_job_fails_at_its_deadline_after_a_last_save(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, arguments={"save_every": 100_000, "pace": 0.01}, activeDeadlineSeconds=30))
    bed.wait_settled(JOB)
    see.wait_phase(bed, JOB, "Failed")
    assert "activeDeadlineSeconds" in see.wait_condition(bed, JOB, "Failed", "30 s", status="True")
    gone = "the end of its pods"
    bed.wait_until(
        lambda: all(pod.terminated for pod in bed.world.pods.values() if pod.job == JOB),
        timeout_s=see.WAIT_S,
        what=gone,
    )
    assert see.newest(see.rank_folder(bed, JOB)).step > 0


def test_a_finished_job_is_removed_with_all_but_its_checkpoints_and_never_comes_back(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, arguments={"steps": 30, "pace": 0.0}, ttlSecondsAfterFinished=0))
    uid = bed.world.jobs[JOB]["metadata"]["uid"]
    bed.wait_until(lambda: JOB not in bed.world.jobs, timeout_s=see.WAIT_S, what="the removal of the job")
    bed.wait_until(
        lambda: not any(p.job == JOB for p in bed.world.pods.values()) and not bed.world.leases,
        timeout_s=see.WAIT_S,
        what="the end of its children",
    )
    claims = bed.kube.get(f"/api/v1/namespaces/{bed.namespace}/persistentvolumeclaims")["items"]
    assert [claim["metadata"]["name"] for claim in claims] == [KEPT]
    assert see.newest(bed.cluster.volume_folder(bed.namespace, KEPT) / uid / "rank-0").step == 30


def test_a_sidecar_that_does_not_end_is_ended_and_the_log_of_the_last_primary_can_be_read(bed: Testbed) -> None:
    body = jobs.job(JOB, arguments={"steps": 30, "pace": 0.0}, hand_over_s=1)
    spec = body["spec"]["template"]["spec"]
    endless = ["sh", "-c", "trap '' TERM; sleep infinity"]
    trainer = spec["containers"][0]
    proxy = {key: trainer[key] for key in ("image", "imagePullPolicy", "resources")}
    spec["containers"].append({"name": "proxy", "command": endless, **proxy})
    bed.apply(body)
    see.wait_phase(bed, JOB, "Succeeded")
    (rank,) = bed.status(JOB).ranks
    name = rank.primary
    bed.wait_until(
        lambda: see.pod(bed, name)["status"]["phase"] == "Failed", timeout_s=see.WAIT_S, what="the end of the sidecar"
    )
    assert see.pod(bed, name)["status"]["reason"] == "DeadlineExceeded"
    assert "finished at step 30" in see.kubectl(bed, "logs", name, "-c", "trainer")


def test_a_job_that_is_deleted_and_applied_again_at_once_goes_on_from_the_last_save(bed: Testbed) -> None:
    arguments = {"save_every": 100_000, "pace": 0.01}
    bed.apply(jobs.job(JOB, arguments=arguments))
    bed.wait_settled(JOB)
    first = see.rank_folder(bed, JOB)
    path = JOBS.format(bed.namespace)
    again = jobs.job(JOB, arguments=arguments, checkpoint={"claimName": KEPT, "resume": "Latest"})
    old = bed.world.jobs[JOB]["metadata"]["uid"]
    bed.kube.delete(f"{path}/{JOB}", propagationPolicy="Background")
    bed.kube.create(path, again)
    bed.wait_until(
        lambda: JOB in bed.world.jobs and bed.world.jobs[JOB]["metadata"]["uid"] != old,
        timeout_s=see.WAIT_S,
        what="the sight of the second job",
    )
    message = see.wait_event(bed, JOB, "Inherited")
    bed.wait_settled(JOB)
    saved = see.newest(first).step
    assert saved > 0
    assert f"going on from step {saved} of an earlier job" in message
    assert f"starting from step {saved} as primary of term 1" in bed.log_text(bed.primary(JOB, 0).name)
