"""The operator's own process against a real API server; kubelet, volume binder and workers are played by the test."""

from typing import Any

import pytest
from understudy_contract.exits import ExitCode, ReleaseReason
from understudy_contract.names import Term
from understudy_contract.reports import Phase, Release

from tests.integration.operator.process import Operator
from tests.integration.operator.rank import Rank, failover, promoted, role
from tests.integration.operator.stage import Stage

pytestmark = pytest.mark.cluster


def succeeded(job: dict[str, Any]) -> bool:
    return bool(job.get("status", {}).get("phase") == "Succeeded")


async def test_a_job_gets_one_pod_until_its_claim_is_bound_and_then_the_others(
    stage: Stage, operator: Operator
) -> None:
    job = await stage.create_job("job", ranks=2)
    first = await stage.until("pods", "job-0-0", lambda _: True, "the first pod")
    assert role(first) == ("primary", "1")
    await stage.until("leases", "job-1", lambda _: True, "the Lease of rank 1")
    assert [pod["metadata"]["name"] for pod in await stage.list("pods")] == ["job-0-0"]
    await stage.bind("job-checkpoints", "ReadWriteMany")
    for name in ("job-0-1", "job-1-0", "job-1-1"):
        await stage.until("pods", name, lambda _: True, f"pod {name}")
    owners = {"leases": 4, "pods": 4, "services": 1, "roles": 1, "rolebindings": 1}
    for kind, count in owners.items():
        found = [o for o in await stage.list(kind) if o["metadata"].get("ownerReferences")]
        assert [o["metadata"]["ownerReferences"][0]["uid"] for o in found] == [job["metadata"]["uid"]] * count, kind
    claim = await stage.get("persistentvolumeclaims", "job-checkpoints")
    assert "ownerReferences" not in claim["metadata"], "the checkpoints outlive their job"


async def test_nothing_is_written_onto_a_job_but_its_status(rank: Rank, stage: Stage) -> None:
    await stage.until("trainingjobs", "job", lambda j: j.get("status", {}).get("phase") == "Running", "phase Running")
    meta = (await stage.get("trainingjobs", "job"))["metadata"]
    assert "annotations" not in meta
    assert "finalizers" not in meta
    operators = [entry for entry in meta["managedFields"] if entry["manager"] != "understudy"]
    assert {(entry["operation"], entry.get("subresource")) for entry in operators} == {("Update", "status")}


async def test_a_hand_over_moves_lease_label_and_service_and_loses_no_step(rank: Rank, stage: Stage) -> None:
    await stage.delete("pods", rank.primary.pod)
    await rank.primary.hand_over(15)
    await promoted(rank)
    await rank.successor.train(16, 15)
    entry = await failover(rank)
    assert (entry["cause"], entry["from"], entry["to"]) == ("PodDeleted", "job-0-0", "job-0-1")
    assert (entry["lostSteps"], entry.get("lostStepsIsLowerBound", False), entry["cold"]) == (0, False, False)
    selector = (await stage.get("services", "job"))["spec"]["selector"]
    chosen = [p for p in await stage.list("pods") if selector.items() <= p["metadata"]["labels"].items()]
    assert [p["metadata"]["name"] for p in chosen] == ["job-0-1"]


async def test_an_ended_container_is_a_failover_with_its_last_words(rank: Rank, stage: Stage) -> None:
    await stage.end_pod("job-0-0", 1, "ValueError: batch 7 is empty")
    await promoted(rank)
    await rank.successor.train(1, 0)
    entry = await failover(rank)
    assert entry["cause"] == "ContainerExited"
    assert "exit code 1; last words: ValueError: batch 7 is empty" in entry["message"]
    assert (entry["lostSteps"], entry["lostStepsIsLowerBound"]) == (10, True)
    kept = await stage.get("pods", "job-0-0")
    assert "deletionTimestamp" not in kept["metadata"], "an ended pod is kept for its log"


async def test_a_failure_while_the_operator_is_down_is_acted_on_when_it_is_back(
    rank: Rank, stage: Stage, operator: Operator
) -> None:
    operator.kill()
    try:
        await stage.delete("pods", rank.primary.pod, gracePeriodSeconds=0)
    finally:
        operator.start()
    await promoted(rank)
    await rank.successor.train(1, 0)
    assert (await failover(rank))["cause"] == "PodDeleted"


async def test_an_operator_killed_right_after_its_decision_leaves_nothing_undone(
    rank: Rank, stage: Stage, operator: Operator
) -> None:
    await stage.delete("pods", rank.primary.pod)
    await rank.primary.hand_over(15)
    await stage.lease_until("job-0", lambda r: r.term == 2, "the decision")
    operator.kill()
    operator.start()
    await promoted(rank)
    # Its number is the next one, or the one after that if the operator died when it had taken a number for nobody yet.
    await stage.until("pods", None, lambda pod: role(pod) == ("redundant", None), "a new redundant pod")
    assert (await stage.lease("job-0")).term == 2


