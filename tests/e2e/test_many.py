"""No redundant pod, three of them, 64 ranks; and failures that meet."""

import signal

import pytest
from understudy_contract.names import rank_lease_name
from understudy_contract.status import JobStatus, status_of

from testbed import Testbed, faults
from testbed.kube import JOBS
from testbed.pods import Pod
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "many"
RANKS = 64


def redundants(bed: Testbed) -> list[Pod]:
    """The redundant pods that run."""
    return [pod for pod in bed.world.pods.values() if pod.role == "redundant" and pod.running and not pod.deleting]


def finishes(bed: Testbed) -> JobStatus:
    """End the training."""
    jobs.finish(bed, JOB)
    return see.wait_phase(bed, JOB, "Succeeded")


def test_three_redundant_pods_take_over_one_after_the_other_while_none_can_be_replaced(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, redundancy=3, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    for node in bed.cluster.nodes:
        see.kubectl(bed, "cordon", node.name)
    try:
        for term in (2, 3, 4):
            faults.KILL_TRAINER.aim(bed, bed.primary(JOB, 0))()
            entry = see.wait_failover(bed, JOB, term)
            assert (entry.cause, entry.cold) == ("ProcessExited", False)
            bed.wait_until(lambda: bed.world.rank(JOB, 0).training, timeout_s=see.WAIT_S, what="training")
    finally:
        for node in bed.cluster.nodes:
            see.kubectl(bed, "uncordon", node.name)
    bed.wait_settled(JOB)
    assert finishes(bed).failover_count == 3


def test_a_primary_and_all_its_redundant_pods_lost_at_once_cost_a_cold_start_and_no_checkpoint(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, redundancy=2, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    lease = f"{JOB}-0"
    bed.wait_until(lambda: bed.world.leases[lease].floor_step >= 100, timeout_s=see.WAIT_S, what="two saves")
    primary, warm = bed.primary(JOB, 0), redundants(bed)
    assert len(warm) == 2
    committed = see.newest(see.rank_folder(bed, JOB)).step
    for pod in (*warm, primary):
        bed.delete_pod(pod.name, grace_s=0)
    entry = see.wait_failover(bed, JOB, 2)
    assert (entry.cause, entry.source, entry.cold) == ("PodDeleted", primary.name, True)
    assert entry.target not in {pod.name for pod in warm}
    see.wait_event(bed, JOB, "ColdStart", primary.name, "no redundant pod was ready")
    log = bed.logs.of(entry.target)
    resumed = bed.wait_until(lambda: log.resumed_at(2), timeout_s=see.WAIT_S, what="the resumption's line")
    assert resumed[1] >= committed
    bed.wait_settled(JOB)
    done = finishes(bed)
    assert (done.failover_count, done.restarts) == (1, 1)


def test_a_redundant_pod_that_dies_while_it_is_promoted_is_followed_by_the_next(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, redundancy=2, lease_s=6, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    agents = {pod.name: faults.agent_and_trainer(bed, pod)[0] for pod in redundants(bed)}
    kill = faults.KILL_TRAINER.aim(bed, bed.primary(JOB, 0))
    for agent in agents.values():
        bed.cluster.send_signal(agent, signal.SIGSTOP)  # whoever is promoted cannot say so
    kill()
    lease = rank_lease_name(JOB, 0)
    bed.wait_until(lambda: bed.world.leases[lease].term == 2, timeout_s=see.WAIT_S, what="a promotion")
    chosen = agents.pop(bed.world.leases[lease].holder)
    bed.cluster.send_signal(chosen, signal.SIGKILL)
    (other,) = agents.values()
    bed.cluster.send_signal(other, signal.SIGCONT)
    second = see.wait_failover(bed, JOB, 3)
    first = next(entry for entry in bed.status(JOB).failovers if entry.term == 2)
    assert (first.cause, second.cause) == ("ProcessExited", "ContainerExited")
    # The successor is the pod that stood still or the one started for the empty slot: whichever is warm first.
    assert (second.source, second.cold) == (first.target, False)
    assert second.target not in {first.source, first.target}
    bed.wait_settled(JOB)
    assert finishes(bed).failover_count == 2


def test_two_failures_of_one_rank_within_one_lease_are_two_failovers(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, redundancy=2, lease_s=30, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    for term in (2, 3):
        faults.KILL_TRAINER.aim(bed, bed.primary(JOB, 0))()
        assert see.wait_failover(bed, JOB, term).cause == "ProcessExited"
    bed.wait_settled(JOB)
    assert finishes(bed).failover_count == 2


def test_a_primary_that_is_preempted_hands_over(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    primary = bed.primary(JOB, 0)
    capacity = bed.kube.get(f"/api/v1/nodes/{primary.node}")["status"]["allocatable"]["cpu"]
    try:
        whole = f"{int(capacity) * 1000 - 5}m"
        container = {"name": "greedy", "image": jobs.WORKER_IMAGE, "command": ["sleep", "3600"]}
        body = {
            "metadata": {"name": "greedy"},
            "spec": {
                "priorityClassName": "system-cluster-critical",
                "nodeSelector": {"kubernetes.io/hostname": primary.node},
                "containers": [{**container, "resources": {"requests": {"cpu": whole}}}],
            },
        }
        bed.kube.create(f"/api/v1/namespaces/{bed.namespace}/pods", body)
        entry = see.wait_failover(bed, JOB, 2)
        assert (entry.cause, entry.lost_steps, entry.cold) == ("Preempted", 0, False)
    finally:
        bed.kube.delete(f"/api/v1/namespaces/{bed.namespace}/pods/greedy", gracePeriodSeconds=0)
    bed.wait_settled(JOB)
    finishes(bed)


def test_a_job_of_64_ranks_survives_the_loss_of_some_of_them(bed: Testbed) -> None:
    arguments = {"steps": 400, "save_every": 100, "pace": 0.5, "log_every": 100}
    trainer = {"resources": {"requests": {"cpu": "1m", "memory": "20Mi"}, "limits": {"memory": "512Mi"}}}
    bed.apply(jobs.job(JOB, ranks=RANKS, redundancy=0, lease_s=60, arguments=arguments, trainer=trainer))
    path = JOBS.format(bed.namespace)
    everyone = "every rank at work"
    bed.wait_until(
        lambda: sum(bed.world.rank(JOB, rank).training for rank in range(RANKS)) == RANKS, timeout_s=600, what=everyone
    )
    for rank in (0, 31, 63):
        bed.delete_pod(bed.primary(JOB, rank).name)
    see.wait_phase(bed, JOB, "Succeeded", timeout_s=600)
    status = status_of(bed.kube.get(f"{path}/{JOB}"))
    assert [entry.step for entry in status.ranks] == [400] * RANKS
    assert {entry.rank for entry in status.failovers} == {0, 31, 63}
    assert {entry.lost_steps for entry in status.failovers} == {0}
