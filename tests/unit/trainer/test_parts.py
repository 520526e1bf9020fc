"""The small parts of the trainer's side."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from understudy import protocol
from understudy.counters import SIZE_BYTES, Counters, Counts
from understudy.errors import NotStarted
from understudy.trainer.facts import differences
from understudy.trainer.failures import name_failure, sentence
from understudy.trainer.link import Link, Orders
from understudy.trainer.log import step_line
from understudy.trainer.prefetch import Prefetcher
from understudy_contract.reports import CheckpointRef

REF = CheckpointRef(3, 200, "ab" * 32)


@pytest.mark.parametrize(
    "message",
    [
        protocol.Standby("volume"),
        protocol.Follow(REF, "volume"),
        protocol.Promote(4, REF, "volume"),
        protocol.Promote(1),
        protocol.HandOver(),
        protocol.Supersede(5),
    ],
)
def test_what_the_agent_says_is_read_back(message: protocol.FromAgent) -> None:
    line = protocol.encode(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert protocol.decode_from_agent(line) == message
    with pytest.raises(msgspec.MsgspecError):
        protocol.decode_from_trainer(line)


@pytest.mark.parametrize(
    "message",
    [
        protocol.Hello("1"),
        protocol.Ready(REF),
        protocol.Started(1, REF, "volume"),
        protocol.FirstStep(1, 2, "2026-01-01T00:00:00.000000Z"),
        protocol.Committed(REF),
        protocol.HandedOver(REF),
        protocol.Completed(9, "final/model.keras"),
        protocol.Superseded(2),
        protocol.Failed('two\\nlines, and "quotes"'),
        protocol.Notice("Reason", "message"),
    ],
)
def test_what_the_trainer_says_is_read_back(message: protocol.FromTrainer) -> None:
    assert protocol.decode_from_trainer(protocol.encode(message)) == message


@pytest.mark.parametrize("end", ["written", "read"])
def test_what_the_trainer_says_is_one_clean_line_of_bounded_length(end: str) -> None:
    said = "two\nlines, \x1b[31mred, a broken \udcff name " + "x" * 100_000
    if end == "written":
        line = protocol.encode(protocol.Failed(said))
        assert len(line) < 2048
    else:
        line = (
            b'{"type":"Failed","message":"two\\nlines, \\u001b[31mred, a broken \xef\xbf\xbd name '
            + b"x" * 100_000
            + b'"}'
        )
    heard = protocol.decode_from_trainer(line)
    assert isinstance(heard, protocol.Failed)
    assert heard.message.startswith("two lines, red, a broken \ufffd name xxx")
    assert len(heard.message.encode()) == 1024


def test_a_message_that_is_nested_without_end_is_unreadable() -> None:
    with pytest.raises(msgspec.MsgspecError):
        protocol.decode_from_trainer(b'{"type":"Failed","message":"m","more":' + b"[" * 100_000)


def test_a_second_training_of_a_script_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        first = Link(path, Orders())
        with pytest.raises(NotStarted, match="a job is one training"):
            Link(path, Orders())
        first.close()
        Link(path, Orders()).close()


def test_counters_outlive_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    code = (
        "import os, pathlib, signal; from understudy.counters import Counters\n"
        f"c = Counters(pathlib.Path({str(path)!r})); c.step = 41; c.step = 42; c.bump(); "
        "busy = c.busy(); busy.__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with Counters(path) as counters:
        assert counters.read() == Counts(step=42, activity=4, busy=1)
    assert path.read_bytes()[:8] == (42).to_bytes(8, "little") and len(path.read_bytes()) == SIZE_BYTES


def test_batches_are_computed_ahead_and_in_order_whatever_is_asked_for() -> None:
    calls: list[int] = []
    ahead = threading.Event()

    def make(index: int) -> int:
        calls.append(index)
        if index == 8:
            ahead.set()
        return index * 10

    prefetcher = Prefetcher(make, limit=10)
    assert [prefetcher.get(0), prefetcher.get(1)] == [0, 10]
    prefetcher.aim(7)
    assert ahead.wait(60), "the batch after the one aimed at was not prepared"
    assert [prefetcher.get(7), prefetcher.get(8), prefetcher.get(9), prefetcher.get(2)] == [70, 80, 90, 20]
    prefetcher.close()
    assert max(calls) == 9


def test_an_error_of_a_batch_is_raised_where_it_is_asked_for() -> None:
    def make(index: int) -> int:
        if index == 1:
            raise KeyError("no such file")
        return index

    prefetcher = Prefetcher(make, limit=3)
    assert prefetcher.get(0) == 0
    with pytest.raises(KeyError), name_failure("batch(step=1, rank=0, ranks=2)"):
        prefetcher.get(1)
    assert prefetcher.get(2) == 2
    prefetcher.close()


def fail_in_a_batch() -> None:
    with name_failure("batch(step=7, rank=0, ranks=2)"):
        raise ValueError("broken\nover two lines")


def test_the_innermost_call_names_a_failure() -> None:
    with pytest.raises(ValueError, match="broken") as caught, name_failure("step_fn(7)"):
        fail_in_a_batch()
    assert sentence(caught.value) == "batch(step=7, rank=0, ranks=2) raised ValueError: broken over two lines"


def test_only_what_both_sides_know_differs() -> None:
    assert differences({"cpu": "a", "numpy": "2"}, {"cpu": "b", "keras": "3"}) == ["cpu a then, b now"]


def test_a_line_shows_metrics_between_step_and_time() -> None:
    line = step_line(101, 2000, {"loss": 0.123, "accuracy": 0.97}, 12.34, 2)
    assert line == "step 101/2000 loss 0.123 accuracy 0.97 12.3 ms/step term 2"
