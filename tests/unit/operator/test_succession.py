"""Who takes a lost rank over, when nobody can, and what is put on record."""

import pytest
from msgspec.structs import replace
from understudy_contract.names import Term
from understudy_contract.reports import Phase
from understudy_operator.core.actions import Promote
from understudy_operator.core.model import Running

from tests.unit.operator.builders import (
    LEASE_S,
    NOW,
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    a_promotion,
    ago,
    checkpoint,
    ended,
)

SECOND = "digits-0-s1"


def promotion_of(scene: Scene) -> Promote:
    (promote,) = scene.decide().promotions
    return promote


def two() -> Scene:
    """Two redundant pods, digits-0-1 and digits-0-2; the primary is gone."""
    return Scene(redundancy=2).gone(PRIMARY)


@pytest.mark.parametrize(
    ("sentence", "scene", "target"),
    [
        ("of equals the oldest", two(), "digits-0-1"),
        ("the newest checkpoint before the oldest pod", two().beat(SECOND, loaded=checkpoint(110)), "digits-0-2"),
        ("a higher term before a higher step", two().beat(SECOND, loaded=checkpoint(1, term=2)), "digits-0-2"),
        ("one that is ready before one that is not", two().beat(SLOT, phase=Phase.STARTING), "digits-0-2"),
        ("one heard of before one that is not", two().lease(SLOT, silent_s=LEASE_S / 2), "digits-0-2"),
        ("never one that is being deleted", two().pod("digits-0-1", deleting_since=ago(0)), "digits-0-2"),
        ("never one that ended", two().pod("digits-0-1", container=ended(0)), "digits-0-2"),
        ("never one that gave its slot up", two().released(SLOT, "ProcessExited", 1), "digits-0-2"),
        ("never one that has yet to report", two().beat(SLOT, none=True), "digits-0-2"),
        ("never one whose report is of an earlier assignment", two().beat(SLOT, term=0), "digits-0-2"),
        (
            "never the pod that has just lost the rank, although it holds its slot still",
            Scene(redundancy=2).gone(PRIMARY).lease(RANK, promotion=a_promotion(source="digits-0-1", target=PRIMARY)),
            "digits-0-2",
        ),
        ("one not ready before a cold start", Scene().gone(PRIMARY).beat(SLOT, phase=Phase.STARTING), "digits-0-1"),
        (
            "another node than a silent primary's, even with an older checkpoint",
            Scene(redundancy=2)
            .lease(RANK, silent_s=LEASE_S)
            .pod("digits-0-1", node="node-a")
            .beat(SECOND, loaded=checkpoint(50)),
            "digits-0-2",
        ),
        (
            "the silent primary's node, if nothing ready is elsewhere",
            Scene(redundancy=2)
            .lease(RANK, silent_s=LEASE_S)
            .pod("digits-0-1", node="node-a")
            .beat(SECOND, phase=Phase.STARTING),
            "digits-0-1",
        ),
    ],
)
def test_the_successor_is(sentence: str, scene: Scene, target: str) -> None:
    promote = promotion_of(scene)
    assert (promote.target, promote.cold) == (target, False), sentence


def test_a_candidate_not_heard_of_lately_is_waited_for_to_the_end_of_its_lease() -> None:
    scene = Scene().gone(PRIMARY).lease(SLOT, silent_s=LEASE_S * 0.6)
    decision = scene.decide()
    assert decision.promotions == ()
    assert decision.wake_at == pytest.approx(NOW.at + LEASE_S * 0.4)
    assert promotion_of(scene.lease(SLOT, silent_s=LEASE_S)).cold


def test_a_doubtful_candidate_that_is_ready_is_worth_more_than_a_fresh_one_that_is_not() -> None:
    scene = two().lease(SLOT, silent_s=LEASE_S * 0.6).beat(SECOND, phase=Phase.STARTING)
    assert scene.decide().promotions == ()


