"""A rank whose Lease is gone, or older than the volume."""

from dataclasses import replace

import pytest
from understudy_contract.events import EventReason
from understudy_contract.names import Role, Term
from understudy_contract.reports import CheckpointRef, Heartbeat, Phase
from understudy_contract.terms import TERM_CEILING, TERM_LEAP_MAX
from understudy_operator.core.actions import AssignSlot, CreatePod, Emit, OpenRank

from tests.unit.operator.builders import (
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    a_promotion,
    checkpoint,
    ended,
    of,
    patches,
)


def lost(scene: Scene) -> Scene:
    """Somebody deletes the rank's Lease, of which the status has told."""
    return scene.settled().gone(RANK)


def opened(scene: Scene) -> OpenRank:
    (order,) = of(scene.decide().rest, OpenRank)
    return order


def test_the_primary_that_outlived_it_goes_on_in_a_higher_term() -> None:
    order = opened(lost(Scene()))
    assert (order.holder, order.term, order.complete) == (PRIMARY, 2, False)


def test_a_primary_whose_label_has_not_followed_its_promotion_yet_goes_on() -> None:
    scene = Scene().promoted().beat(RANK, pod=UNDERSTUDY, term=2).pod(PRIMARY, role=Role.PRIMARY, term=Term(1))
    scene.pod(UNDERSTUDY, role=Role.REDUNDANT, term=None)
    order = opened(lost(scene))
    assert (order.holder, order.term) == (UNDERSTUDY, 3)
    assert opened(scene.pod(UNDERSTUDY, container=ended())).holder == PRIMARY, "it lives, and nobody else does"


def test_the_floor_is_what_a_redundant_pod_has_loaded_or_the_status_has_told_at_least() -> None:
    told = lost(Scene(redundancy=0))
    assert opened(told).floor == CheckpointRef(1, 100, "")
    unreported = Scene().gone(RANK)
    assert opened(unreported).floor == checkpoint(100)
    assert opened(unreported.beat(SLOT, loaded=checkpoint(50)).status(told.wire())).floor == CheckpointRef(1, 100, "")
    assert opened(Scene(redundancy=0).gone(RANK)).floor is None


def test_counts_outlive_the_failovers_that_are_listed() -> None:
    history = a_promotion(failovers=30, restarts=1, failures=2, checkpoint=checkpoint(100))
    scene = lost(Scene().lease(RANK, term=Term(31), promotion=history))
    order = opened(scene.status({**scene.wire(), "failovers": []}))
    assert order.promotion is not None
    assert (order.promotion.failovers, order.promotion.restarts, order.promotion.failures) == (30, 1, 2)
    again = Scene().lease(RANK, term=order.term, promotion=order.promotion)
    assert again.written()["failovers"] == []
    assert again.written()["failoverCount"] == 30
    assert [event for event in again.events().values() if event.reason == "Promoted"] == []


def test_failovers_and_failures_are_not_counted_anew() -> None:
    history = a_promotion(failovers=3, restarts=1, failures=2, checkpoint=checkpoint(100))
    scene = lost(Scene().lease(RANK, term=Term(2), promotion=history))
    promotion = opened(scene).promotion
    assert promotion is not None
    assert (promotion.failovers, promotion.restarts, promotion.failures) == (3, 1, 2)
    assert (promotion.term, promotion.cause) == (2, "PodDeleted")


@pytest.mark.parametrize(("step", "failures"), [(100, 2), (150, 0)])
def test_failures_are_forgotten_for_a_checkpoint_that_is_newer_than_the_last_one_that_was_told(
    step: int, failures: int
) -> None:
    history = a_promotion(failures=2, checkpoint=checkpoint(100))
    order = opened(lost(Scene().lease(RANK, term=Term(2), promotion=history)))
    beat = Heartbeat(pod=PRIMARY, term=order.term, phase=Phase.TRAINING, step=160, checkpoint=checkpoint(step))
    again = Scene().lease(RANK, term=order.term, promotion=order.promotion, heartbeat=beat)
    assert again.written()["ranks"][0]["failuresWithoutProgress"] == failures


