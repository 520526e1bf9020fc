"""A redundant trainer that follows its primary, without the process around it."""

import errno
import math
import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from understudy.checkpoint import Checkpoint, RankStore
from understudy.checkpoint.disk import Disk
from understudy.counters import Counters
from understudy.protocol import Follow, Promote, Ready, Standby
from understudy.trainer import standby
from understudy.trainer.link import Link
from understudy.trainer.standby import Follower
from understudy_contract.events import EventReason


def a_link() -> tuple[Link, "queue.Queue[Any]", list[Any]]:
    """A link to an agent that is played: what it says, and what was sent to it."""
    inbox: queue.Queue[Any] = queue.Queue()
    sent: list[Any] = []
    return cast(Link, SimpleNamespace(inbox=inbox, send=sent.append)), inbox, sent


@pytest.mark.parametrize(("own_id", "wait_s"), [(True, math.inf), (False, 0.0)], ids=["another id", "none"])
def test_a_volume_without_a_checkpoint_that_is_not_the_primarys_is_told(
    tmp_path: Path, own_id: bool, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "FLOOR_WAIT_S", wait_s)
    store = RankStore(tmp_path, "job", 0, keep=3)
    seen = f"volume {store.create_volume_id()}" if own_id else "a volume without an id"
    link, _, sent = a_link()
    follower = Follower(link, store, Standby("the-primarys"), lambda _: None, Counters(None))
    follower._follow()
    follower._follow()
    (notice,) = sent
    assert notice.reason == EventReason.VOLUME_MISMATCH
    assert f"the primary trains on volume the-primarys, this pod sees {seen}" in notice.message


def test_an_id_that_cannot_be_seen_yet_is_waited_for(tmp_path: Path) -> None:
    store = RankStore(tmp_path, "job", 0, keep=3)
    link, _, sent = a_link()
    Follower(link, store, Standby("the-primarys"), lambda _: None, Counters(None))._follow()
    assert sent == []


def test_a_checkpoint_is_read_as_busy_so_that_a_promotion_meanwhile_finds_no_hang(tmp_path: Path) -> None:
    store = RankStore(tmp_path, "job", 0, keep=3)
    volume = store.create_volume_id()
    ref = store.begin(1, "pod", None).commit(5, {"value": np.zeros(3)}, {})
    link, inbox, sent = a_link()
    counters = Counters(None)
    busy: list[int] = []

    def load(checkpoint: Checkpoint) -> None:
        busy.append(counters.read().busy)
        inbox.put(Promote(2, checkpoint.ref, volume))

    inbox.put(Follow(ref, volume))
    assert Follower(link, store, Standby(volume), load, counters).run() == Promote(2, ref, volume)
    assert sent == [Ready(ref)]
    assert busy == [1]
    assert counters.read().busy == 0


class Denying(Disk):
    """A volume that this user may not read."""

    def names(self, folder: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))


def test_a_volume_that_may_not_be_read_is_told_once(tmp_path: Path) -> None:
    store = RankStore(tmp_path, "job", 0, keep=3, fs=Denying(tmp_path))
    link, _, sent = a_link()
    follower = Follower(link, store, Standby(None), lambda _: None, Counters(None))
    follower._follow()
    follower._follow()
    (notice,) = sent
    assert notice.reason == EventReason.VOLUME_TROUBLE and "this process has uid" in notice.message