async def test_a_status_that_was_deleted_is_rebuilt_from_the_leases(rank: Rank, stage: Stage) -> None:
    await stage.delete("pods", rank.primary.pod)
    await rank.primary.hand_over(15)
    await promoted(rank)
    await rank.successor.train(16, 15)
    before = await failover(rank)
    await stage.patch("trainingjobs", "job", {"status": None}, status=True)
    assert await failover(rank) == before
    status = (await stage.get("trainingjobs", "job"))["status"]
    assert (status["failoverCount"], status["restarts"], status["ranks"][0]["term"]) == (1, 0, 2)


async def test_a_lease_that_was_deleted_is_remade_above_every_known_term(rank: Rank, stage: Stage) -> None:
    await stage.delete("pods", rank.primary.pod)
    await rank.primary.hand_over(15)
    await promoted(rank)
    await rank.successor.train(16, 15)
    await failover(rank)
    await stage.delete("leases", "job-0")
    remade = await stage.lease_until("job-0", lambda r: r.term > 2, "the Lease, made anew")
    assert remade.holder == rank.redundant.pod, "a primary that lives keeps its rank"


async def test_a_job_whose_primary_completed_is_succeeded_and_stays_so(rank: Rank, stage: Stage) -> None:
    await rank.primary.complete(100)
    await stage.end_pod("job-0-0", 0)
    done = await stage.until("trainingjobs", "job", succeeded, "phase Succeeded")
    complete = next(c for c in done["status"]["conditions"] if c["type"] == "Complete")
    assert complete["status"] == "True"
    await stage.until("pods", "job-0-1", lambda p: "deletionTimestamp" in p["metadata"], "the redundant pod to end")
    await stage.delete("pods", "job-0-0", gracePeriodSeconds=0)
    await stage.create_job("witness")
    await stage.until("pods", "witness-0-0", lambda _: True, "a pod of a later job")
    assert succeeded(await stage.get("trainingjobs", "job"))
    assert (await stage.lease("job-0")).term == 1, "completion is never taken back"


async def test_exit_0_without_completion_is_a_failure_that_says_so(rank: Rank, stage: Stage) -> None:
    words = "train.py exited 0 before its training was complete; let it run understudy's loop to the last step"
    release = Release(Term(1), ReleaseReason.PROCESS_EXITED, 1, words)
    await rank.primary.renew(Phase.TRAINING, step=12, release=release)
    await promoted(rank)
    await rank.successor.train(1, 0)
    entry = await failover(rank)
    assert entry["cause"] == "ProcessExited"
    assert words in entry["message"]


async def test_another_owners_object_of_the_jobs_name_is_left_alone_and_said_to_be_in_the_way(
    stage: Stage, operator: Operator
) -> None:
    await stage.create("services", {"metadata": {"name": "job"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}})
    await stage.create_job("job")

    def blocked(job: dict[str, Any]) -> bool:
        conditions = job.get("status", {}).get("conditions", [])
        return any("Service job" in c["message"] and "delete it, or rename the job" in c["message"] for c in conditions)

    await stage.until("trainingjobs", "job", blocked, "a condition that names the Service")
    assert (await stage.get("services", "job"))["spec"]["selector"] == {"a": "b"}
    assert await stage.list("pods") == []
    await stage.delete("services", "job")
    await stage.until("pods", "job-0-0", lambda _: True, "the first pod, once the Service is out of the way")


async def test_a_template_that_the_api_refuses_is_said_in_the_status_and_makes_no_pod(
    stage: Stage, operator: Operator
) -> None:
    trainer = {"name": "trainer", "image": "any:1", "command": ["python"], "imagePulPolicy": "Never"}
    await stage.create_job("job", template={"spec": {"containers": [trainer]}})

    def refused(job: dict[str, Any]) -> bool:
        conditions = job.get("status", {}).get("conditions", [])
        training = next((c for c in conditions if c["type"] == "Training"), {"message": ""})
        return "imagePulPolicy" in training["message"]

    await stage.until("trainingjobs", "job", refused, "a condition that names the field")
    assert await stage.list("pods") == []


async def test_superseded_workers_are_no_failures_of_the_application(rank: Rank, stage: Stage) -> None:
    await stage.delete("pods", rank.primary.pod)
    await rank.primary.hand_over(15)
    await promoted(rank)
    await stage.end_pod("job-0-0", ExitCode.SUPERSEDED)
    await rank.successor.train(16, 15)
    await failover(rank)
    assert (await stage.lease("job-0")).failures == 0


async def test_the_operators_rights_are_enough(operator: Operator) -> None:
    """Last: all that the tests before made it do."""
    assert [line for line in operator.text().splitlines() if " 403" in line or "forbidden" in line.lower()] == []