def test_a_complete_rank_stays_complete_and_nothing_is_made_for_it() -> None:
    scene = lost(
        Scene(ranks=2).released(RANK, "Completed").pod(PRIMARY, container=ended(0), phase="Succeeded").gone(UNDERSTUDY)
    )
    order = opened(scene)
    assert (order.holder, order.complete) == (PRIMARY, True)
    again = scene.gone(PRIMARY)
    again._add_lease(RANK, holder=PRIMARY, term=order.term)
    again.released(RANK, "Completed", term=order.term)
    decision = again.given(pending_pods=frozenset({PRIMARY})).decide()
    assert decision.promotions == ()
    assert [a for kind in (CreatePod, AssignSlot) for a in of(decision.rest, kind) if a.rank == 0] == []
    assert (again.written()["ranks"][0]["step"], again.written()["ranks"][0]["complete"]) == (120, True)


def test_a_primary_whose_term_the_volume_has_seen_gets_a_higher_one_and_nothing_is_counted() -> None:
    scene = Scene().beat(RANK, phase=Phase.STARTING, term_floor=5)
    decision = scene.decide()
    assert decision.promotions == ()
    (action,) = patches(decision.rest, "leaseTransitions")
    assert (action.spec["leaseTransitions"], action.record.holder) == (6, PRIMARY)
    assert scene.written()["failoverCount"] == 0


@pytest.mark.parametrize("floor", [1 + TERM_LEAP_MAX + 1, TERM_CEILING, 2**31 - 1])
def test_a_term_that_the_rank_cannot_have_had_raises_nothing_and_is_told(floor: int) -> None:
    scene = Scene().beat(RANK, phase=Phase.STARTING, term_floor=floor)
    decision = scene.decide()
    assert patches(decision.rest, "leaseTransitions") == []
    (told,) = [event for event in of(decision.rest, Emit) if event.reason == EventReason.FOREIGN_ON_VOLUME]
    assert f"reports term {floor}, which rank 0 cannot have had. Remove" in told.message
    assert f"rank-0/term-{floor}-... from claim" in told.message


def test_what_is_to_be_removed_lies_in_the_folder_that_the_job_really_uses() -> None:
    scene = Scene().asked(sub_path="team-a").beat(RANK, phase=Phase.STARTING, term_floor=TERM_CEILING)
    scene.job = replace(scene.job, adopted_uid="old")
    (told,) = [event for event in of(scene.decide().rest, Emit) if event.reason == EventReason.FOREIGN_ON_VOLUME]
    assert f"Remove team-a/old/rank-0/term-{TERM_CEILING}-... from claim" in told.message


def test_a_term_is_raised_as_far_as_an_etcd_may_have_forgotten() -> None:
    scene = Scene().beat(RANK, phase=Phase.STARTING, term_floor=1 + TERM_LEAP_MAX)
    (action,) = patches(scene.decide().rest, "leaseTransitions")
    assert action.spec["leaseTransitions"] == 2 + TERM_LEAP_MAX


def test_no_volume_raises_a_term_above_the_ceiling() -> None:
    below = Term(TERM_CEILING - 1)
    scene = Scene().lease(RANK, term=below).beat(RANK, term=below, phase=Phase.STARTING, term_floor=TERM_CEILING)
    assert patches(scene.decide().rest, "leaseTransitions") == []
    scene.beat(RANK, term_floor=below)
    assert [action.spec["leaseTransitions"] for action in patches(scene.decide().rest, "leaseTransitions")] == [
        TERM_CEILING
    ]


def test_a_term_that_was_released_is_not_raised() -> None:
    scene = Scene().beat(RANK, phase=Phase.FINISHING, term_floor=5).released(RANK, "Completed")
    assert patches(scene.decide().rest, "leaseTransitions") == []


def test_what_an_earlier_term_reported_raises_nothing() -> None:
    scene = Scene().beat(RANK, phase=Phase.STARTING, term_floor=5).lease(RANK, term=Term(6))
    assert patches(scene.decide().rest, "leaseTransitions") == []
