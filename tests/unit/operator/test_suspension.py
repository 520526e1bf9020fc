"""A suspended job: what ends, what stays, and how it goes on."""

from understudy_contract.names import Term
from understudy_operator.core.actions import AssignSlot, CreatePod, DeletePod, OpenRank, Prepare

from tests.unit.operator.builders import PRIMARY, RANK, SLOT, UNDERSTUDY, Scene, ago, checkpoint, ended, of, patches


def suspended(**changes: object) -> Scene:
    """A job that runs and is to be suspended."""
    return Scene(**changes).asked(suspend=True)  # type: ignore[arg-type]


def ending(scene: Scene) -> Scene:
    """Every pod has been deleted and saves."""
    for name in list(scene.pods):
        scene.pod(name, deleting_since=ago(1))
    return scene


def vacated(scene: Scene) -> Scene:
    """Nothing runs, and nobody holds a Lease."""
    scene.gone(*list(scene.pods))
    for name in list(scene.leases):
        scene.lease(name, holder="")
    return scene


def test_every_pod_is_deleted_and_so_hands_over() -> None:
    rest = suspended(ranks=2).decide().rest
    assert {d.pod.name for d in of(rest, DeletePod)} == {PRIMARY, UNDERSTUDY, "digits-1-0", "digits-1-1"}
    assert patches(rest, "holderIdentity") == []


def test_nothing_is_judged_promoted_or_made_meanwhile() -> None:
    scene = ending(suspended()).released(RANK, "HandedOver").lease(SLOT, silent_s=600)
    decision = scene.decide()
    assert decision.promotions == ()
    assert not any(of(decision.rest, kind) for kind in (AssignSlot, CreatePod, Prepare))
    assert patches(decision.rest, "holderIdentity") == []


def test_a_lease_keeps_its_holder_until_nothing_of_the_rank_can_run() -> None:
    scene = ending(suspended()).gone(UNDERSTUDY)
    assert patches(scene.decide().rest, "holderIdentity") == []
    scene.pod(PRIMARY, container=ended(82))
    assert [v.record.name for v in patches(scene.decide().rest, "holderIdentity")] == [RANK, SLOT]


def test_phase_and_conditions_say_first_who_is_ending_then_how_to_go_on() -> None:
    scene = ending(suspended())
    assert scene.written()["phase"] != "Suspended"
    assert PRIMARY in scene.condition("Training")["message"]
    status = vacated(scene).written()
    assert (status["phase"], status["redundant"], status["failoverCount"]) == ("Suspended", "0/0", 0)
    assert "primary" not in status["ranks"][0]
    assert (status["ranks"][0]["step"], status["ranks"][0]["checkpointStep"]) == (120, 100)
    assert scene.condition("Training")["reason"] == "Suspended"
    assert scene.events()["suspended 1"].reason == "Suspended"


def test_a_job_created_suspended_makes_nothing() -> None:
    scene = suspended().gone(PRIMARY, UNDERSTUDY, RANK, SLOT)
    assert scene.written()["phase"] == "Suspended"
    assert not any(of(scene.decide().rest, kind) for kind in (OpenRank, CreatePod, Prepare))


def test_a_resumed_rank_goes_on_from_its_floor_in_a_higher_term_and_nothing_is_counted() -> None:
    scene = vacated(suspended()).settled().asked(suspend=False)
    decision = scene.decide()
    (promote,) = decision.promotions
    assert (promote.target, promote.term, promote.cold) == ("digits-0-2", 2, True)
    assert (promote.floor, promote.promotion, promote.failures) == (checkpoint(100), None, 0)
    assert scene.events()["resumed 1"].reason == "Resumed"


def test_its_redundant_slots_are_filled_again_without_a_word_of_loss() -> None:
    scene = vacated(suspended()).asked(suspend=False)
    scene.lease(RANK, holder="digits-0-2", term=Term(2), incarnation=3).pod("digits-0-2")
    (assign,) = of(scene.decide().rest, AssignSlot)
    assert assign.loss == ""


def test_a_suspension_taken_back_before_the_pods_ended_is_an_ordinary_hand_over() -> None:
    scene = ending(suspended()).gone(UNDERSTUDY).asked(suspend=False)
    assert scene.decide().promotions == ()
    (promote,) = scene.released(RANK, "HandedOver").decide().promotions
    assert promote.promotion is not None and promote.promotion.cause == "PodDeleted"


def test_a_rank_that_completed_meanwhile_stays_complete() -> None:
    scene = suspended(ranks=2).released(RANK, "Completed").pod(PRIMARY, container=ended(0), phase="Succeeded")
    scene.gone(UNDERSTUDY, "digits-1-0", "digits-1-1")
    assert [v.rank for v in patches(scene.decide().rest, "holderIdentity")] == [1, 1]


def test_a_pod_on_a_lost_node_keeps_the_job_from_being_suspended_not_from_being_resumed() -> None:
    scene = suspended().gone(UNDERSTUDY).pod(PRIMARY, deleting_since=ago(600)).given(nodes={"node-a": False})
    assert scene.written()["phase"] != "Suspended"
    (promote,) = scene.asked(suspend=False).decide().promotions
    assert promote.cold
