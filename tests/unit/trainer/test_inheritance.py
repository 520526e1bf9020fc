"""A job of the same name as an earlier one on its claim: it goes on from what that one left, or starts beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from understudy.checkpoint import RankStore
from understudy.protocol import Committed, HandedOver, HandOver, Notice, Promote, Started
from understudy_contract.names import Env


def environment(uid: str, day: int, resume: str) -> dict[str, str]:
    """What the operator tells a pod of a job that was made on this day."""
    return {Env.JOB_UID: uid, Env.JOB_CREATED: f"2026-01-0{day}T00:00:00Z", Env.RESUME: resume}


def leave_half_a_training(start: Callable[..., Any], day: int = 1) -> int:
    """Run an earlier job up to somewhere between 10 and 1000000 steps; give the step that it saved last."""
    trainer = start("--total", "1000000", pod="p1", environment=environment("first", day, "Never"))
    trainer.send(Promote(1))
    trainer.until(Committed, lambda message: message.checkpoint.step >= 10)
    trainer.send(HandOver())
    reached: int = trainer.until(HandedOver).checkpoint.step
    trainer.end()
    return reached


def test_latest_goes_on_from_the_earlier_jobs_newest_step(start: Callable[..., Any], volume: Path) -> None:
    reached = leave_half_a_training(start)
    total = str(reached + 20)
    trainer = start("--total", total, pod="p2", environment=environment("second", 2, "Latest"))
    trainer.send(Promote(1))
    code, output = trainer.end()
    assert code == 0
    [started] = trainer.said(Started)
    assert (started.checkpoint.term, started.checkpoint.step) == (1, reached)
    assert f"starting from step {reached} as primary of term 1" in output
    assert [notice.reason for notice in trainer.said(Notice)] == ["Inherited"]

    alone = start("--total", total, pod="p3", root=make(volume / "alone"))
    alone.send(Promote(1))
    alone.end()
    found, expected = (
        RankStore(root, uid, 0, keep=3).newest() for root, uid in ((volume, "second"), (volume / "alone", "uid-of-job"))
    )
    assert found is not None and expected is not None
    assert found.tensors["weights"].tobytes() == expected.tensors["weights"].tobytes()


def test_a_change_of_the_number_of_ranks_is_said(start: Callable[..., Any]) -> None:
    leave_half_a_training(start)
    trainer = start(pod="p2", environment=environment("second", 2, "Latest") | {Env.RANKS: "1"})
    trainer.send(Promote(1))
    trainer.until(Started)
    [notice] = trainer.said(Notice)
    assert notice.message.endswith("; that one had 2 ranks, and this one has 1 rank")
    trainer.end()


def test_never_starts_beside_it_and_says_so(start: Callable[..., Any]) -> None:
    reached = leave_half_a_training(start)
    trainer = start(pod="p2", environment=environment("second", 2, "Never"))
    trainer.send(Promote(1))
    [started], [notice] = [trainer.until(Started)], trainer.said(Notice)
    assert started.checkpoint.step == 0
    assert notice.reason == "NotInherited"
    assert f"left step {reached} in" in notice.message
    trainer.end()


def test_a_successor_goes_on_from_its_own_job_and_not_from_the_earlier_one(start: Callable[..., Any]) -> None:
    leave_half_a_training(start)
    trainer = start(pod="p2", environment=environment("second", 2, "Never"))
    trainer.send(Promote(1))
    trainer.end()
    again = start("--total", "60", pod="p4", environment=environment("second", 2, "Latest"))
    again.send(Promote(2))
    assert again.until(Started).checkpoint.step == 40
    assert again.said(Notice) == []
    again.end()


def test_a_job_that_was_made_later_is_not_an_earlier_one(start: Callable[..., Any]) -> None:
    leave_half_a_training(start, day=9)
    trainer = start(pod="p2", environment=environment("second", 2, "Latest"))
    trainer.send(Promote(1))
    assert trainer.until(Started).checkpoint.step == 0
    trainer.end()


def make(path: Path) -> Path:
    path.mkdir()
    return path
