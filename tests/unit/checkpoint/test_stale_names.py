"""A node that believes for a while what it once read of a folder, as over NFS."""

from collections.abc import Callable
from typing import Any

import pytest
from understudy.checkpoint import Checkpoint, RankStore

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
