"""Planned moves, by `kubectl drain` or by annotation: when a redundant pod can take over, without losing a step."""

import subprocess
from collections.abc import Iterator

import pytest

from testbed import Testbed
from testbed.kube import BUDGETS
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "mover"


@pytest.fixture
def mover(bed: Testbed) -> Iterator[Testbed]:
    """A job at work whose pods stand on two nodes; cordoned nodes are opened again."""
    bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    yield bed
    for node in bed.cluster.nodes:
        see.kubectl(bed, "uncordon", node.name)


def drain(testbed: Testbed, node: str, *, timeout_s: int) -> subprocess.CompletedProcess[str]:
    """Drain a node of the job's pods, as an administrator would."""
    uid = testbed.world.jobs[JOB]["metadata"]["uid"]
    command = testbed.kubectl(
        "drain",
        node,
        "--delete-emptydir-data",
        f"--timeout={timeout_s}s",
        f"--pod-selector=understudy.dev/job-uid={uid}",
    )
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_drained_primary_loses_no_step_and_the_last_one_is_not_taken(mover: Testbed) -> None:
    old = mover.primary(JOB, 0)
    done = drain(mover, old.node, timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr
    failovers = see.told(mover, JOB)
    assert {(e.cause, e.lost_steps, e.cold) for e in failovers} == {("EvictedByAPI", 0, False)}
    mover.wait_settled(JOB)
    new = mover.primary(JOB, 0)
    assert old.node not in {pod.node for pod in mover.world.pods.values() if pod.job == JOB and not pod.terminated}

    refused = drain(mover, new.node, timeout_s=15)
    assert refused.returncode != 0
    assert "disruption budget" in refused.stdout + refused.stderr
    see.steps_on(mover, JOB)
    assert {e.lost_steps for e in mover.status(JOB).failovers if e.lost_steps is not None} == {0}


def test_a_drain_stops_a_job_whose_volume_is_of_one_node_and_it_goes_on_there_without_losing_a_step(
    bed: Testbed,
) -> None:
    bed.apply(jobs.job(JOB, checkpoint=jobs.PINNED, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    node = see.on_one_node(bed, JOB)
    assert bed.kube.get(BUDGETS.format(bed.namespace))["items"] == [], "no pod could take over on another node"
    old = {pod.uid for pod in bed.world.pods.values()}
    try:
        done = drain(bed, node, timeout_s=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "disruption budget" not in done.stdout + done.stderr
        bed.wait_until(lambda: old <= bed.world.pods_gone.keys(), timeout_s=see.WAIT_S, what="the end of both pods")
        assert not [pod.name for pod in bed.world.pods.values() if pod.running], "nothing runs on a cordoned node"
        saved = see.newest(see.rank_folder(bed, JOB)).step
        # One may have been promoted just before it was evicted, too: whoever took the last step saved it.
        bed.wait_until(
            lambda: max((step.step for log in bed.logs.all() for step in log.steps), default=0) == saved,
            timeout_s=see.WAIT_S,
            what=f"the line of step {saved}, which was saved, as the last one",
        )
    finally:
        see.kubectl(bed, "uncordon", node)
    (after,) = bed.wait_settled(JOB)
    entry = see.wait_failover(bed, JOB, after.term)
    assert (entry.cause, entry.lost_steps, entry.cold) == ("EvictedByAPI", 0, True)
    log = bed.logs.of(entry.target)
    resumed = bed.wait_until(lambda: log.resumed_at(after.term), timeout_s=see.WAIT_S, what="the resumption's line")
    assert resumed[1] == saved
    assert see.on_one_node(bed, JOB) == node


def test_the_budget_goes_when_the_redundant_pods_do(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.02}))
    bed.wait_settled(JOB)
    path = BUDGETS.format(bed.namespace)
    see.until(bed, path, lambda found: len(found) == 1, "the budget of the rank")
    see.kubectl(bed, "patch", "tj", JOB, "--type=merge", '--patch={"spec": {"redundancy": 0}}')
    see.until(bed, path, lambda found: not found, "the end of a budget that nobody could keep")


def test_a_rank_that_is_asked_to_switch_over_does_so_once_and_loses_no_step(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.02}))
    (before,) = bed.wait_settled(JOB)
    see.kubectl(bed, "annotate", "tj", JOB, "understudy.dev/switchover=0")
    (failover,) = see.told(bed, JOB)
    assert (failover.cause, failover.lost_steps, failover.cold) == ("Switchover", 0, False)
    (after,) = bed.wait_settled(JOB)
    assert after.term == before.term + 1
    assert "understudy.dev/switchover" not in bed.world.jobs[JOB]["metadata"].get("annotations", {})
