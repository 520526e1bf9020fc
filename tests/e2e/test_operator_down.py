"""No operator is left, for a moment or for good: trainings go on, and what happened meanwhile is made up for."""

import pytest

from testbed import Testbed, faults, operator
from testbed.kube import JOBS
from tests.e2e import jobs, operators, see

pytestmark = pytest.mark.cluster

JOB = "steady"
BOTH_ANEW_WITHIN_S = 240
"""Kubernetes takes 40 to 55 s to call a node NotReady, and 10 more to replace its operators; then pods have to start.
Without the chart's tolerations it would take 300 more."""


@pytest.fixture(scope="module")
def steady(module_bed: Testbed) -> Testbed:
    """A job at work."""
    module_bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.02}))
    module_bed.wait_settled(JOB)
    return module_bed


def test_operators_that_restart_all_at_once_change_nothing_for_a_job_at_work(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    pods = set(steady.world.pods)
    operators.end_all(steady)
    see.steps_on(steady, JOB)
    operators.wait_ready(steady)
    see.steps_on(steady, JOB)
    (after,) = steady.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.uid) == (before.term, before.primary and before.primary.uid)
    assert set(steady.world.pods) == pods


def test_a_primary_that_hands_over_while_no_operator_runs_is_succeeded_when_one_is_back(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    operators.scale(steady, 0)
    try:
        old = steady.primary(JOB, 0)
        steady.delete_pod(old.name)
        steady.wait_until(
            lambda: steady.world.leases[f"{JOB}-0"].current_release is not None,
            timeout_s=see.WAIT_S,
            what="the release",
        )
        assert steady.world.rank(JOB, 0).term == before.term, "nobody but an operator passes a rank on"
    finally:
        operators.scale(steady, operators.REPLICAS)
    entry = see.wait_failover(steady, JOB, before.term + 1)
    assert (entry.cause, entry.source, entry.lost_steps, entry.cold) == ("PodDeleted", old.name, 0, False)
    steady.wait_settled(JOB)


def test_operators_killed_right_after_a_fault_promote_when_one_is_back(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    kill = faults.KILL_TRAINER.aim(steady, steady.primary(JOB, 0))
    kill()
    operators.end_all(steady)
    entry = see.wait_failover(steady, JOB, before.term + 1)
    assert (entry.cause, entry.cold) == ("ProcessExited", False)
    assert entry.lost_steps <= 51
    (after,) = steady.wait_settled(JOB)
    assert after.term == before.term + 1, "one fault, one promotion"


def test_a_status_that_was_deleted_is_rebuilt(steady: Testbed) -> None:
    steady.wait_settled(JOB)
    before = see.wait_phase(steady, JOB, "Running")
    steady.kube.patch(f"{JOBS.format(steady.namespace)}/{JOB}/status", {"status": None})
    steady.wait_until(
        lambda: steady.status(JOB).failovers == before.failovers[-1:], timeout_s=see.WAIT_S, what="the status"
    )
    after = see.wait_phase(steady, JOB, "Running")
    for field in ("failover_count", "restarts", "redundant", "observed_generation"):
        assert getattr(after, field) == getattr(before, field), field
    assert after.ranks[0].primary == before.ranks[0].primary
    assert after.ranks[0].term == before.ranks[0].term


def test_helm_uninstall_keeps_definition_and_jobs_and_a_new_release_takes_them_over(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    helm = [steady.cluster.helm, f"--kubeconfig={steady.cluster.kubeconfig}", f"--namespace={operator.NAMESPACE}"]
    said = see.run([*helm, "uninstall", operator.RELEASE, "--wait"])
    assert "trainingjobs.understudy.dev" in said, "helm says what it keeps"
    try:
        operators.wait_none(steady)
        left = see.run([*helm, "list", "--short"])
        assert left.strip() == ""
        kinds = "clusterroles,clusterrolebindings"
        roles = see.kubectl(steady, "get", kinds, "-l", "app.kubernetes.io/name=understudy", "-o", "name")
        assert roles == "", "nothing of its rights is left"
        assert JOB in see.kubectl(steady, "get", "trainingjobs", "-o", "name")
        see.steps_on(steady, JOB)
    finally:
        operator.install(steady.cluster)
    (after,) = steady.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.uid) == (before.term, before.primary and before.primary.uid)
    see.steps_on(steady, JOB)


def test_a_node_that_takes_all_operators_and_all_pods_of_a_job_with_it_ends_neither(bed: Testbed) -> None:
    """Both start anew on the other node, once Kubernetes has called the dead one NotReady."""
    dead, other = (node.name for node in bed.cluster.nodes[:2])
    see.kubectl(bed, "cordon", other)
    try:
        for pod in operator.pods(bed.kube):
            if pod["spec"]["nodeName"] == other:
                operators.end(bed, pod["metadata"]["name"])
        operators.wait_ready(bed)
        bed.apply(jobs.job("anew", lease_s=6, arguments={"save_every": 50, "pace": 0.02}))
        (before,) = bed.wait_settled("anew")
    finally:
        see.kubectl(bed, "uncordon", other)
    assert {pod["spec"]["nodeName"] for pod in operator.pods(bed.kube)} == {dead}
    assert {pod.node for pod in bed.world.pods.values() if pod.job == "anew"} == {dead}
    node = bed.cluster.node(dead)
    node.power_cut()
    try:
        bed.wait_until(
            lambda: (now := bed.world.rank("anew", 0)).term > before.term and now.training,
            timeout_s=BOTH_ANEW_WITHIN_S,
            what="a primary on the node that is left",
        )
        jobs.finish(bed, "anew")
        (failover,) = see.wait_phase(bed, "anew", "Succeeded").failovers
    finally:
        node.start()
        operators.wait_ready(bed)
    assert (failover.cause, failover.cold) == ("LeaseExpired", True)
    assert 0 <= failover.lost_steps <= 51
