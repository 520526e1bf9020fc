"""When a rank and a job are complete, and what becomes of their pods."""

import pytest
from understudy_contract.names import Role, Term
from understudy_contract.reports import GivenUp, Phase
from understudy_operator.core.actions import (
    END_POD_S,
    AssignSlot,
    CreatePod,
    DeletePod,
    EndPod,
    Relabel,
    WriteStatus,
)
from understudy_operator.core.provisioning import ENDS_WITHIN_S

from tests.unit.operator.builders import PRIMARY, RANK, UNDERSTUDY, Scene, ago, ended, given_up_in, of


def complete(ranks: int = 1) -> Scene:
    """Rank 0 has said that it completed."""
    return Scene(ranks=ranks).released(RANK, "Completed").pod(PRIMARY, container=ended(0), phase="Succeeded")


def test_completed_and_exit_0_is_no_failure() -> None:
    assert complete().decide().promotions == ()


def test_a_completed_primary_that_is_deleted_afterwards_takes_nothing_back() -> None:
    scene = complete().gone(PRIMARY)
    assert scene.decide().promotions == ()
    assert scene.written()["phase"] == "Succeeded"


def test_the_redundant_pods_of_a_complete_rank_end_and_are_not_replaced() -> None:
    scene = complete(ranks=2)
    rest = scene.decide().rest
    assert [d.pod.name for d in of(rest, DeletePod)] == [UNDERSTUDY]
    assert of(scene.gone(UNDERSTUDY).decide().rest, AssignSlot) == []


def test_the_job_goes_on_until_its_last_rank_is_complete() -> None:
    status = complete(ranks=2).written()
    assert (status["phase"], status["redundantDesired"]) == ("Running", 1)


def test_a_complete_job_keeps_its_primaries_and_needs_no_look() -> None:
    scene = complete().settled()
    decision = scene.pod(UNDERSTUDY, deleting_since=ago(0)).decide()
    assert (of(decision.rest, DeletePod), of(decision.rest, CreatePod)) == ([], [])
    assert decision.wake_at == float("inf")


def test_a_sidecar_does_not_outlive_a_complete_job_and_its_pod_is_kept_for_its_log() -> None:
    scene = complete().gone(UNDERSTUDY).settled().pod(PRIMARY, phase="Running", ending_since=ago(5))
    decision = scene.decide()
    assert (of(decision.rest, EndPod), decision.wake_at) == ([], ago(5) + ENDS_WITHIN_S)
    late = scene.pod(PRIMARY, ending_since=ago(ENDS_WITHIN_S)).decide()
    assert [d.pod.name for d in of(late.rest, EndPod)] == [PRIMARY]
    assert of(late.rest, DeletePod) == []
    asked = scene.pod(PRIMARY, active_deadline_s=END_POD_S).decide()
    assert (of(asked.rest, EndPod), of(asked.rest, DeletePod), asked.wake_at) == ([], [], float("inf"))


def test_a_job_whose_training_is_complete_says_which_script_it_waits_for() -> None:
    scene = Scene().beat(RANK, phase=Phase.FINISHING, step=200)
    assert scene.written()["phase"] == "Finishing"
    training = scene.condition("Training")
    assert (training["status"], training["reason"]) == ("False", "Finishing")
    assert training["message"] == (
        f"Training complete, waiting for the script to end: container trainer of pod {PRIMARY} (rank 0); it is ended "
        "600 s after its last step (spec.failover.endDeadlineSeconds)"
    )
    assert scene.condition("Complete")["status"] == "False"


def test_a_job_of_which_other_ranks_train_says_both() -> None:
    scene = Scene(ranks=2).beat(RANK, phase=Phase.FINISHING, step=200)
    assert scene.written()["phase"] == "Running"
    training = scene.condition("Training")
    assert training["status"] == "True" and f"container trainer of pod {PRIMARY}" in training["message"]


def test_a_rank_that_waits_for_its_script_beside_complete_ones_is_what_the_job_waits_for() -> None:
    scene = complete(ranks=2).beat("digits-1", phase=Phase.FINISHING, step=200)
    assert scene.written()["phase"] == "Finishing"


def test_the_labels_follow_a_promotion_after_which_the_job_was_over_at_once() -> None:
    scene = Scene().promoted().released(RANK, "Completed", term=2).settled()
    scene.pod(PRIMARY, role=Role.PRIMARY, term=Term(1), container=ended(0), phase="Succeeded")
    scene.pod(UNDERSTUDY, role=Role.REDUNDANT, term=None, container=ended(0), phase="Succeeded")
    changes = [(r.pod.name, r.role, r.term) for r in of(scene.decide().rest, Relabel)]
    assert changes == [(PRIMARY, None, None), (UNDERSTUDY, Role.PRIMARY, 2)]


def test_no_label_is_taken_from_the_redundant_pods_of_a_job_that_is_over() -> None:
    scene = complete().settled().pod(UNDERSTUDY, deleting_since=ago(1), container=ended(143), phase="Failed")
    assert not of(scene.decide().rest, Relabel)


def test_a_job_seen_to_succeed_stays_so_without_its_leases() -> None:
    scene = complete().settled()
    scene.gone(*list(scene.leases), *list(scene.pods))
    decision = scene.decide()
    assert decision.promotions == ()
    assert not of(decision.rest, CreatePod)
    assert all(write.status.phase == "Succeeded" for write in of(decision.rest, WriteStatus))


@pytest.mark.parametrize("settled", [True, False], ids=["told in the status", "not told yet"])
def test_a_job_that_was_given_up_stays_failed_though_its_script_ends_well_afterwards(settled: bool) -> None:
    given_up = GivenUp("DeadlineExceeded", "The job was active for 60 s", "2026-01-01T11:59:59.000000Z")
    scene = Scene().lease(RANK, given_up=given_up)
    scene = (scene.settled() if settled else scene).released(RANK, "Completed")
    scene.pod(PRIMARY, container=ended(0), phase="Succeeded")
    status = scene.written()
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert (status["phase"], status["ranks"][0]["complete"]) == ("Failed", False)
    assert (conditions["Failed"], conditions["Complete"]) == ("True", "False")
    assert set(scene.events()) == {"rank 0 given up"}


def test_a_job_seen_to_fail_stays_so_without_the_lease_that_said_why() -> None:
    given_up = GivenUp("DeadlineExceeded", "The job was active for 60 s", "2026-01-01T11:59:59.000000Z")
    scene = Scene().lease(RANK, given_up=given_up).settled().lease(RANK, given_up=None).released(RANK, "Completed")
    assert scene.written()["phase"] == "Failed"


def test_a_job_seen_to_succeed_stays_so_whatever_a_lease_says_afterwards() -> None:
    scene = complete().settled().lease(RANK, given_up=GivenUp("Stalled", "late", "2026-01-01T11:59:59.000000Z"))
    assert scene.written()["phase"] == "Succeeded"


def test_a_rank_that_completed_before_it_could_be_given_up_is_not() -> None:
    scene = complete().lease(RANK, active_since="2025-01-01T00:00:00.000000Z").asked(active_deadline_s=60)
    assert given_up_in(scene.decide().rest) == []
    assert scene.written()["phase"] == "Succeeded"


def test_completion_is_told_in_events_rank_by_rank() -> None:
    assert set(complete(ranks=2).events()) == {"rank 0 complete"}
    assert set(complete().events()) == {"rank 0 complete", "complete"}
