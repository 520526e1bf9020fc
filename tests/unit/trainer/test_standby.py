"""A redundant trainer that follows its primary, without the process around it."""

import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from understudy.checkpoint import Checkpoint, RankStore
from understudy.counters import Counters
from understudy.link import Link
from understudy.protocol import Follow, Promote, Ready, Standby
from understudy.standby import Follower


def test_a_checkpoint_is_read_as_busy_so_that_a_promotion_meanwhile_finds_no_hang(tmp_path: Path) -> None:
    store = RankStore(tmp_path, "job", 0, keep=3)
    volume = store.create_volume_id()
    ref = store.begin(1, "pod", None).commit(5, {"value": np.zeros(3)}, {})
    inbox: queue.Queue[Any] = queue.Queue()
    sent: list[Any] = []
    link = cast(Link, SimpleNamespace(inbox=inbox, send=sent.append))
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
