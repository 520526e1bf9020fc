"""Ranks are judged once, before anything is decided; a promotion waits for nothing else; a group shares its floor."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from understudy_contract.reports import Phase
from understudy_operator.core import decide as decide_module
from understudy_operator.core import detection, states, status
from understudy_operator.core.actions import Emit, WriteStatus
from understudy_operator.core.decide import decide
from understudy_operator.core.model import RankView
from understudy_operator.core.states import judge

from tests.unit.operator.builders import NOW, PRIMARY, Scene, a_promotion, checkpoint, of

OTHER = "digits-1-0"


def test_beside_a_promotion_nothing_else_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(status, "report", lambda *_: asked.append("the report"))
    monkeypatch.setattr(decide_module, "provide_rank", lambda *_: asked.append("a rank's pods"))
    decision = decide(Scene(ranks=2).gone(PRIMARY).observe(), NOW)
    assert (len(decision.promotions), decision.rest, decision.faults, asked) == (1, (), (), [])
    assert decision.wake_at == NOW.at, "the rest is decided as soon as the promotion is carried out"


def test_what_a_promotion_left_out_is_decided_where_there_is_none_or_it_has_failed() -> None:
    scene = Scene(ranks=2).settled().gone(PRIMARY)
    whole = decide(scene.given(status_written_at=-1e9).observe(), NOW, whole=True)
    assert len(whole.promotions) == 1
    assert of(whole.rest, WriteStatus)
    quiet = Scene(ranks=2).given(status_written_at=-1e9)
    assert of(decide(quiet.observe(), NOW).rest, WriteStatus | Emit)  # type: ignore[arg-type]


def test_each_rank_is_judged_once_in_a_whole_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def judge_primary(lease: Any, *args: Any, **kwargs: Any) -> Any:
        judged.append(lease.record.name)
        return detection.judge_primary(lease, *args, **kwargs)

    monkeypatch.setattr(states, "judge_primary", judge_primary)
    scene = Scene(ranks=2).beat("digits-1", phase=Phase.STARTING)
    decide(scene.given(status_written_at=-1e9).observe(), NOW, whole=True)
    assert judged == ["digits-0", "digits-1"]


class TestGroups:
    """Ranks that share their checkpoints."""

    @pytest.fixture(autouse=True)
    def one_group(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def together(views: Sequence[RankView]) -> Iterator[tuple[RankView, ...]]:
            yield tuple(views)

        monkeypatch.setattr(states, "_groups", together)

    def scene(self) -> Scene:
        """Rank 0 has committed step 100; rank 1 never commits, and has failed twice since step 90."""
        promotion = a_promotion(term=1, source="digits-1-9", target=OTHER, failures=2, checkpoint=checkpoint(90))
        return Scene(ranks=2).beat("digits-1", checkpoint=None).lease("digits-1", promotion=promotion)

    def test_a_successor_starts_from_what_another_rank_has_committed(self) -> None:
        (promote,) = decide(self.scene().gone(OTHER).observe(), NOW).promotions
        assert promote.rank == 1
        assert promote.floor == checkpoint(100)
        assert promote.promotion is not None and promote.promotion.checkpoint == checkpoint(100)

    def test_a_checkpoint_of_one_rank_is_progress_of_all(self) -> None:
        assert judge(self.scene().observe()).ranks[1].failures == 0
        stuck = self.scene().beat("digits-0", checkpoint=checkpoint(90))
        assert judge(stuck.observe()).ranks[1].failures == 2

    def test_a_group_is_complete_when_each_of_its_ranks_is(self) -> None:
        scene = self.scene().released("digits-0", "Completed")
        first, second = judge(scene.observe()).ranks
        assert (first.complete, second.complete, first.group.complete) == (True, False, False)
        assert judge(scene.released("digits-1", "Completed").observe()).ranks[0].group.complete


def test_independent_ranks_share_nothing() -> None:
    first, second = judge(Scene(ranks=2).beat("digits-1", checkpoint=checkpoint(50)).observe()).ranks
    assert (first.group.floor, second.group.floor) == (checkpoint(100), checkpoint(50))
