"""Trainers on a volume on which somebody else writes, too."""

import os
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from understudy.checkpoint import RankStore
from understudy.errors import Superseded
from understudy.protocol import Committed, FromAgent, Notice, Promote, Started, Supersede, TermTaken
from understudy.trainer import restore
from understudy.trainer.context import Context
from understudy.trainer.exits import SupersededExit
from understudy.trainer.link import Link
from understudy.trainer.restore import Restorer
from understudy_contract.names import Env
from understudy_contract.reports import CheckpointRef


@dataclass
class Inbox:
    """An inbox in which something happens at the n-th wait: a message comes, or somebody acts on the volume."""

    events: dict[int, FromAgent | Callable[[], object]] = field(default_factory=dict)
    waits: int = 0

    def get(self, timeout: float) -> FromAgent:
        self.waits += 1
        event = self.events.get(self.waits)
        if event is None or callable(event):
            if event is not None:
                event()
            assert self.waits < 1000, "it waits for ever"
            raise queue.Empty
        return event


@dataclass
class Waiting:
    """A restorer whose term 3 is taken by a folder of term 5."""

    path: Path
    inbox: Inbox = field(default_factory=Inbox)
    told: list[tuple[str, str]] = field(default_factory=list)
    bumps: int = 0

    def __post_init__(self) -> None:
        self.store = RankStore(self.path, "job", 0, keep=1)
        self.folder = self.store.path / "term-5-x"
        self.folder.mkdir(parents=True)

    def wait(self) -> Promote:
        context = Context("digits", "job", 0, 1, "a", 1, self.path, Path("socket"), None)
        restorer = Restorer(self.store, context, lambda _: None, lambda reason, text: self.told.append((reason, text)))
        with pytest.raises(Superseded) as taken:
            self.store.begin(3, "a", None)
        return restorer.await_term(cast(Link, self), Promote(3), taken.value, self._bump)

    def _bump(self) -> None:
        self.bumps += 1


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


def test_a_folder_in_the_way_is_told_and_once_it_is_gone_the_term_begins(waiting: Waiting) -> None:
    waiting.inbox.events = {restore.TELL_AFTER + 5: waiting.folder.rmdir}
    assert waiting.wait() == Promote(3)
    [(reason, text)] = waiting.told
    assert reason == "ForeignOnVolume"
    assert f"{waiting.store.path} has a folder of term 5" in text
    assert "remove that folder, term-5-...: this pod then goes on" in text
    assert waiting.bumps == waiting.inbox.waits, "it shows that it lives"


def test_a_higher_term_ends_the_wait_and_the_term_that_the_lease_did_not_know_is_told(waiting: Waiting) -> None:
    waiting.inbox.events = {2: Promote(4), 3: Promote(6)}
    assert waiting.wait() == Promote(6), "4 is not above what lies there"
    [(reason, text)] = waiting.told
    assert reason == "ForeignOnVolume"
    assert "term 6 begins instead of 3" in text
    assert "somebody else writes there: look at term-5-..." in text


def test_a_superseded_pod_learns_so_while_it_waits(waiting: Waiting) -> None:
    waiting.inbox.events = {2: Supersede(5)}
    with pytest.raises(SupersededExit):
        waiting.wait()


def rank_folder(volume: Path) -> Path:
    folder = volume / "uid-of-job" / "rank-0"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_planted_terms_and_pipes_stop_no_training_and_are_told(start: Callable[..., Any], volume: Path) -> None:
    planted = rank_folder(volume) / "term-2147483647-x"
    planted.mkdir()
    (planted / "BASE").touch()
    (volume / "outside").mkdir()
    (volume / "outside" / "keep").touch()
    (rank_folder(volume) / "term-1-y").symlink_to(volume / "outside")
    for uid in ("stranger", "uid-of-job"):
        (volume / uid).mkdir(exist_ok=True)
        os.mkfifo(volume / uid / "JOB")
    resume = {Env.JOB_CREATED: "2026-01-02T00:00:00Z", Env.RESUME: "Latest"}
    trainer = start(pod="a", environment=resume)
    trainer.send(Promote(2))
    notice = trainer.until(Notice, lambda message: message.reason == "ForeignOnVolume")
    assert "term-1-y (a link or a file in place of a folder)" in notice.message
    assert "term-2147483647-x (a term that this rank cannot have had, whose own is 2)" in notice.message
    assert trainer.end()[0] == 0
    assert trainer.said(TermTaken) == []
    assert (volume / "outside" / "keep").exists()
    assert not (rank_folder(volume) / "term-1-y").is_symlink(), "pruned, as any older term"


def test_a_term_that_is_planted_amid_the_training_supersedes_nobody(start: Callable[..., Any], volume: Path) -> None:
    trainer = start("--total", "1000000", pod="a")
    trainer.send(Promote(1))
    trainer.until(Committed)
    (rank_folder(volume) / "term-2147483647-x").mkdir()
    reached: CheckpointRef = trainer.until(Committed, lambda message: message.checkpoint.step >= 30).checkpoint
    assert reached.term == 1
    trainer.process.kill()
    successor = start("--total", str(reached.step + 50), pod="b", root=volume)
    successor.send(Promote(2, reached))
    assert successor.until(Started).checkpoint.step >= reached.step
    assert successor.end()[0] == 0
