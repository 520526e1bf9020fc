"""Two operators, one of which leads: whichever is lost or replaced, trainings go on and failures are acted on."""

import pytest

from testbed import Testbed, faults, operator
from tests.e2e import jobs, operators, see

pytestmark = pytest.mark.cluster

JOB = "led"


@pytest.fixture(scope="module")
def led(module_bed: Testbed) -> Testbed:
    """A job at work, and two operators."""
    operators.wait_ready(module_bed)
    module_bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.02}))
    module_bed.wait_settled(JOB)
    return module_bed


def test_a_primary_that_is_lost_after_the_leader_is_replaced_by_the_next_leader(led: Testbed) -> None:
    (before,) = led.wait_settled(JOB)
    kill = faults.KILL_TRAINER.aim(led, led.primary(JOB, 0))
    leader = operator.pod(led.kube)[0]
    operators.crash(led, leader)
    kill()
    entry = see.wait_failover(led, JOB, before.term + 1)
    assert (entry.cause, entry.cold) == ("ProcessExited", False)
    assert operator.pod(led.kube)[0] != leader
    operators.wait_ready(led)
    (after,) = led.wait_settled(JOB)
    assert after.term == before.term + 1, "one fault, one promotion"


def test_a_leader_whose_pod_is_deleted_is_followed_by_another(led: Testbed) -> None:
    (before,) = led.wait_settled(JOB)
    leader = operator.pod(led.kube)[0]
    operators.end(led, leader)
    led.delete_pod(led.primary(JOB, 0).name)
    entry = see.wait_failover(led, JOB, before.term + 1)
    assert (entry.cause, entry.lost_steps) == ("PodDeleted", 0)
    assert operator.pod(led.kube)[0] != leader
    operators.wait_ready(led)
    led.wait_settled(JOB)


def test_a_follower_that_is_lost_changes_nothing(led: Testbed) -> None:
    (before,) = led.wait_settled(JOB)
    leader = operator.pod(led.kube)[0]
    (follower,) = (pod["metadata"]["name"] for pod in operator.pods(led.kube) if pod["metadata"]["name"] != leader)
    operators.end(led, follower)
    operators.wait_ready(led)
    see.steps_on(led, JOB)
    assert operator.pod(led.kube)[0] == leader
    (after,) = led.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.uid) == (before.term, before.primary and before.primary.uid)


def test_a_rolling_restart_under_a_job_at_work_costs_no_term_and_no_pod(led: Testbed) -> None:
    (before,) = led.wait_settled(JOB)
    workers = {pod.uid for pod in led.world.pods.values() if pod.job == JOB and pod.running}
    old = {pod["metadata"]["uid"] for pod in operator.pods(led.kube)}
    operators.restart(led)
    assert not old & {pod["metadata"]["uid"] for pod in operator.pods(led.kube)}
    see.steps_on(led, JOB)
    (after,) = led.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.uid) == (before.term, before.primary and before.primary.uid)
    assert {pod.uid for pod in led.world.pods.values() if pod.job == JOB and pod.running} == workers
    led.delete_pod(led.primary(JOB, 0).name)
    entry = see.wait_failover(led, JOB, before.term + 1)
    assert (entry.cause, entry.lost_steps) == ("PodDeleted", 0)
    led.wait_settled(JOB)


def test_operators_stand_on_different_nodes_and_one_of_them_says_that_it_leads(led: Testbed) -> None:
    operators.wait_ready(led)
    nodes = [pod["spec"]["nodeName"] for pod in operator.pods(led.kube)]
    assert len(set(nodes)) == len(nodes)
    leader = operator.pod(led.kube)[0]
    words = f"this process leads: {leader}_"
    assert [name for name, text in operator.logs(led.kube).items() if words in text] == [leader]
    said = see.kubectl(led, f"--namespace={operator.NAMESPACE}", "get", "lease", operator.LEASE)
    assert leader in said
