"""Saves that fail: reported once, tried again, never in the way of the training."""

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from understudy.checkpoint import RankStore
from understudy.checkpoint.disk import Disk
from understudy.checkpoint.filesystem import Space
from understudy.errors import Superseded, VolumeFull, VolumeTooSmall
from understudy.protocol import Committed, FromTrainer, Notice
from understudy.trainer import saves as module
from understudy.trainer.failures import VOLUME
from understudy.trainer.link import Orders
from understudy.trainer.saves import Saves
from understudy.trainer.state import State


class Counting(State):
    def __init__(self) -> None:
        self.value = 0

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"value": np.array([self.value])}

    def load(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self.value = int(tensors["value"][0])


class Fillable(Disk):
    """A disk that can be full."""

    failure: int | None = None
    failures_left = 1_000_000

    room: Space | None = None

    def space(self, path: Path) -> Space:
        return self.room or super().space(path)

    def write(self, path: Path, chunks: Iterable[Any]) -> None:
        if self.failure is not None and self.failures_left:
            self.failures_left -= 1
            raise OSError(self.failure, "injected", str(path))
        super().write(path, chunks)


class Bench:
    def __init__(self, path: Path) -> None:
        self.disk = Fillable(path)
        self.store = RankStore(path, "job", 0, keep=3, fs=self.disk)
        self.told: list[FromTrainer] = []
        self.orders = Orders()
        self.state = Counting()
        self.saves = Saves(
            self.store.begin(1, "pod", None),
            self.state,
            orders=self.orders,
            tell=self.told.append,
            bump=lambda: None,
            envelope=dict,
        )

    def notices(self) -> list[Notice]:
        return [message for message in self.told if isinstance(message, Notice)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def save(bench: Bench, step: int) -> None:
    bench.state.value = step
    bench.saves.submit(step)
    bench.saves.settle()


def test_a_full_volume_is_reported_once_and_the_next_save_tries_again(bench: Bench) -> None:
    bench.saves.commit(0)
    bench.disk.failure = errno.ENOSPC
    save(bench, 10)
    save(bench, 20)
    assert [notice.reason for notice in bench.notices()] == ["CheckpointFailed"]
    bench.disk.failure = None
    save(bench, 30)
    assert bench.store.newest() is not None
    newest = bench.store.newest()
    assert newest is not None and newest.ref.step == 30
    bench.disk.failure = errno.EROFS
    save(bench, 40)
    assert len(bench.notices()) == 2, "another cause is worth another notice"


def test_a_failure_that_comes_back_or_lasts_is_reported_again_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    bench.saves.commit(0)
    for step, at, failure in (
        (10, 1000.0, errno.ENOSPC),
        (20, 1001.0, None),
        (30, 1002.0, errno.ENOSPC),
        (40, 1601.0, errno.ENOSPC),
        (50, 2300.0, errno.ENOSPC),
    ):
        now, bench.disk.failure = at, failure
        save(bench, step)
    told = [step for notice in bench.notices() for step in (10, 20, 30, 40, 50) if f"step {step} " in notice.message]
    assert told == [10, 40, 50]


def test_a_save_that_must_succeed_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    bench.disk.failure, bench.disk.failures_left = errno.EIO, 2
    assert bench.saves.commit(0).step == 0
    assert len(pauses) >= 1


def test_a_save_that_must_succeed_gives_up_in_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    bench.disk.failure = errno.ENOSPC
    with pytest.raises(VolumeFull):
        bench.saves.commit(0)


def test_the_trained_model_is_published_once_the_volume_is_mended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.saves.commit(0)
    lost = OSError(errno.EIO, "injected")
    answers: list[OSError | None] = [lost, lost, None]

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        if (answer := answers.pop(0)) is not None:
            raise answer
        path.write_bytes(b"whole")

    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    path = bench.saves.publish("model", write)
    assert (path.read_bytes(), list(path.parent.iterdir())) == (b"whole", [path])
    assert [notice.reason for notice in bench.notices()] == ["CheckpointFailed"]


def test_older_checkpoints_make_room_for_the_trained_model(bench: Bench) -> None:
    for step in (0, 10, 20):
        bench.saves.commit(step)

    def write(path: Path) -> None:
        path.write_bytes(b"model")
        if len(list(path.parent.parent.glob("step-*"))) > 2:
            raise OSError(errno.ENOSPC, "injected")

    path = bench.saves.publish("model", write)
    assert path.read_bytes() == b"model"
    newest = bench.store.newest()
    assert newest is not None and newest.ref.step == 20
    assert not bench.notices()


@pytest.mark.parametrize("call", ["sync", "rename", "names"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOTCONN, errno.ESTALE])
def test_whatever_the_storage_answers_while_the_model_is_published_is_trouble_of_the_volume(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    bench.saves.commit(0)

    def fail(*paths: Path) -> None:
        raise OSError(code, "injected", str(bench.store.path.parent))

    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    monkeypatch.setattr(bench.disk, call, fail)
    with pytest.raises(VOLUME):
        bench.saves.publish("model", lambda path: path.write_bytes(b"model") and None)  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/labels.txt"),
        PermissionError(errno.EACCES, "Permission denied", "/etc/shadow"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        OSError("no errno at all"),
    ],
)
def test_what_writing_the_model_raises_for_other_reasons_is_the_programs(bench: Bench, error: OSError) -> None:
    bench.saves.commit(0)

    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(OSError) as raised:
        bench.saves.publish("model", write)
    assert raised.value is error
    assert not isinstance(error, VOLUME)
    assert not list(bench.store.path.glob("*/final/*"))


def test_a_step_that_is_committed_is_not_written_again(bench: Bench) -> None:
    bench.saves.commit(0)
    save(bench, 10)
    bench.disk.failure = errno.ENOSPC
    assert bench.saves.commit(10).step == 10
    assert [message.checkpoint.step for message in bench.told if isinstance(message, Committed)] == [0, 10]


def test_a_higher_term_becomes_an_order(bench: Bench) -> None:
    bench.saves.commit(0)
    bench.store.begin(2, "other", bench.store.newest())
    save(bench, 10)
    assert bench.orders.superseded_by == 2
    with pytest.raises(Superseded):
        bench.saves.commit(10)
    assert not bench.notices()


def test_a_volume_that_cannot_hold_what_is_kept_ends_the_training_before_its_first_step(bench: Bench) -> None:
    bench.disk.room = Space(free=16, total=16)
    with pytest.raises(VolumeTooSmall, match="use a larger claim") as raised:
        bench.saves.commit(0)
    assert not isinstance(raised.value, VOLUME), "a failure of the job: nothing but a change of it helps"
    assert bench.store.newest() is None


def test_a_volume_that_is_full_of_other_things_is_trouble_of_the_volume(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    bench.disk.room = Space(free=16, total=1 << 20)
    with pytest.raises(
        VolumeFull, match="16 bytes free of 1 MiB, but 3 checkpoints of 8 bytes need 24 bytes"
    ) as raised:
        bench.saves.commit(0)
    assert isinstance(raised.value, VOLUME), "tried again and again"
    bench.disk.room = None
    assert bench.saves.commit(0).step == 0
