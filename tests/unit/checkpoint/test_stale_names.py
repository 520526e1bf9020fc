"""A node that believes for a while what it once read of a folder, as over NFS."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from understudy.checkpoint import Checkpoint, RankStore
from understudy.checkpoint.filesystem import FileSystem, NotAFile
from understudy.errors import Superseded, VolumeFailed

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
def links() -> bool:
    """The volume makes hard links; a parameter may say otherwise."""
    return True


@pytest.fixture
def stores(clock: Clock, open_store: Callable[..., RankStore], links: bool) -> tuple[RankStore, RankStore]:
    """One rank's store on two nodes; keeps one checkpoint."""
    volume = Volume(links=links)

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


@pytest.mark.parametrize("links", [True, False])
def test_a_superseded_writer_that_prunes_on_takes_nothing_from_its_successor(
    stores: tuple[RankStore, RankStore],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    state: Callable[[int], Any],
    check: Callable[[Checkpoint | None], Checkpoint],
) -> None:
    """It does not see the successor's folder yet, and has removed the base from its own when that is all there is."""
    here, there = stores
    old = there.begin(1, "a", None)
    floor = old.commit(10, state(10), {})
    successor = here.begin(2, "b", check(here.newest(floor)))
    rename, files = here._fs.rename, {}

    def goes_on(source: Path, target: Path) -> None:
        if target.name == "step-15" and not files:
            files.update(contents(here._fs, successor.path))
            assert {"BASE", "step-10/manifest.json", "step-10/state.safetensors"} < files.keys()
            for step in (20, 30, 40):
                old.commit(step, state(step), {})
            assert {"BASE", "step-40"} == set(there._fs.names(old.path)), "it has pruned the base"
            assert contents(here._fs, successor.path) == files
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        rename(source, target)

    monkeypatch.setattr(here._fs, "rename", goes_on)
    with pytest.raises(VolumeFailed):
        successor.commit(15, state(15), {})
    assert check(here.newest(floor)).ref == floor, "read from the successor's folder, where it lies alone"
    last = successor.commit(16, state(16), {})
    assert old.path.name not in here._fs.names(here.path)
    files = contents(here._fs, successor.path)
    old.commit(50, state(50), {})  # into its folder that was put away, and is not empty
    assert contents(here._fs, successor.path) == files
    assert check(here.newest(floor)).ref == last
    clock.sleep(CACHE_S)
    with pytest.raises(Superseded):
        old.commit(60, state(60), {})
    last = successor.commit(17, state(17), {})
    assert here._fs.names(here.path) == [successor.path.name]
    assert check(here.newest(floor)).ref == last


def contents(fs: FileSystem, folder: Path) -> dict[str, bytes]:
    """Read all files below a folder, by their relative paths."""
    found = {}
    for name in fs.names(folder):
        try:
            found[name] = bytes(fs.read(folder / name, 1 << 20))
        except NotAFile:
            found |= {f"{name}/{path}": data for path, data in contents(fs, folder / name).items()}
    return found
