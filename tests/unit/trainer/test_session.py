"""A trainer beside an agent: what it says, what it saves, how it ends."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy.checkpoint import RankStore
from understudy.protocol import (
    Committed,
    Completed,
    Failed,
    FirstStep,
    Follow,
    HandedOver,
    HandOver,
    Notice,
    Promote,
    Ready,
    Standby,
    Started,
    Supersede,
    Superseded,
    TermTaken,
)
from understudy_contract.exits import ExitCode

FOREVER = "1000000"


def store_of(volume: Path) -> RankStore:
    return RankStore(volume, "uid-of-job", 0, keep=3)


def final_weights(start: Callable[..., Any], root: Path, total: int = 40) -> bytes:
    """Weights of an undisturbed run of so many steps."""
    root.mkdir()
    trainer = start("--total", str(total), pod="undisturbed", root=root)
    trainer.send(Promote(1))
    assert trainer.end()[0] == 0
    newest = store_of(root).newest()
    assert newest is not None and newest.ref.step == total
    return newest.tensors["weights"].tobytes()


def test_a_primary_starts_commits_and_completes(start: Callable[..., Any], volume: Path) -> None:
    trainer = start(pod="a")
    trainer.send(Promote(1))
    code, output = trainer.end()
    assert code == 0
    [started], [first] = trainer.said(Started), trainer.said(FirstStep)
    assert (started.term, started.checkpoint.step, started.volume) == (1, 0, store_of(volume).volume_id())
    assert (first.term, first.step) == (1, 1)
    commits = [message.checkpoint.step for message in trainer.said(Committed)]
    assert commits[0] == 0 and commits[-1] == 40 and commits == sorted(set(commits))
    assert trainer.said(Completed) == [Completed(40)]
    assert trainer.log.index(first) > trainer.log.index(started)
    assert trainer.step == 40
    assert f"{first.at} step 1/40 loss " in output


def test_its_lines_have_the_documented_format(start: Callable[..., Any]) -> None:
    trainer = start(pod="a")
    trainer.send(Promote(1))
    lines = trainer.end()[1].splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z "
    assert re.fullmatch(stamp + "starting from step 0 as primary of term 1", lines[0])
    step = stamp + r"step (\d+)/40 loss [-+.e\d]+ \d+\.\d ms/step term 1"
    assert [re.fullmatch(step, line)[1] for line in lines[1:-1]] == ["1", "10", "20", "30", "40"]
    assert re.fullmatch(stamp + "finished at step 40 of term 1", lines[-1])


def test_a_promoted_trainer_ends_with_the_weights_of_an_undisturbed_run(
    start: Callable[..., Any], volume: Path, tmp_path: Path
) -> None:
    expected = final_weights(start, tmp_path / "undisturbed")
    primary = start("--kill-at", "27", pod="a")
    primary.send(Promote(1))
    started = primary.until(Started)
    redundant = start(pod="b")
    redundant.send(Standby(started.volume))
    ready = redundant.until(Ready)
    assert primary.end()[0] == -9
    assert primary.step == 27
    newest = store_of(volume).peek()
    redundant.send(Follow(newest, started.volume))
    if ready.loaded != newest:
        redundant.until(Ready, lambda ready: ready.loaded == newest)
    redundant.send(Promote(2, newest, started.volume))
    assert redundant.until(Started).checkpoint == newest
    assert redundant.until(FirstStep).step == newest.step + 1
    code, output = redundant.end()
    assert code == 0
    assert f"resuming from step {newest.step} of term 1 as primary of term 2" in output
    assert store_of(volume).newest().tensors["weights"].tobytes() == expected


def test_a_hand_over_loses_no_step(start: Callable[..., Any], volume: Path, tmp_path: Path) -> None:
    primary = start("--total", FOREVER, pod="a")
    primary.send(Promote(1))
    primary.until(Committed, lambda message: message.checkpoint.step >= 10)
    primary.send(HandOver())
    handed = primary.until(HandedOver).checkpoint
    assert primary.end()[0] == ExitCode.HANDED_OVER
    assert primary.step == handed.step
    successor = start("--total", str(handed.step + 1), pod="b")
    successor.send(Promote(2, handed, store_of(volume).volume_id()))
    assert successor.until(FirstStep).step == handed.step + 1


def test_a_hand_over_before_the_first_step_gives_the_checkpoint_it_started_from(
    start: Callable[..., Any], volume: Path
) -> None:
    first = start(pod="a")
    first.send(Promote(1))
    assert first.end()[0] == 0
    newest = store_of(volume).peek()
    second = start("--total", FOREVER, pod="b")
    second.send(Promote(2, newest))
    second.send(HandOver())
    handed = second.until(HandedOver).checkpoint
    assert second.end()[0] == ExitCode.HANDED_OVER
    assert handed.step >= newest.step
    assert second.step == handed.step


def test_a_superseded_trainer_commits_nothing_more(start: Callable[..., Any], volume: Path) -> None:
    primary = start("--total", FOREVER, "--save-every", "1000000", pod="a")
    primary.send(Promote(1))
    primary.until(FirstStep)
    primary.send(Supersede(2))
    assert primary.until(Superseded).term == 2
    assert primary.end()[0] == ExitCode.SUPERSEDED
    assert store_of(volume).peek().step == 0


def test_a_higher_term_on_the_volume_ends_a_primary(start: Callable[..., Any], volume: Path) -> None:
    primary = start("--total", FOREVER, pod="a")
    primary.send(Promote(1))
    primary.until(FirstStep)
    store = store_of(volume)
    store.begin(2, "b", store.newest())
    assert primary.until(Superseded).term == 2
    assert primary.end()[0] == ExitCode.SUPERSEDED


def test_a_promoted_trainer_loads_a_checkpoint_that_it_was_not_told_of(start: Callable[..., Any], volume: Path) -> None:
    first = start("--total", "20", pod="a")
    first.send(Promote(1))
    redundant = start(pod="b")
    redundant.send(Standby(first.until(Started).volume))
    redundant.until(Ready)
    assert first.end()[0] == 0
    newest = store_of(volume).peek()
    redundant.send(Promote(2, newest))
    assert redundant.until(Started).checkpoint == newest
    assert redundant.until(FirstStep).step == 21


@dataclass(frozen=True)
class WrongVolume:
    """A volume of one node, mounted where the job's should be."""

    root: Path
    seen: str
    """What the message is to call it."""


