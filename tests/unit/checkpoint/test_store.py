"""What a rank's store promises, rule by rule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from understudy.checkpoint import Checkpoint, RankStore, TermWriter
from understudy.checkpoint.store import FLOOR_WAIT_S
from understudy.errors import (
    CheckpointDamaged,
    CheckpointMissing,
    CheckpointsExist,
    FloorMissing,
    Superseded,
    VolumeFull,
    VolumeReadOnly,
    VolumeTooSmall,
)
from understudy_contract.reports import CheckpointRef

from tests.memory_volume import MemoryFileSystem

State = Callable[[int], Any]
Open = Callable[..., RankStore]
Check = Callable[[Checkpoint | None], Checkpoint]


class Waiting:
    """A clock that only sleeping moves; something may happen after a number of sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.after: dict[int, Callable[[], object]] = {}
        self.sleeps = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.sleeps += 1
        self.after.get(self.sleeps, lambda: None)()


@pytest.fixture
def disk() -> MemoryFileSystem:
    return MemoryFileSystem()


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def store(disk: MemoryFileSystem, waiting: Waiting, open_store: Open) -> RankStore:
    return open_store(disk, clock=waiting.clock, sleep=waiting.sleep)


def flip(position: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[position] ^= 0x10

    return change


def zero_tail(data: bytearray) -> None:
    data[-24:] = bytes(24)


def cut_tail(data: bytearray) -> None:
    del data[-1:]


def test_nothing_committed_and_no_floor_means_start_fresh(store: RankStore) -> None:
    assert store.newest() is None
    assert store.peek() is None
    assert store.highest_term() == 0


def test_the_state_at_step_0_is_a_checkpoint(store: RankStore, state: State, check: Check) -> None:
    ref = store.begin(1, "a", None).commit(0, state(0), {"seed": 7})
    assert (ref.term, ref.step) == (1, 0)
    assert check(store.newest(ref)).extra == {"seed": 7}


def test_a_fresh_start_is_refused_where_checkpoints_lie(store: RankStore, state: State) -> None:
    store.begin(1, "a", None).commit(0, state(0), {})
    with pytest.raises(CheckpointsExist, match="must go on from the newest"):
        store.begin(2, "b", None)


def test_the_same_step_again_is_the_checkpoint_that_is_there(store: RankStore, state: State) -> None:
    first = store.begin(1, "a", None)
    ref = first.commit(10, state(10), {})
    assert first.commit(10, {}, {}) == ref
    second = store.begin(2, "b", store.newest(ref))
    assert second.commit(10, {}, {}) == ref, "handed over before the first step"
    assert second.newest == ref


def test_steps_only_grow(store: RankStore, state: State) -> None:
    writer = store.begin(1, "a", None)
    writer.commit(10, state(10), {})
    with pytest.raises(ValueError, match="steps only grow"):
        writer.commit(9, state(9), {})


def test_a_floor_is_waited_for(
    store: RankStore, disk: MemoryFileSystem, waiting: Waiting, state: State, open_store: Open
) -> None:
    writer = open_store(disk).begin(1, "a", None)
    writer.commit(10, state(10), {})
    elsewhere = MemoryFileSystem()
    twin = open_store(elsewhere).begin(1, "a", None)
    twin.commit(10, state(10), {})
    floor = twin.commit(20, state(20), {})
    assert store.peek(floor) is None
    waiting.after[5] = lambda: writer.commit(20, state(20), {})
    found = store.newest(floor)
    assert found is not None
    assert found.ref == floor, "the same state has the same digest"
    assert waiting.sleeps == 5


def test_a_floor_that_does_not_appear_is_never_started_below(store: RankStore, waiting: Waiting, state: State) -> None:
    store.begin(1, "a", None).commit(10, state(10), {})
    with pytest.raises(FloorMissing, match=r"step 20 of term 1 .* after 65 s: is this the same volume") as caught:
        store.newest(CheckpointRef(1, 20, "d" * 64))
    assert caught.value.ref.step == 20
    assert waiting.now == pytest.approx(FLOOR_WAIT_S)


def test_an_empty_volume_is_no_fresh_start_above_floor_0(store: RankStore) -> None:
    with pytest.raises(FloorMissing):
        store.newest(CheckpointRef(1, 20, "d" * 64))
    assert store.newest(CheckpointRef(1, 0, "d" * 64)) is None


@pytest.mark.parametrize("file", ["manifest.json", "state.safetensors"])
def test_every_flipped_bit_is_found(store: RankStore, disk: MemoryFileSystem, state: State, file: str) -> None:
    writer = store.begin(1, "a", None)
    ref = writer.commit(10, state(10), {"seed": 1})
    path = writer.path / "step-10" / file
    for position in range(len(disk.read(path, 1 << 20))):
        disk.damage(path, flip(position))
        with pytest.raises(CheckpointDamaged, match="step-10 is damaged"):
            store.load(ref)
        disk.damage(path, flip(position))
    assert store.load(ref).ref == ref


@pytest.mark.parametrize("file", ["manifest.json", "state.safetensors"])
@pytest.mark.parametrize("change", [zero_tail, cut_tail, bytearray.clear, lambda data: data.extend(b"\0")])
def test_a_damaged_floor_is_passed_over_and_reported(
    store: RankStore,
    disk: MemoryFileSystem,
    state: State,
    check: Check,
    file: str,
    change: Callable[[bytearray], None],
) -> None:
    writer = store.begin(1, "a", None)
    writer.commit(10, state(10), {})
    floor = writer.commit(20, state(20), {})
    disk.damage(writer.path / "step-20" / file, change)
    found = check(store.newest(floor))
    assert found.ref.step == 10
    assert len(found.damaged) == 1
    assert "step-20 is damaged" in found.damaged[0]


def test_a_lost_state_file_is_damage(store: RankStore, disk: MemoryFileSystem, state: State) -> None:
    writer = store.begin(1, "a", None)
    ref = writer.commit(10, state(10), {})
    disk.remove(writer.path / "step-10" / "state.safetensors")
    with pytest.raises(CheckpointDamaged, match=r"state\.safetensors is missing"):
        store.load(ref)


def test_where_nothing_is_whole_nobody_starts_over(store: RankStore, disk: MemoryFileSystem, state: State) -> None:
    writer = store.begin(1, "a", None)
    for step in (10, 20):
        writer.commit(step, state(step), {})
        disk.damage(writer.path / f"step-{step}" / "state.safetensors", cut_tail)
    with pytest.raises(CheckpointDamaged, match=r"\(2 tried\).*backup") as caught:
        store.newest()
    assert len(caught.value.problems) == 2


def test_damage_in_a_new_term_leads_back_to_its_base_and_beyond(
    store: RankStore, disk: MemoryFileSystem, state: State, check: Check
) -> None:
    first = store.begin(1, "a", None)
    first.commit(10, state(10), {})
    base = store.newest(first.commit(20, state(20), {}))
    second = store.begin(2, "b", base)
    floor = second.commit(30, state(30), {})
    disk.damage(second.path / "step-30" / "state.safetensors", cut_tail)
    assert check(store.newest(floor)).ref.step == 20
    disk.damage(second.path / "step-20" / "state.safetensors", cut_tail)  # one file with two names
    found = check(store.newest(floor))
    assert found.ref.step == 10
    assert len(found.damaged) == 3
    third = store.begin(3, "c", found)
    assert check(store.newest(third.commit(15, state(15), {}))).damaged == ()


@pytest.mark.parametrize("change", [flip(20), bytearray.clear])
def test_a_damaged_base_loses_no_term_and_no_line(
    store: RankStore, disk: MemoryFileSystem, state: State, check: Check, change: Callable[[bytearray], None]
) -> None:
    first = store.begin(1, "a", None)
    first.commit(10, state(10), {})
    base = store.newest(first.commit(20, state(20), {}))
    second = store.begin(2, "b", base)
    floor = second.commit(30, state(30), {})
    disk.damage(second.path / "BASE", change)
    assert check(store.newest()).ref == floor
    for step in (30, 20):
        disk.damage(second.path / f"step-{step}" / "state.safetensors", cut_tail)
    assert check(store.newest(floor)).ref.step == 10


def test_a_superseded_writer_is_told_so(store: RankStore, state: State) -> None:
    old = store.begin(1, "a", None)
    base = store.newest(old.commit(10, state(10), {}))
    store.begin(2, "b", base)
    with pytest.raises(Superseded) as caught:
        old.commit(20, state(20), {})
    assert caught.value.term == 2
    with pytest.raises(Superseded):
        store.begin(1, "a", None)
    with pytest.raises(Superseded, match="begun by pod b already"):
        store.begin(2, "c", base)
    assert store.highest_term() == 2


def test_what_a_superseded_writer_commits_is_not_read(
    store: RankStore, disk: MemoryFileSystem, state: State, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store.begin(1, "a", None)
    base = check(store.newest(old.commit(10, state(10), {})))
    began: list[TermWriter] = []
    rename = disk.rename

    def overtaken(source: Path, target: Path) -> None:
        if target.name == "step-20":
            began.append(store.begin(2, "b", base))  # after the old writer has looked for a successor
        rename(source, target)

    monkeypatch.setattr(disk, "rename", overtaken)
    assert old.commit(20, state(20), {}).step == 20
    assert "step-20" in disk.names(old.path)
    mine = began[0].commit(15, state(15), {})
    assert store.peek() == mine
    assert check(store.newest(mine)).ref == mine
    for step in (15, 10):  # 10 is one file with two names
        disk.damage(began[0].path / f"step-{step}" / "state.safetensors", cut_tail)
    with pytest.raises(CheckpointDamaged):  # rather none than the late one, which is of no line that counts
        store.newest(mine)


def test_a_checkpoint_of_an_old_term_is_found_by_name_in_its_successor(store: RankStore, state: State) -> None:
    first = store.begin(1, "a", None)
    base = store.newest(first.commit(10, state(10), {}))
    second = store.begin(2, "b", base)
    for step in (20, 30):
        second.commit(step, state(step), {})
    assert base is not None
    with pytest.raises(CheckpointMissing, match="pruned meanwhile"):
        store.load(base.ref)
    assert store.highest_term() == 2


def test_only_so_many_are_kept_and_old_terms_go_when_as_many_are_new(
    store: RankStore, disk: MemoryFileSystem, state: State
) -> None:
    first = store.begin(1, "a", None)
    for step in (0, 10, 20):
        ref = first.commit(step, state(step), {})
    assert sorted(disk.names(first.path)) == ["BASE", "step-10", "step-20"]
    second = store.begin(2, "b", store.newest(ref))
    second.commit(30, state(30), {})
    assert first.path.name in disk.names(store.path)
    second.commit(40, state(40), {})
    assert disk.names(store.path) == [second.path.name]


def test_old_terms_stay_while_a_new_commit_reads_back_damaged(
    store: RankStore, disk: MemoryFileSystem, state: State
) -> None:
    first = store.begin(1, "a", None)
    base = store.newest(first.commit(10, state(10), {}))
    second = store.begin(2, "b", base)
    second.commit(20, state(20), {})
    disk.damage(second.path / "step-20" / "state.safetensors", cut_tail)
    second.commit(30, state(30), {})
    assert [type(notice) for notice in second.notices] == [CheckpointDamaged]
    assert first.path.name in disk.names(store.path)


def test_a_volume_that_is_too_small_is_said_at_once(open_store: Open, state: State) -> None:
    store = open_store(MemoryFileSystem(capacity_bytes=150), keep=3)
    with pytest.raises(VolumeTooSmall, match=r"holds 150 bytes, but 3 checkpoints of 96 bytes need 288 .*larger claim"):
        store.begin(1, "a", None).commit(0, state(0), {})


def test_a_volume_that_others_have_filled_is_full_not_too_small(
    open_store: Open, disk: MemoryFileSystem, state: State, check: Check
) -> None:
    store = open_store(disk, keep=3)
    writer = store.begin(1, "a", None)
    others = store.path.parent / "others"
    disk.write(others, [bytes(2000)])
    disk.capacity_bytes = 2200
    with pytest.raises(
        VolumeFull,
        match=r"cannot save step 0 of term 1: the volume is full \(200 bytes free of 2.148 KiB, but 3 checkpoints of "
        r"96 bytes need 288 bytes \(keep is 3\)\) at .* remove what other jobs have left there",
    ):
        writer.commit(0, state(0), {})
    assert disk.names(writer.path) == []
    disk.remove(others)
    assert check(store.newest(writer.commit(0, state(0), {}))).ref.step == 0


def test_a_fresh_start_removes_what_earlier_tries_of_its_own_have_left(
    open_store: Open, disk: MemoryFileSystem, state: State, check: Check
) -> None:
    store = open_store(disk, keep=3)
    crashed = store.begin(1, "a", None)
    disk.write(crashed.path / ".tmp-half", [bytes(2000)])
    disk.capacity_bytes = 2200
    writer = store.begin(2, "b", None)
    assert check(store.newest(writer.commit(0, state(0), {}))).ref.step == 0
    assert crashed.path.name not in disk.names(store.path)


def test_with_one_kept_there_is_always_one(open_store: Open, disk: MemoryFileSystem, state: State) -> None:
    writer = open_store(disk, keep=1).begin(1, "a", None)
    for step in (0, 10, 20):
        writer.commit(step, state(step), {})
        assert sorted(disk.names(writer.path)) == ["BASE", f"step-{step}"]


@pytest.mark.parametrize("links", [True, False])
def test_a_volume_with_room_for_one_term_serves_many(open_store: Open, state: State, check: Check, links: bool) -> None:
    disk = MemoryFileSystem(links=links)
    store = open_store(disk, keep=2)
    writer = store.begin(1, "a", None)
    writer.commit(0, state(0), {})
    one = disk_usage(disk, writer.path)
    disk.capacity_bytes = 4 * one
    floor = writer.commit(10, state(10), {})
    for term in range(2, 6):
        writer = store.begin(term, "b", store.newest(floor))
        for step in (1, 2, 3):
            floor = writer.commit(10 * term + step, state(10 * term + step), {})
        assert check(store.newest(floor)).ref == floor


def test_nothing_is_removed_before_what_replaces_it_is_committed(
    open_store: Open, disk: MemoryFileSystem, state: State, check: Check
) -> None:
    writer = open_store(disk, keep=2).begin(1, "a", None)
    for step in (0, 10):
        writer.commit(step, state(step), {})
    disk.damage(writer.path / "step-10" / "state.safetensors", cut_tail)
    disk.capacity_bytes = disk_usage(disk, writer.path)
    with pytest.raises(VolumeFull):
        writer.commit(20, state(20), {})
    assert check(open_store(disk, keep=2).newest()).ref.step == 0


def test_a_volume_with_room_for_no_more_than_is_kept_serves_all_the_same(
    open_store: Open, disk: MemoryFileSystem, state: State
) -> None:
    writer = open_store(disk, keep=2).begin(1, "a", None)
    for step in (0, 10):
        writer.commit(step, state(step), {})
    disk.capacity_bytes = disk_usage(disk, writer.path) + 10
    for step in (20, 30):
        writer.commit(step, state(step), {})
        assert sorted(disk.names(writer.path)) == ["BASE", f"step-{step - 10}", f"step-{step}"]


def disk_usage(disk: MemoryFileSystem, folder: Path) -> int:
    total = 0
    for name in disk.names(folder):
        try:
            total += disk_usage(disk, folder / name)
        except NotADirectoryError:
            total += len(disk.read(folder / name, 1 << 20))
    return total


def test_a_full_volume_costs_the_save_and_nothing_else(
    store: RankStore, disk: MemoryFileSystem, state: State, check: Check
) -> None:
    writer = store.begin(1, "a", None)
    floor = writer.commit(0, state(0), {})
    disk.capacity_bytes = 500
    with pytest.raises(VolumeFull, match=r"cannot save step 10 of term 1: the volume is full .* enlarge the claim"):
        writer.commit(10, state(10), {})
    assert sorted(disk.names(writer.path)) == ["BASE", "step-0"]
    assert check(store.newest(floor)).damaged == ()
    disk.capacity_bytes = None
    assert check(store.newest(writer.commit(20, state(20), {}))).ref.step == 20


def test_a_read_only_volume_is_said(store: RankStore, disk: MemoryFileSystem, state: State) -> None:
    writer = store.begin(1, "a", None)
    ref = writer.commit(0, state(0), {})
    disk.read_only = True
    with pytest.raises(VolumeReadOnly, match="cannot save step 10 of term 1: the volume is mounted read-only"):
        writer.commit(10, state(10), {})
    assert store.load(ref).ref == ref


@pytest.mark.parametrize("links", [True, False])
def test_the_volume_gets_one_id(open_store: Open, links: bool) -> None:
    disk = MemoryFileSystem(links=links)
    one, other = open_store(disk), open_store(disk)
    assert one.volume_id() is None
    created = one.create_volume_id()
    assert other.create_volume_id() == created == other.volume_id()
    disk.damage(one.path / "VOLUME", bytearray.clear)
    assert one.volume_id() is None
    assert other.create_volume_id() == one.volume_id() != created


def test_the_same_pod_goes_on_in_its_own_term(
    store: RankStore, disk: MemoryFileSystem, state: State, check: Check
) -> None:
    writer = store.begin(1, "a", None)
    floor = writer.commit(10, state(10), {})
    again = store.begin(1, "a", store.newest(floor))
    assert again.newest == floor
    last = again.commit(20, state(20), {})
    assert check(store.newest(last)).ref == last
    assert sorted(disk.names(again.path)) == ["BASE", "step-10", "step-20"]
