"""A node that believes for a while what it once read of a folder, as over NFS."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from understudy.checkpoint import Checkpoint, RankStore
from understudy.errors import Superseded

from tests.simulation.volume import ROOT, Mount, Volume

CACHE_S = 30.0


class Clock:
    """Moved by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores(clock: Clock, open_store: Callable[..., RankStore]) -> tuple[RankStore, RankStore]:
    """One rank's store on two nodes."""
    volume = Volume(links=True)

    def on_a_node() -> RankStore:
        mount = Mount(volume, clock.read, CACHE_S, lambda: False)
        return open_store(mount, ROOT, keep=1, clock=clock.read, sleep=clock.sleep)

    return on_a_node(), on_a_node()


def test_an_id_that_a_node_cannot_see_yet_is_waited_for(stores: tuple[RankStore, RankStore], clock: Clock) -> None:
    here, there = stores
    assert there.volume_id() is None
    written = here.create_volume_id()
    assert there.volume_id() is None, "the node believes that the folder is empty"
    assert there.volume_id(wait_s=60.0) == written
    assert CACHE_S <= clock.now < CACHE_S + 2


def test_names_of_checkpoints_that_were_all_pruned_are_read_again(
    stores: tuple[RankStore, RankStore],
    clock: Clock,
    state: Callable[[int], Any],
    check: Callable[[Checkpoint | None], Checkpoint],
) -> None:
    here, there = stores
    writer = here.begin(1, "a", None)
    writer.commit(0, state(0), {})
    assert there.peek() is not None
    last = writer.commit(10, state(10), {})
    assert there.peek() is None, "the node sees step 0 alone, which is gone"
    assert check(there.newest()).ref == last
    assert CACHE_S <= clock.now < CACHE_S + 2


def test_names_of_before_a_term_came_to_count_are_read_again(
    stores: tuple[RankStore, RankStore],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    state: Callable[[int], Any],
    check: Callable[[Checkpoint | None], Checkpoint],
) -> None:
    here, there = stores
    remove = here._fs.remove_folder

    def dies(path: Path) -> None:
        if "term-1-a" in path.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        remove(path)

    floor = here.begin(1, "a", None).commit(5, state(5), {})
    assert there.highest_term() == 1
    clock.sleep(10)
    assert there.peek() == floor, "the names in term 1 are believed from now on"
    clock.sleep(CACHE_S - 5)
    writer = here.begin(2, "b", check(here.newest()))
    assert there.peek() == floor, "and those around it and in term 2, without a BASE"
    monkeypatch.setattr(here._fs, "remove_folder", dies)
    last = writer.commit(10, state(10), {})  # term 1 is emptied, and not removed
    assert check(there.newest(floor)).ref == last
    assert 5 + 2 * CACHE_S <= clock.now < 5 + 2 * CACHE_S + 2


def test_of_two_pods_that_begin_one_term_the_later_one_sees_the_other(
    stores: tuple[RankStore, RankStore], state: Callable[[int], Any]
) -> None:
    here, there = stores
    here.begin(1, "a", None).commit(0, state(0), {})
    base, other_base = here.newest(), there.newest()
    writer = here.begin(2, "b", base)
    assert there.highest_term() == 1, "the node does not see term 2 yet"
    with pytest.raises(Superseded):
        there.begin(2, "c", other_base)
    writer.commit(10, state(10), {})