@pytest.fixture
def wrong(request: pytest.FixtureRequest, start: Callable[..., Any], tmp_path: Path) -> WrongVolume:
    """The one that the test's parameter names: empty, or with checkpoints of this job and rank on it."""
    root = tmp_path / "wrong"
    root.mkdir()
    if request.param != "empty":
        stray = start(pod="stray", root=root)
        stray.send(Promote(1))
        assert stray.end()[0] == 0
    if request.param == "another id":
        return WrongVolume(root, f"volume {store_of(root).volume_id()}")
    (store_of(root).path / "VOLUME").unlink(missing_ok=True)
    return WrongVolume(root, "a volume without an id")


@pytest.mark.parametrize("wrong", ["another id", "no id", "empty"], indirect=True)
def test_a_redundant_pod_on_another_volume_says_so_and_is_never_ready(
    start: Callable[..., Any], wrong: WrongVolume
) -> None:
    redundant = start("--volume-wait-s", "0.1", pod="b", root=wrong.root)
    redundant.send(Standby("right"))
    notice = redundant.until(Notice)
    assert notice.reason == "VolumeMismatch"
    assert notice.message.startswith(f"the primary trains on volume right, this pod sees {wrong.seen}: ")
    assert "ReadWriteMany" in notice.message
    redundant.send(HandOver())
    assert redundant.end()[0] == ExitCode.HANDED_OVER
    assert not redundant.said(Ready)


@pytest.mark.parametrize("wrong", ["another id", "no id", "empty"], indirect=True)
@pytest.mark.parametrize("first", [Promote, Standby], ids=["cold", "redundant before"])
def test_a_primary_on_another_volume_fails_and_leaves_it_as_it_was(
    start: Callable[..., Any], volume: Path, wrong: WrongVolume, first: type[Promote | Standby]
) -> None:
    trainer = start(pod="a")
    trainer.send(Promote(1))
    assert trainer.end()[0] == 0
    right, floor = store_of(volume).volume_id(), store_of(volume).peek()
    before = sorted(wrong.root.rglob("*"))
    successor = start("--volume-wait-s", "0.1", pod="b", root=wrong.root)
    if first is Standby:
        successor.send(Standby(right))
    successor.send(Promote(2, floor, right))
    failed = successor.until(Failed)
    assert failed.message.startswith(f"the primary trains on volume {right}, this pod sees {wrong.seen}: ")
    assert failed.volume, "it is the volume that failed, and not the program"
    assert successor.end()[0] == 1
    assert not successor.said(Ready) and not successor.said(Started)
    assert sorted(wrong.root.rglob("*")) == before


def test_a_damaged_newest_checkpoint_is_reported_and_passed_over(start: Callable[..., Any], volume: Path) -> None:
    trainer = start(pod="a")
    trainer.send(Promote(1))
    assert trainer.end()[0] == 0
    store = store_of(volume)
    newest = store.newest()
    file = newest.location / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)
    redundant = start("--total", "60", pod="b")
    redundant.send(Standby(store.volume_id()))
    notice = redundant.until(Notice)
    assert notice.reason == "CheckpointDamaged"
    ready = redundant.until(Ready)
    assert ready.loaded < newest.ref
    redundant.send(Promote(2, newest.ref, store.volume_id()))
    assert redundant.until(Started).checkpoint == ready.loaded
    assert redundant.end()[0] == 0
    assert store.newest().ref.step == 60


