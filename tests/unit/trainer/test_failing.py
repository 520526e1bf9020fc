"""How a training can fail, and what the agent is told of it, also where the process lives on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from understudy import Session
from understudy.protocol import Failed, Promote

from tests.unit.trainer.numpy_trainer import Regression

BROKEN = "step_fn(7) raised ValueError: this sample is broken"


@pytest.mark.parametrize("arguments", [[], ["--in-a-thread"]], ids=["in the main thread", "in a thread"])
def test_an_exception_that_nobody_catches_is_told_although_a_thread_keeps_the_process(
    arguments: list[str], start: Callable[..., Any]
) -> None:
    trainer = start("--fail-at", "7", "--thread-stays", *arguments, pod="a")
    trainer.send(Promote(1))
    assert trainer.until(Failed, lambda failed: failed.final).message == BROKEN
    assert trainer.process.poll() is None


def test_an_exception_of_the_loops_body_is_told_of_whatever_thread_trains(start: Callable[..., Any]) -> None:
    trainer = start("--fail-after", "7", "--thread-stays", "--in-a-thread", pod="a")
    trainer.send(Promote(1))
    message = trainer.until(Failed, lambda failed: failed.final).message
    assert message.startswith("ValueError: this check is broken (numpy_trainer.py, line")


def test_sys_exit_in_the_loop_is_told_where_a_thread_keeps_the_process(start: Callable[..., Any]) -> None:
    trainer = start("--exit-at", "7", "--thread-stays", pod="a")
    trainer.send(Promote(1))
    message = trainer.until(Failed).message
    assert message.startswith("the thread that trains ended after step 7, before its training was complete")


def test_sys_exit_that_ends_the_process_leaves_the_word_to_its_exit_code(start: Callable[..., Any]) -> None:
    trainer = start("--exit-at", "7", pod="a")
    trainer.send(Promote(1))
    assert trainer.end()[0] == 1
    assert trainer.said(Failed) == []


def test_an_exception_that_the_script_catches_is_told_as_one_that_may_be_caught(start: Callable[..., Any]) -> None:
    trainer = start("--fail-at", "7", "--catch", pod="a")
    trainer.send(Promote(1))
    code, output = trainer.end()
    assert (code, trainer.said(Failed)) == (0, [Failed(BROKEN, final=False)])
    assert "caught: step_fn" not in output and "caught: this sample is broken" in output


def test_it_is_final_once_the_thread_that_trained_has_ended_and_the_process_has_not(start: Callable[..., Any]) -> None:
    trainer = start("--fail-at", "7", "--catch", "--thread-stays", pod="a")
    trainer.send(Promote(1))
    assert trainer.until(Failed, lambda failed: failed.final).message == BROKEN


def test_a_complete_training_has_not_failed_whatever_keeps_its_process(tmp_path: Path) -> None:
    state = Regression()
    session = Session(state, state.step, directory=tmp_path)
    steps = session.steps(10, save_every=5)
    next(steps)
    assert session._why_ended() is not None
    assert list(steps)[-1] == 10
    assert session._why_ended() is None
