"""What users of other systems complain about cannot happen here: those complaints that show at the API server.

The list of all of them, and where each is tested, is in tests/e2e/test_complaints.py. Nothing here ends a pod that was
deleted with a grace period: no kubelet answers, as on a node that is lost, and it stays Terminating.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from understudy_contract.exits import ReleaseReason
from understudy_contract.names import Term
from understudy_contract.reports import CheckpointRef, Phase, Release
from understudy_kube.client import Api, Invalid

from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.process import Operator
from tests.integration.operator.rank import Rank, failover, heard, promoted, role
from tests.integration.operator.stage import WAIT_S, Json, Stage, Worker

pytestmark = pytest.mark.cluster


def status_where(**fields: Any) -> Callable[[Json], bool]:
    """Make a test of a job's status."""
    return lambda job: fields.items() <= job.get("status", {}).items()


def terminating(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def pod_of(stage: Stage, incarnation: int, term: int) -> Worker:
    """The worker of a pod of rank 0, as primary of a term."""
    return Worker(stage, stage.api, f"job-0-{incarnation}", "job-0", term)


async def add_spare(stage: Stage, incarnation: int, assignment: int, checkpoint_step: int, term: int) -> Worker:
    """Bring up the pod that the operator has made for the redundant slot."""
    spare = Worker(stage, stage.api, f"job-0-{incarnation}", "job-0-s0", assignment)
    await stage.run_pod(spare.pod, "node-b")
    await spare.stand_by(checkpoint_step, term)
    return spare


@asynccontextmanager
async def not_ready(stage: Stage, node: str) -> AsyncIterator[None]:
    """Let a node be what the control plane makes of one that it does not hear."""

    async def say(status: str) -> None:
        patch = {"status": {"conditions": [{"type": "Ready", "status": status}]}}
        await stage.api.merge_patch(f"/api/v1/nodes/{node}/status", json.dumps(patch).encode())

    await say("Unknown")
    try:
        yield
    finally:
        await say("True")


async def test_a_machine_that_dies_without_a_word_does_not_hang_its_job(
    stage: Stage, api: Api, operator: Operator
) -> None:
    """Lines 1 and 10: kubeflow/trainer#2072, #720, #2185; dlrover#1010.

    First only the silence tells; later the node is NotReady, and its pod is Terminating until the end of the job.
    """
    await stage.create_job("job", failover={"leaseDurationSeconds": 3})
    rank = Rank(stage, api, "job")
    await rank.begin()
    async with heard(lambda: rank.redundant.stand_by(0)):
        await promoted(rank)
    async with heard(lambda: rank.successor.train(1, 0)), not_ready(stage, "node-a"):
        assert (await failover(rank))["cause"] == "LeaseExpired"
        dead = await stage.until("pods", rank.primary.pod, terminating, "the deletion of the dead node's pod")
        spare = Worker(stage, api, "job-0-2", rank.redundant.lease, 2)
        await stage.run_pod(spare.pod, "node-b")
        async with heard(lambda: spare.stand_by(0, 2)):
            await stage.until("trainingjobs", "job", status_where(phase="Running", redundant="1/1"), "a whole job")
    await rank.successor.complete(100)
    await stage.until("trainingjobs", "job", status_where(phase="Succeeded"), "the end of the job")
    assert (await stage.get("pods", rank.primary.pod))["metadata"]["uid"] == dead["metadata"]["uid"], "still there"


async def test_a_pod_that_replaces_a_deleted_one_joins_and_takes_over_in_its_turn(rank: Rank, stage: Stage) -> None:
    """Line 2: kubeflow/trainer#2300, kubeflow/pytorch-operator#364."""
    await stage.delete("pods", rank.primary.pod)
    await rank.primary.hand_over(15)
    await promoted(rank)
    await rank.successor.train(16, 15)
    newcomer = await add_spare(stage, 2, 2, 15, 2)
    await stage.until("trainingjobs", "job", status_where(phase="Running", redundant="1/1"), "the newcomer to be warm")
    await stage.delete("pods", rank.redundant.pod)
    await rank.successor.hand_over(20)
    await stage.lease_until("job-0", lambda lease: (lease.holder, lease.term) == (newcomer.pod, 3), "its promotion")
    await pod_of(stage, 2, 3).train(21, 20)
    done = await stage.until("trainingjobs", "job", stepped(2), "the step of the second failover")
    taken_over = [(entry["to"], entry["lostSteps"]) for entry in done["status"]["failovers"]]
    assert taken_over == [(rank.redundant.pod, 0), (newcomer.pod, 0)]


def stepped(failovers: int) -> Callable[[dict[str, Any]], bool]:
    """Tell whether the status lists so many failovers, the last one with its first step."""

    def look(job: dict[str, Any]) -> bool:
        listed = job.get("status", {}).get("failovers") or []
        return len(listed) == failovers and "firstStepAt" in listed[-1]

    return look


async def delete_by_force(stage: Stage, pod: str) -> None:
    await stage.delete("pods", pod, gracePeriodSeconds=0)


async def evict(stage: Stage, pod: str) -> None:
    """End a pod as its kubelet does when the node runs out of something."""
    await stage.patch("pods", pod, {"status": {"phase": "Failed", "reason": "Evicted"}}, status=True)


async def preempt(stage: Stage, pod: str) -> None:
    """End a pod as the scheduler does for one of a higher priority."""
    await stage.delete("pods", pod)
    await stage.end_pod(pod, 143)


TAKEN_AWAY: list[Callable[[Stage, str], Awaitable[None]]] = [delete_by_force, evict, preempt]


async def test_deletion_eviction_and_preemption_never_fail_a_job(stage: Stage, operator: Operator) -> None:
    """Line 3: kubeflow/trainer#999, #1560, #1570."""
    await stage.create_job("job", redundancy=0, failover={"leaseDurationSeconds": 60, "maxFailuresWithoutProgress": 1})
    for term, take_away in enumerate(TAKEN_AWAY, start=1):
        worker = pod_of(stage, term - 1, term)
        await stage.run_pod(worker.pod)
        if term == 1:
            await stage.bind("job-checkpoints", "ReadWriteMany")
        await worker.train(10, 0)
        await take_away(stage, worker.pod)
    worker = pod_of(stage, len(TAKEN_AWAY), len(TAKEN_AWAY) + 1)
    await stage.run_pod(worker.pod)
    await worker.train(10, 0)
    await stage.until("trainingjobs", "job", status_where(phase="Running", restarts=3), "a job that runs")
    await fail(worker, CheckpointRef(1, 0, "d" * 64))
    await stage.until("trainingjobs", "job", status_where(phase="Failed"), "the one failure that it may not survive")


async def fail(worker: Worker, checkpoint: CheckpointRef) -> None:
    """Let the program of a primary end by itself, with no newer checkpoint than this."""
    release = Release(Term(worker.term), ReleaseReason.PROCESS_EXITED, 1, "ValueError: step 7")
    await worker.renew(Phase.TRAINING, step=checkpoint.step + 7, checkpoint=checkpoint, release=release)


async def test_the_status_counts_no_pod_that_is_terminating_and_is_made_anew(rank: Rank, stage: Stage) -> None:
    """Line 4: kubeflow/trainer#1711, kubeflow/common#214, volcano#1099."""
    await stage.until("trainingjobs", "job", status_where(phase="Running", redundant="1/1"), "a whole job")
    await stage.delete("pods", rank.redundant.pod)
    await stage.until("trainingjobs", "job", status_where(phase="Degraded", redundant="0/1"), "one pod less")
    assert terminating(await stage.get("pods", rank.redundant.pod)), "it is there, and counts as nothing"
    await add_spare(stage, 2, 2, 0, 1)
    whole = await stage.until("trainingjobs", "job", status_where(phase="Running", redundant="1/1"), "a whole job")
    await stage.patch("trainingjobs", "job", {"status": None}, status=True)
    again = await stage.until("trainingjobs", "job", status_where(phase="Running", redundant="1/1"), "the status")
    assert again["status"]["ranks"] == whole["status"]["ranks"]


async def test_a_failed_job_is_neither_revived_by_a_clean_up_nor_given_new_tries(
    stage: Stage, operator: Operator
) -> None:
    """Line 5: kubeflow/trainer#3737, #3779."""
    await stage.create_job("job", redundancy=0, failover={"leaseDurationSeconds": 60, "maxFailuresWithoutProgress": 2})
    newest = CheckpointRef(1, 100, "d" * 64)
    await stage.run_pod("job-0-0")
    await stage.bind("job-checkpoints", "ReadWriteMany")
    await fail(pod_of(stage, 0, 1), newest)
    await stage.run_pod("job-0-1")
    await pod_of(stage, 1, 2).renew(Phase.TRAINING, step=101, checkpoint=newest)
    again = await stage.until("trainingjobs", "job", status_where(phase="Running"), "a job that runs again")
    assert again["status"]["ranks"][0]["failuresWithoutProgress"] == 1
    await stage.delete("leases", "job-0")
    remade = await stage.lease_until("job-0", lambda lease: lease.term > 2, "the Lease, made anew")
    await fail(pod_of(stage, 1, remade.term), newest)
    await stage.until("trainingjobs", "job", status_where(phase="Failed"), "the second failure to be the last")

    await stage.delete("leases", "job-0")
    for pod in await stage.list("pods"):
        await stage.delete("pods", pod["metadata"]["name"], gracePeriodSeconds=0)
    await stage.create_job("witness")
    await stage.until("pods", "witness-0-0", lambda _: True, "a pod of a later job")
    assert status_where(phase="Failed")(await stage.get("trainingjobs", "job"))
    made = [found["metadata"]["name"] for kind in ("pods", "leases") for found in await stage.list(kind)]
    assert [name for name in made if not name.startswith("witness")] == []


async def test_a_launcher_that_starts_a_failing_script_again_for_ever_ends_its_job(rank: Rank, stage: Stage) -> None:
    """Line 14: NVIDIA/srt-slurm#451, kubeflow/trainer#1589."""
    newest, why = CheckpointRef(1, 100, "d" * 64), "RuntimeError: device lost"

    async def survive(failures: int) -> None:
        said = {"failures": failures, "restarts": failures, "last_failure": why}
        await rank.primary.renew(Phase.TRAINING, step=107, checkpoint=newest, **said)

    await survive(4)
    entry = (await stage.until("trainingjobs", "job", lambda body: failures_of(body) == 4, "the failures"))["status"]
    assert (entry["ranks"][0]["trainerRestarts"], entry["ranks"][0]["lastFailure"]) == (4, why)
    assert entry["phase"] != "Failed" and entry["failoverCount"] == 0
    await survive(5)
    failed = await stage.until("trainingjobs", "job", status_where(phase="Failed"), "the fifth failure to be the last")
    (condition,) = (c for c in failed["status"]["conditions"] if c["type"] == "Failed")
    assert condition["reason"] == "ProcessExited" and why in condition["message"]


def failures_of(body: dict[str, Any]) -> int:
    ranks = body.get("status", {}).get("ranks", [])
    return int(ranks[0].get("failuresWithoutProgress", 0)) if ranks else 0


async def test_an_old_pod_beside_its_successor_is_never_primary_with_it_nor_heard(rank: Rank, stage: Stage) -> None:
    """Lines 6 and 13: kubernetes/kubernetes#115844, zalando/postgres-operator#2854, cloudnative-pg#7407.

    Whoever watches the pods sees at most one that is labelled primary, whatever order the writes came in.
    """
    roles: dict[str, str | None] = {}
    primaries: list[int] = []
    begun = asyncio.Event()

    def over(pod: Json) -> bool:
        roles[pod["metadata"]["name"]] = role(pod)[0]
        primaries.append(list(roles.values()).count("primary"))
        if len(roles) == 2:
            begun.set()
        return roles.get(rank.redundant.pod) == "primary"

    watching = asyncio.create_task(stage.until("pods", None, over, "the label of the new primary"))
    await asyncio.wait_for(begun.wait(), WAIT_S)
    await rank.primary.hand_over(15)
    await watching
    assert max(primaries) == 1
    assert roles[rank.primary.pod] is None
    assert not terminating(await stage.get("pods", rank.primary.pod)), "it runs on"
    with pytest.raises(Invalid):
        await rank.primary.train(30, 30)
    assert (await rank.successor.train(16, 15)).holder == rank.redundant.pod


async def test_a_pod_that_is_stuck_terminating_does_not_hold_its_rank_up(
    stage: Stage, api: Api, operator: Operator
) -> None:
    """Line 8: kubernetes-sigs/jobset#576, #574.

    The trainer hangs and hands nothing over, its agent renews, and the pod never ends.
    """
    await stage.create_job("job", failover={"leaseDurationSeconds": 60, "handOverSeconds": 1})
    rank = Rank(stage, api, "job")
    await rank.begin()
    await stage.delete("pods", rank.primary.pod)
    async with heard(lambda: rank.primary.train(10, 0)):
        await promoted(rank)
    await rank.successor.train(1, 0)
    told = await failover(rank)
    assert "took longer than handOverSeconds" in told["message"]
    assert told["failedAt"] < told["detectedAt"], "it failed when its deletion was asked for"
    await add_spare(stage, 2, 2, 0, 2)
    await stage.until("trainingjobs", "job", status_where(phase="Running", redundant="1/1"), "a whole job")
    assert terminating(await stage.get("pods", rank.primary.pod))


async def test_how_often_and_why_a_rank_was_replaced_stands_in_its_status_and_events(
    rank: Rank, stage: Stage, control_plane: ControlPlane
) -> None:
    """Line 9: ray-project/ray#61006."""
    await stage.end_pod(rank.primary.pod, 1, "ValueError: batch 7 is empty")
    await promoted(rank)
    await fail(rank.successor, CheckpointRef(1, 0, "d" * 64))
    await stage.lease_until("job-0", lambda lease: lease.term == 3, "the cold start")
    job = await stage.until("trainingjobs", "job", status_where(failoverCount=2, restarts=1), "both in the status")
    told = [(entry["cause"], entry["cold"]) for entry in job["status"]["failovers"]]
    assert told == [("ContainerExited", False), ("ProcessExited", True)]
    messages = [entry["message"] for entry in job["status"]["failovers"]]
    assert "ValueError: batch 7 is empty" in messages[0] and "ValueError: step 7" in messages[1]
    for reason, message in zip(("Promoted", "ColdStart"), messages, strict=True):
        await stage.until("events", None, lambda e: e["reason"] == reason and message in e["message"], reason)  # noqa: B023
    header, line = control_plane.run_kubectl("get", "tj", "job", "-n", stage.namespace).splitlines()
    assert line.split()[header.split().index("FAILOVERS")] == "2"


async def test_what_was_said_before_a_failover_kills_nobody_after_it(rank: Rank, stage: Stage) -> None:
    """Line 10: dlrover#1749.

    What the primary of term 1 said of its own end comes to stand in the Lease of term 2, beside what its successor says
    there: the status that repeats the latter is of a cycle that read both.
    """
    await rank.primary.hand_over(15)
    await promoted(rank)
    await rank.successor.train(16, 15)
    await failover(rank)
    stale = Release(Term(1), ReleaseReason.PROCESS_EXITED, 1, "long ago")
    lease = await rank.successor.renew(
        Phase.TRAINING, step=30, checkpoint=CheckpointRef(2, 20, "d" * 64), release=stale
    )
    assert (lease.term, lease.release) == (2, stale)
    await stage.until("trainingjobs", "job", lambda j: j["status"]["ranks"][0].get("checkpointStep") == 20, "step 20")
    await rank.successor.train(40, 30)
    job = await stage.until(
        "trainingjobs", "job", lambda j: j["status"]["ranks"][0].get("checkpointStep") == 30, "step 30"
    )
    after = await stage.lease("job-0")
    assert (after.holder, after.term, after.release) == (rank.redundant.pod, 2, stale)
    assert job["status"]["failoverCount"] == 1
    assert not terminating(await stage.get("pods", rank.redundant.pod))


async def test_a_rank_that_loses_its_primary_and_its_spare_at_once_gets_one_of_each(rank: Rank, stage: Stage) -> None:
    """Line 11: nvidia-resiliency-ext#348, volcano#4814, #5385."""
    lost = {rank.primary.pod, rank.redundant.pod}
    await asyncio.gather(*(delete_by_force(stage, pod) for pod in lost))
    lease = await stage.lease_until("job-0", lambda lease: lease.holder not in lost, "a new primary")
    await stage.run_pod(lease.holder)
    await Worker(stage, stage.api, lease.holder, "job-0", lease.term).train(1, 0)
    slot = await stage.lease_until("job-0-s0", lambda slot: slot.holder not in {*lost, lease.holder}, "a new spare")
    await stage.run_pod(slot.holder, "node-b")
    await Worker(stage, stage.api, slot.holder, "job-0-s0", slot.term).stand_by(0, lease.term)
    await stage.until("trainingjobs", "job", status_where(phase="Running", redundant="1/1"), "a whole job")
    roles = {pod["metadata"]["name"]: role(pod)[0] for pod in await stage.list("pods")}
    assert roles == {lease.holder: "primary", slot.holder: "redundant"}


async def test_a_failover_fires_although_the_claim_was_deleted_with_the_primary(rank: Rank, stage: Stage) -> None:
    """Line 13: cloudnative-pg#6091."""
    await stage.delete("persistentvolumeclaims", "job-checkpoints")
    await delete_by_force(stage, rank.primary.pod)
    await promoted(rank)
    await rank.successor.train(11, 10)
    assert (await failover(rank))["cause"] == "PodDeleted"