def test_a_volume_in_trouble_is_waited_for_before_a_term_begins(start: Callable[..., Any], volume: Path) -> None:
    (volume / "uid-of-job").write_text("in the way")
    primary = start(pod="a")
    primary.send(Promote(1))
    notice = primary.until(Notice)
    assert notice.reason == "VolumeTrouble" and "term 1 cannot begin yet, retrying: " in notice.message
    (volume / "uid-of-job").unlink()
    primary.until(Started)
    assert primary.end()[0] == 0


def test_a_step_that_raises_is_named_to_the_agent_and_the_traceback_is_printed(start: Callable[..., Any]) -> None:
    trainer = start("--fail-at", "7", pod="a")
    trainer.send(Promote(1))
    assert trainer.until(Failed).message == "step_fn(7) raised ValueError: this sample is broken"
    code, output = trainer.end()
    assert code == 1
    assert "Traceback" in output and "ValueError: this sample is broken" in output


def test_an_error_outside_the_loop_is_told_with_its_line(start: Callable[..., Any]) -> None:
    trainer = start("--typo", pod="a")
    message = trainer.until(Failed).message
    assert re.fullmatch(r"NameError: name 'undefined_name' is not defined \(numpy_trainer\.py, line \d+\)", message)
    assert trainer.end()[0] == 1


def test_a_state_that_does_not_restore_all_it_saves_is_never_ready(start: Callable[..., Any], volume: Path) -> None:
    trainer = start(pod="a")
    trainer.send(Promote(1))
    trainer.until(Completed)
    redundant = start("--forgetful", pod="b")
    redundant.send(Standby(store_of(volume).volume_id()))
    message = redundant.until(Failed).message
    assert "momentum" in message and "load()" in message
    assert redundant.end()[0] == 1
    assert not redundant.said(Ready)


def test_a_training_that_stopped_early_is_not_taken_up_again(start: Callable[..., Any], volume: Path) -> None:
    first = start("--stop-at", "25", pod="a")
    first.send(Promote(1))
    assert first.until(Completed).step == 25
    second = start(pod="b")
    second.send(Promote(2, store_of(volume).peek()))
    assert second.until(Completed).step == 25
    assert second.end()[0] == 0
    assert not second.said(FirstStep)


def test_a_redundant_trainer_ends_when_its_agent_is_gone(start: Callable[..., Any]) -> None:
    trainer = start(pod="a")
    trainer.send(Standby())
    trainer.connection.shutdown(2)
    code, output = trainer.end()
    assert code == 1
    assert "the agent" in output


def test_resumed_weights_are_those_of_the_state_and_not_of_the_warm_up(
    start: Callable[..., Any], volume: Path, tmp_path: Path
) -> None:
    primary = start("--total", FOREVER, pod="a")
    primary.send(Promote(1))
    started = primary.until(Started)
    primary.send(HandOver())
    handed = primary.until(HandedOver).checkpoint
    total = handed.step + 5
    redundant = start("--total", str(total), pod="b")
    redundant.send(Standby(started.volume))
    redundant.until(Ready, lambda ready: ready.loaded == handed)
    redundant.send(Promote(2, handed, started.volume))
    assert redundant.end()[0] == 0
    expected = final_weights(start, tmp_path / "undisturbed", total)
    assert np.array_equal(store_of(volume).newest().tensors["weights"], np.frombuffer(expected))


def test_a_term_that_the_volume_has_seen_waits_for_a_higher_one(start: Callable[..., Any], volume: Path) -> None:
    first = start("--total", FOREVER, pod="a")
    first.send(Promote(5))
    reached = first.until(Committed, lambda message: message.checkpoint.step >= 10).checkpoint
    first.process.kill()
    second = start("--total", FOREVER, pod="b", root=volume)
    second.send(Promote(3))
    assert second.until(TermTaken).term == 5
    second.send(Promote(6))
    started = second.until(Started)
    assert (started.term, started.checkpoint.term) == (6, 5)
    assert started.checkpoint.step >= reached.step
    second.send(HandOver())
    assert second.end()[0] == ExitCode.HANDED_OVER


def test_while_it_waits_it_can_be_superseded_or_handed_over(start: Callable[..., Any]) -> None:
    first = start(pod="a")
    first.send(Promote(5))
    first.end()
    for order, code in ((Supersede(7), ExitCode.SUPERSEDED), (HandOver(), ExitCode.HANDED_OVER)):
        second = start(pod="b")
        second.send(Promote(5))
        second.until(TermTaken)
        second.send(order)
        assert second.end()[0] == code