class TestColdStart:
    """No redundant pod is there."""

    def cold(self, failures: int = 0) -> Scene:
        # One second has passed since the last news of the Lease.
        return Scene(redundancy=0).lease(
            RANK, failures=failures, promotion=a_promotion(term=1, checkpoint=checkpoint(100))
        )

    def test_takes_the_next_incarnation(self) -> None:
        promote = promotion_of(self.cold().gone(PRIMARY))
        assert (promote.target, promote.cold, promote.term) == ("digits-0-1", True, 2)
        assert promote.lease.incarnation == 1

    def test_waits_for_nothing_after_a_deletion(self) -> None:
        assert promotion_of(self.cold().gone(PRIMARY).lease(RANK, silent_s=0)).failures == 0

    @pytest.mark.parametrize(("failures", "pause_s"), [(0, 1), (1, 2), (3, 8), (6, 60), (50, 60)])
    def test_waits_longer_after_each_failure_of_the_application(self, failures: int, pause_s: int) -> None:
        scene = self.cold(failures).released(RANK, "ProcessExited", 1).lease(RANK, silent_s=0.5)
        decision = scene.given(status_written_at=NOW.at).settled().decide()
        assert decision.promotions == ()
        assert decision.wake_at == pytest.approx(min(NOW.at - 0.5 + pause_s, NOW.at + LEASE_S))
        assert promotion_of(scene.lease(RANK, silent_s=pause_s)).failures == failures + 1

    def test_forgets_failures_once_a_newer_checkpoint_is_committed(self) -> None:
        scene = self.cold(6).beat(RANK, checkpoint=checkpoint(110)).released(RANK, "ProcessExited", 1)
        assert promotion_of(scene).failures == 1

    def test_forgets_them_for_a_pod_that_was_deleted_too(self) -> None:
        assert promotion_of(self.cold(6).beat(RANK, checkpoint=checkpoint(110)).gone(PRIMARY)).failures == 0

    def test_is_paced_when_pods_vanish_before_they_report(self) -> None:
        scene = self.cold(3).beat(RANK, none=True).lease(RANK, operator_floor=checkpoint(100)).gone(PRIMARY)
        assert scene.lease(RANK, silent_s=7.9).decide().promotions == ()
        assert promotion_of(scene.lease(RANK, silent_s=8)).failures == 4

    def test_of_a_pod_that_ended_before_its_first_report_is_on_record_with_its_cause(self) -> None:
        scene = (
            Scene(redundancy=0).beat(RANK, none=True).pod(PRIMARY, container=None, phase="Failed", reason="OutOfcpu")
        )
        record = promotion_of(scene).promotion
        assert record is not None
        assert (record.cause, record.source, record.cold) == ("NodeRefused", PRIMARY, True)
        assert (record.failovers, record.restarts) == (1, 1)

    def test_of_a_pod_that_nobody_has_ever_seen_is_no_failover(self) -> None:
        """A new leader does not know whether it was made."""
        scene = Scene(redundancy=0).beat(RANK, none=True).gone(PRIMARY)
        assert promotion_of(scene).promotion is None

    def test_tells_of_the_steps_that_were_lost_with_the_last_one_that_took_any(self) -> None:
        history = a_promotion(term=1, cold=True, known_step=120)
        scene = Scene(redundancy=0).lease(RANK, promotion=history, operator_floor=checkpoint(100))
        scene.beat(RANK, none=True).pod(PRIMARY, container=None, phase="Failed", reason="OutOfcpu")
        record = promotion_of(scene.lease(RANK, silent_s=61)).promotion
        assert record is not None and (record.known_step, record.failovers) == (120, 2)

    def test_counts_on_from_what_a_lease_that_was_deleted_had_counted(self) -> None:
        scene = Scene(redundancy=0).lease(RANK, promotion=a_promotion(term=0, failovers=30)).gone(PRIMARY)
        record = promotion_of(scene).promotion
        assert record is not None and (record.failovers, record.unreported) == (31, ())

    def test_is_counted_as_restart_and_failover(self) -> None:
        record = promotion_of(self.cold().gone(PRIMARY)).promotion
        assert record is not None
        assert (record.cold, record.restarts, record.failovers) == (True, 1, 2)


