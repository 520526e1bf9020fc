"""A Lease that somebody deletes, and an etcd that is restored from a backup: terms only grow, nothing is lost."""

from pathlib import Path
from typing import Final

import pytest
from understudy_contract.names import rank_lease_name, slot_lease_name
from understudy_contract.reports import Cause
from understudy_contract.status import JobStatus

from testbed import Testbed
from testbed.kube import LEASES, parse_time, wall
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "termed"
MAY_COST: Final = {Cause.POD_DELETED, Cause.CONTAINER_EXITED, Cause.LEASE_EXPIRED}
"""How a pod is lost that a backup names and that has ended since, unless its kubelet starts it once more."""


def delete_lease(bed: Testbed, name: str) -> None:
    """Delete a Lease by hand."""
    assert bed.kube.delete(f"{LEASES.format(bed.namespace)}/{name}")


def test_leases_deleted_by_hand_cost_neither_a_step_nor_a_pod_of_the_primary(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.01}))
    (before,) = bed.wait_settled(JOB)
    assert before.primary is not None
    delete_lease(bed, rank_lease_name(JOB, 0))
    bed.wait_until(lambda: bed.world.rank(JOB, 0).term > before.term, timeout_s=see.WAIT_S, what="a higher term")
    (after,) = bed.wait_settled(JOB)
    assert after.primary is not None and after.primary.uid == before.primary.uid
    delete_lease(bed, slot_lease_name(JOB, 0, 0))
    (again,) = bed.wait_settled(JOB)
    assert again.primary is not None and again.primary.uid == before.primary.uid
    see.steps_on(bed, JOB)
    status = bed.status(JOB)
    assert (status.failover_count, status.restarts, status.failovers) == (0, 0, ())


def test_a_complete_rank_whose_lease_is_deleted_stays_complete_while_another_trains(bed: Testbed) -> None:
    bed.apply(jobs.job(JOB, ranks=2, arguments={"save_every": 50, "pace": 0.01}))
    before, _ = bed.wait_settled(JOB)
    jobs.finish(bed, JOB, rank=0)
    bed.wait_until(lambda: bed.status(JOB).ranks[0].complete, timeout_s=see.WAIT_S, what="the end of rank 0")
    old = {pod.uid for pod in bed.world.pods.values() if pod.rank == 0}
    delete_lease(bed, rank_lease_name(JOB, 0))
    bed.wait_until(lambda: bed.world.rank(JOB, 0).term > before.term, timeout_s=see.WAIT_S, what="a Lease made anew")
    see.steps_on(bed, JOB, rank=1)
    assert bed.status(JOB).ranks[0].complete
    jobs.finish(bed, JOB)
    see.wait_phase(bed, JOB, "Succeeded")
    assert {pod.uid for pod in bed.world.pods.values() if pod.rank == 0} <= old, "no pod was made for what is over"


def test_a_job_outlives_an_etcd_restored_from_a_backup_of_several_terms_ago(bed: Testbed, tmp_path: Path) -> None:
    bed.apply(jobs.job(JOB, arguments={"save_every": 50, "pace": 0.01}))
    bed.wait_settled(JOB)
    bed.cluster.backup(tmp_path / "etcd")
    for term in (2, 3):
        bed.delete_pod(bed.primary(JOB, 0).name)
        bed.wait_until(lambda term=term: bed.world.rank(JOB, 0).term == term, timeout_s=see.WAIT_S, what=f"term {term}")
        bed.wait_settled(JOB)
    see.steps_on(bed, JOB)
    folder = see.rank_folder(bed, JOB)
    (before,) = bed.wait_settled(JOB)
    committed = see.newest(folder)
    restored_at = wall()
    bed.cluster.restore(tmp_path / "etcd")
    bed.wait_until(
        lambda: bed.world.rank(JOB, 0).term > before.term, timeout_s=see.WAIT_S, what="a term above the volume's"
    )
    (after,) = bed.wait_settled(JOB)
    assert after.term > before.term
    newest = bed.wait_until(
        lambda: found if (found := see.newest(folder)).term >= after.term else None,
        timeout_s=see.WAIT_S,
        what="a checkpoint of the new term",
    )
    assert newest.term > committed.term
    assert newest.step > committed.step
    log = bed.log_text(bed.primary(JOB, 0).name)
    resumed = int(log.partition("resuming from step ")[2].split()[0])
    assert resumed >= committed.step

    def told() -> JobStatus | None:
        status = bed.status(JOB)
        if status.phase != "Running" or status.ranks[0].term < newest.term:
            return None
        return status if status.ranks[0].failures_without_progress == 0 else None

    status = bed.wait_until(told, timeout_s=see.WAIT_S, what="a status that holds nothing against the program")
    since = [entry for entry in status.failovers if parse_time(entry.promoted_at) > restored_at]
    assert {entry.cause for entry in since} <= MAY_COST
    assert status.restarts >= sum(entry.cold for entry in since)
    assert status.failover_count >= len(since)
