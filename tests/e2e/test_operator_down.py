"""The operator is gone, for a moment or for good: trainings go on, and what happened meanwhile is made up for."""

import pytest

from testbed import Testbed, faults, operator
from testbed.kube import JOBS, PODS, Kube
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "steady"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{operator.NAMESPACE}/deployments/understudy-operator"


@pytest.fixture(scope="module")
def steady(module_bed: Testbed) -> Testbed:
    """A job at work."""
    module_bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.02}))
    module_bed.wait_settled(JOB)
    return module_bed


def end_operator(kube: Kube) -> str:
    """Delete the operator's pod as a power cut would; its Deployment makes a new one. Returns the old pod's name."""
    name = operator.pod(kube)[0]
    kube.delete(f"{PODS.format(operator.NAMESPACE)}/{name}", gracePeriodSeconds=0)
    return name


def wait_operator(testbed: Testbed) -> None:
    """Wait until an operator is ready."""

    def available(found: list[dict[str, object]]) -> bool:
        pods = [p for p in found if "deletionTimestamp" not in p["metadata"]]  # type: ignore[operator]
        return len(pods) == 1 and any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in pods[0].get("status", {}).get("conditions", ())  # type: ignore[attr-defined]
        )

    path = PODS.format(operator.NAMESPACE)
    see.until(testbed, path, available, "an operator that is ready", labelSelector=operator.SELECTOR)


def scale(testbed: Testbed, replicas: int) -> None:
    """Run so many operators, and wait until it is so."""
    testbed.kube.patch(DEPLOYMENT, {"spec": {"replicas": replicas}})
    if replicas:
        wait_operator(testbed)
    else:
        wait_no_operator(testbed)


def wait_no_operator(testbed: Testbed) -> None:
    """Wait until no operator is left."""
    path = PODS.format(operator.NAMESPACE)
    see.until(testbed, path, lambda found: not found, "the end of the operator", labelSelector=operator.SELECTOR)


def steps_on(testbed: Testbed, more: int = 30) -> None:
    """Wait until the primary has taken more steps than now."""
    log = testbed.logs.of(testbed.primary(JOB, 0).name)
    goal = (log.steps[-1].step if log.steps else 0) + more
    testbed.wait_until(
        lambda: log.steps and log.steps[-1].step >= goal, timeout_s=see.WAIT_S, what=f"step {goal} of {log.pod}"
    )


def test_an_operator_that_restarts_changes_nothing_for_a_job_at_work(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    pods = set(steady.world.pods)
    end_operator(steady.kube)
    steps_on(steady)
    wait_operator(steady)
    steps_on(steady)
    (after,) = steady.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.uid) == (before.term, before.primary and before.primary.uid)
    assert set(steady.world.pods) == pods


def test_a_primary_that_hands_over_while_no_operator_runs_is_succeeded_when_one_is_back(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    scale(steady, 0)
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
        scale(steady, 1)
    entry = wait_failover(steady, before.term + 1)
    assert (entry["cause"], entry["from"], entry["lostSteps"], entry["cold"]) == ("PodDeleted", old.name, 0, False)
    steady.wait_settled(JOB)


def test_an_operator_killed_right_after_a_fault_promotes_when_it_is_back(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    kill = faults.KILL_TRAINER.aim(steady, steady.primary(JOB, 0))
    kill()
    end_operator(steady.kube)
    entry = wait_failover(steady, before.term + 1)
    assert (entry["cause"], entry["cold"]) == ("ProcessExited", False)
    assert entry["lostSteps"] <= 51
    (after,) = steady.wait_settled(JOB)
    assert after.term == before.term + 1, "one fault, one promotion"


def test_a_status_that_was_deleted_is_rebuilt(steady: Testbed) -> None:
    steady.wait_settled(JOB)
    before = see.wait_phase(steady, JOB, "Running")
    steady.kube.patch(f"{JOBS.format(steady.namespace)}/{JOB}/status", {"status": None})
    steady.wait_until(
        lambda: steady.status(JOB).get("failovers") == before["failovers"][-1:], timeout_s=see.WAIT_S, what="the status"
    )
    after = see.wait_phase(steady, JOB, "Running")
    for field in ("failoverCount", "restarts", "redundant", "observedGeneration"):
        assert after[field] == before[field], field
    assert after["ranks"][0]["primary"] == before["ranks"][0]["primary"]
    assert after["ranks"][0]["term"] == before["ranks"][0]["term"]


def test_helm_uninstall_keeps_definition_and_jobs_and_a_new_release_takes_them_over(steady: Testbed) -> None:
    (before,) = steady.wait_settled(JOB)
    helm = [steady.cluster.helm, f"--kubeconfig={steady.cluster.kubeconfig}", f"--namespace={operator.NAMESPACE}"]
    said = see.run([*helm, "uninstall", operator.RELEASE, "--wait"])
    assert "trainingjobs.understudy.dev" in said, "helm says what it keeps"
    try:
        wait_no_operator(steady)
        left = see.run([*helm, "list", "--short"])
        assert left.strip() == ""
        kinds = "clusterroles,clusterrolebindings"
        roles = see.kubectl(steady, "get", kinds, "-l", "app.kubernetes.io/name=understudy", "-o", "name")
        assert roles == "", "nothing of its rights is left"
        assert JOB in see.kubectl(steady, "get", "trainingjobs", "-o", "name")
        steps_on(steady)
    finally:
        operator.install(steady.cluster)
    (after,) = steady.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.uid) == (before.term, before.primary and before.primary.uid)
    steps_on(steady)


def wait_failover(testbed: Testbed, term: int) -> dict[str, object]:
    """Wait for the failover to a term in the status, with its first step."""

    def look() -> dict[str, object] | None:
        listed = testbed.status(JOB).get("failovers", [])
        return next((e for e in listed if e["term"] == term and "firstStepAt" in e), None)

    return testbed.wait_until(look, timeout_s=see.WAIT_S, what=f"the failover to term {term} in the status")