def test_a_promotion_that_the_status_does_not_tell_of_yet_is_kept_beside_the_next_one() -> None:
    first = a_promotion(term=2)
    scene = Scene().promoted().beat(RANK, none=True).pod(UNDERSTUDY, deleting_since=ago(1))
    (second,) = [p.promotion for p in scene.lease(RANK, promotion=first).decide().promotions]
    assert second is not None and second.unreported == (first,)
    third = promotion_of(scene.lease(RANK, term=Term(3), promotion=replace(second, term=3))).promotion
    assert third is not None and [p.term for p in third.unreported] == [2, 3]
    scene.status(scene.written())
    told = promotion_of(scene).promotion
    assert told is not None and told.unreported == ()


def test_a_pod_that_was_primary_never_serves_again_though_its_slot_names_it_still() -> None:
    scene = Scene().promoted().beat(RANK, pod=UNDERSTUDY, term=2).pod(UNDERSTUDY, container=ended(137))
    third = promotion_of(scene).promotion
    assert third is not None and third.former == (UNDERSTUDY,)
    scene.lease(RANK, holder="digits-0-2", term=Term(3), promotion=third).beat(RANK, none=True)
    scene.pod("digits-0-2", container=None, phase="Failed", reason="OutOfcpu")
    fourth = promotion_of(scene.lease(RANK, silent_s=61)).promotion
    assert fourth is not None and (fourth.source, fourth.former) == ("digits-0-2", (UNDERSTUDY,))
    scene.lease(RANK, holder="digits-0-3", term=Term(4), promotion=fourth)
    assert not scene.observe().ranks[0].serves(UNDERSTUDY)


def test_a_warm_successor_waits_for_no_back_off() -> None:
    scene = Scene().lease(RANK, failures=6, silent_s=0).released(RANK, "ProcessExited", 1)
    assert promotion_of(scene).target == UNDERSTUDY


def test_the_promotion_hands_the_durable_floor_on() -> None:
    scene = Scene().gone(PRIMARY).lease(RANK, operator_floor=checkpoint(70))
    assert promotion_of(scene).floor == checkpoint(100)
    assert promotion_of(scene.beat(RANK, none=True)).floor == checkpoint(70)


def test_a_warm_successor_is_on_record_even_if_its_predecessor_never_reported() -> None:
    scene = Scene().beat(RANK, none=True).gone(PRIMARY)
    record = promotion_of(scene).promotion
    assert record is not None
    assert (record.source, record.target, record.cold) == (PRIMARY, UNDERSTUDY, False)
    assert record.message == "pod digits-0-0 is gone, or was never made", "a new leader cannot tell"


def test_every_rank_is_judged_for_itself() -> None:
    promotions = Scene(ranks=3).gone("digits-0-0", "digits-2-0").decide().promotions
    assert [(p.rank, p.target) for p in promotions] == [(0, "digits-0-1"), (2, "digits-2-1")]


def test_a_promoted_pod_lost_before_it_reported_is_a_failover_of_its_own() -> None:
    scene = Scene(redundancy=2).promoted().gone(UNDERSTUDY)
    record = promotion_of(scene.pod("digits-0-2", container=Running(ago(5)))).promotion
    assert record is not None
    assert (record.term, record.source, record.target, record.failovers) == (3, UNDERSTUDY, "digits-0-2", 2)


class TestBothCutOff:
    """Primary and redundant pod were silent together: who is heard again first proves nothing about the other."""

    def thawing(self, steady_s: float) -> Scene:
        return Scene().lease(RANK, silent_s=LEASE_S + 5).lease(SLOT, silent_s=0, steady_s=steady_s)

    def test_the_primary_is_given_time_to_come_back_too(self) -> None:
        decision = self.thawing(0.1).decide()
        assert decision.promotions == ()
        assert decision.wake_at <= ago(0.1) + LEASE_S / 2

    def test_a_primary_that_does_not_come_back_is_replaced(self) -> None:
        (promote,) = self.thawing(LEASE_S / 2).decide().promotions
        assert promote.target == UNDERSTUDY
