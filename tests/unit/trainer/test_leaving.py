"""How a script leaves its loop: by its own will, which ends the training, or by an exception, which never does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from understudy.checkpoint import RankStore
from understudy.protocol import Committed, Completed, HandedOver, HandOver, Promote, Returned
from understudy_contract.exits import ExitCode

sys.path.insert(0, str(Path(__file__).parent))
from loops import FAILING, STOP, WILLING

LOOPS = "loops.py"


def store_of(volume: Path) -> RankStore:
    return RankStore(volume, "uid-of-job", 0, keep=3)


@pytest.mark.parametrize("name", WILLING)
def test_a_loop_left_by_the_scripts_own_will_saves_and_completes(
    start: Callable[..., Any], volume: Path, name: str
) -> None:
    trainer = start(name, pod="a", script=LOOPS)
    trainer.send(Promote(1))
    code, output = trainer.end()
    assert (code, trainer.said(Completed)) == (0, [Completed(STOP)]), output
    assert "behind the loop" in output
    assert "stands open" not in output
    assert f"finished at step {STOP} of term 1" in output
    newest = store_of(volume).newest()
    assert newest is not None and newest.ref.step == STOP and newest.extra["stopped"]


@pytest.mark.parametrize("name", FAILING)
def test_a_loop_that_an_exception_leaves_is_not_complete(start: Callable[..., Any], volume: Path, name: str) -> None:
    trainer = start(name, pod="a", script=LOOPS)
    trainer.send(Promote(1))
    _, output = trainer.end()
    assert not trainer.said(Completed), output
    newest = store_of(volume).newest()
    assert newest is not None and not newest.extra["stopped"]


def test_a_loop_that_stands_open_after_sys_exit_is_said(start: Callable[..., Any]) -> None:
    trainer = start("exit_3_after_a_kept_iterator", pod="a", script=LOOPS)
    trainer.send(Promote(1))
    assert f"its loop stands open after step {STOP}" in trainer.end()[1]


def test_a_kept_iterator_is_left_at_the_end_of_a_script_on_a_laptop_too(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name(LOOPS)), "break_from_a_kept_iterator"]
    for said in (f"the loop was left after step {STOP} of 1000000", "no step is left to take"):
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert said in ran.stdout


def test_what_a_decision_to_stop_means_is_said(start: Callable[..., Any]) -> None:
    trainer = start("break_out", pod="a", script=LOOPS)
    trainer.send(Promote(1))
    assert f"the loop was left after step {STOP} of 1000000: the training ends here" in trainer.end()[1]


def test_a_pod_that_comes_after_a_decision_to_stop_takes_no_step(start: Callable[..., Any], volume: Path) -> None:
    first = start("break_out", pod="a", script=LOOPS)
    first.send(Promote(1))
    first.end()
    second = start("break_out", pod="b", script=LOOPS)
    second.send(Promote(2, store_of(volume).peek()))
    assert second.end()[0] == 0
    assert second.said(Completed) == [Completed(STOP)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("handler_that_exits", 143),
        ("handler_that_returns", ExitCode.HANDED_OVER),
        ("handler_that_polls", ExitCode.HANDED_OVER),
    ],
)
def test_after_the_hand_over_the_scripts_own_sigterm_handler_runs_once_and_then_its_finally_clauses(
    start: Callable[..., Any], name: str, code: int
) -> None:
    trainer = start(name, pod="a", script=LOOPS)
    trainer.send(Promote(1))
    trainer.until(Committed, lambda message: message.checkpoint.step >= 10)
    trainer.send(HandOver())
    trainer.until(HandedOver)
    ended, output = trainer.end()
    assert ended == code, output
    lines = output.splitlines()
    handed = next(line for line in lines if "handed over at step" in line)
    assert lines[lines.index(handed) + 1 :] == ["my handler", "finally"]


def test_a_handler_that_the_agents_own_signal_has_run_is_not_run_again(start: Callable[..., Any]) -> None:
    trainer = start("handler_that_returns", pod="a", script=LOOPS)
    trainer.send(Promote(1))
    trainer.until(Committed, lambda message: message.checkpoint.step >= 10)
    trainer.send(HandOver(signalled=True))
    code, output = trainer.end()
    assert code == ExitCode.HANDED_OVER
    assert "finally" in output and "my handler" not in output


def test_after_the_training_the_scripts_own_sigterm_handler_runs_when_its_pod_ends(start: Callable[..., Any]) -> None:
    trainer = start("handler_after_the_training", pod="a", script=LOOPS)
    trainer.send(Promote(1))
    trainer.until(Completed)
    trainer.send(HandOver())
    code, output = trainer.end()
    assert code == 0
    assert output.splitlines()[-2:] == ["my handler", "behind the loop"]


@pytest.mark.parametrize(
    ("name", "thread"), [("thread_that_lives_on", "thread upload"), ("pool_that_lives_on", "thread pool_0")]
)
def test_a_process_that_lives_on_after_its_code_says_what_it_waits_for(
    start: Callable[..., Any], name: str, thread: str
) -> None:
    trainer = start(name, pod="a", script=LOOPS)
    trainer.send(Promote(1))
    assert trainer.until(Returned).waits_for == thread
    assert trainer.said(Completed) == [Completed(20)]
    trainer.process.kill()


def test_a_process_that_ends_says_that_its_code_has_ended(start: Callable[..., Any]) -> None:
    trainer = start("break_out", pod="a", script=LOOPS)
    trainer.send(Promote(1))
    assert trainer.until(Returned).waits_for == ""
    assert trainer.end()[0] == 0
