"""A volume that somebody else writes on, too: links, pipes, sparse files, forged terms and marks."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from understudy.checkpoint import Checkpoint, RankStore
from understudy.checkpoint.disk import Disk
from understudy.checkpoint.filesystem import TREE_LEVELS_MAX, NotAFile, remove_tree
from understudy.checkpoint.folder import BASE
from understudy.checkpoint.format import MANIFEST, MANIFEST_MAX_BYTES, STATE, Manifest, Tensor, seal
from understudy.checkpoint.layout import STEP_MAX, step_of
from understudy.checkpoint.marks import MARK, Mark, earlier_jobs, leave_mark
from understudy.errors import CheckpointDamaged, Superseded, VolumeFailed
from understudy_contract.bounds import TERM_MAX
from understudy_contract.reports import CheckpointRef
from understudy_contract.terms import TERM_CEILING, TERM_LEAP_MAX

State = Callable[[int], Any]
Open = Callable[..., RankStore]
Check = Callable[[Checkpoint | None], Checkpoint]

NOW = Mark("2026-01-03T00:00:00Z", "digits")
EARLIER = Mark("2026-01-01T00:00:00Z", "digits")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The volume's root; beside it lies what is none of the volume's business."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def treasure(tmp_path: Path) -> Iterator[Path]:
    """A folder of others, on another volume, which must be left as it is."""
    folder = tmp_path / "treasure"
    (folder / "term-1-a" / "step-10").mkdir(parents=True)
    files = [folder / "keep", folder / "term-1-a" / "keep", folder / "term-1-a" / "step-10" / MANIFEST]
    for file in files:
        file.write_text("precious")
    yield folder
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(files)
    assert all(file.read_text() == "precious" for file in files)


@pytest.fixture
def store(root: Path, open_store: Open) -> RankStore:
    """Keeps one checkpoint, so that the next commit prunes."""
    return open_store(root=root, keep=1)


def plant(folder: Path, manifest: Manifest, state: bytes = b"") -> None:
    """Put a sealed manifest where a checkpoint belongs."""
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(seal(manifest)[0])
    (folder / STATE).write_bytes(state)


def forged(**fields: Any) -> Manifest:
    values: dict[str, Any] = {"term": 1, "step": 30, "pod": "a", "tensors": {}, "extra": {}} | fields
    return Manifest(**values)


# Links


def test_pruning_removes_a_link_and_leaves_what_it_points_to(
    store: RankStore, treasure: Path, state: State, check: Check
) -> None:
    first = store.begin(1, "a", None)
    first.commit(10, state(10), {})
    second = store.begin(2, "b", check(store.newest()))
    (store.path / "term-1-x").symlink_to(treasure)
    (store.path / ".tmp-gone-term-1-y").symlink_to(treasure)
    (first.path / "step-5").symlink_to(treasure / "term-1-a")
    (first.path / "deeper").mkdir()
    (first.path / "deeper" / "link").symlink_to(treasure)
    for step in (20, 30):
        second.commit(step, state(step), {})
    assert sorted(path.name for path in store.path.iterdir()) == ["term-2-b"]


def test_a_sweep_removes_links_and_enters_none(store: RankStore, treasure: Path, state: State) -> None:
    writer = store.begin(1, "a", None)
    for name in (".tmp-step-10", ".tmp-BASE", ".tmp-else", "step-7", BASE):
        (writer.path / name).symlink_to(treasure)
    writer.commit(10, state(10), {})
    assert sorted(path.name for path in writer.path.iterdir()) == [BASE, "step-10"]


@pytest.mark.parametrize("at", ["job", "job/rank-0", "job/rank-0/term-1-a"])
def test_no_folder_is_entered_through_a_link(
    root: Path, store: RankStore, treasure: Path, state: State, at: str
) -> None:
    (root / at).parent.mkdir(parents=True, exist_ok=True)
    (root / at).symlink_to(treasure)
    assert store.peek() is None
    assert store.newest(wait_s=0) is None
    with pytest.raises(VolumeFailed, match=r"Understudy did not make is in the way .* move it away"):
        store.create_volume_id()
        store.begin(1, "a", None).commit(10, state(10), {})


def test_a_folder_that_becomes_a_link_amid_its_removal_leads_nowhere(root: Path, treasure: Path) -> None:
    class Swapped(Disk):
        """Swaps the folder for a link between the look into it and the first removal."""

        def remove(self, path: Path) -> None:
            folder = root / "folder"
            if not folder.is_symlink():
                folder.rename(root / "elsewhere")
                folder.symlink_to(treasure)
            super().remove(path)

    (root / "folder").mkdir()
    (root / "folder" / "keep").touch()
    with pytest.raises(NotADirectoryError):
        remove_tree(Swapped(root), root / "folder")


def test_the_root_itself_may_be_a_link(tmp_path: Path, root: Path, open_store: Open, state: State) -> None:
    (tmp_path / "link").symlink_to(root)
    store = open_store(root=tmp_path / "link")
    assert store.create_volume_id() == store.volume_id()
    ref = store.begin(1, "a", None).commit(10, state(10), {})
    assert open_store(root=root).load(ref).ref == ref


def test_the_trained_model_is_not_written_through_a_link(store: RankStore, treasure: Path, state: State) -> None:
    writer = store.begin(1, "a", None)
    writer.commit(10, state(10), {})
    (writer.path / "final").symlink_to(treasure)
    with pytest.raises(VolumeFailed, match="is in the way"):
        writer.publish_final("keep", lambda path: path.write_text("model") and None)  # type: ignore[arg-type,func-returns-value]


# What is no file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def socket_at(path: Path) -> None:
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path.name)


def folder(path: Path) -> None:
    (path / "in").mkdir(parents=True)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def endless(path: Path) -> None:
    """Make a sparse file of a terabyte."""
    path.touch()
    os.truncate(path, 1 << 40)


ODD = pytest.mark.parametrize("make", [pipe, socket_at, folder, link, endless])


@pytest.fixture(autouse=True)
def _back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@ODD
def test_a_job_is_marked_whatever_lies_in_the_place_of_its_mark(root: Path, make: Callable[[Path], None]) -> None:
    for uid in ("own", "other"):
        (root / uid).mkdir()
        make(root / uid / MARK)
    assert earlier_jobs(root, "own", NOW) == []
    leave_mark(root, "own", NOW)
    assert earlier_jobs(root, "later", Mark("2026-01-04T00:00:00Z", "digits")) == [("own", NOW)]


@ODD
def test_a_volume_gets_its_id_whatever_lies_in_its_place(store: RankStore, make: Callable[[Path], None]) -> None:
    store.path.mkdir(parents=True)
    make(store.path / "VOLUME")
    assert store.volume_id() is None
    assert store.create_volume_id() == store.volume_id()


@ODD
@pytest.mark.parametrize("file", [MANIFEST, STATE])
def test_what_is_no_file_is_a_damaged_checkpoint(
    root: Path, open_store: Open, state: State, check: Check, make: Callable[[Path], None], file: str
) -> None:
    store = open_store(root=root, keep=2)
    writer = store.begin(1, "a", None)
    older = writer.commit(10, state(10), {})
    newer = writer.commit(20, state(20), {})
    (writer.path / "step-20" / file).unlink()
    make(writer.path / "step-20" / file)
    with pytest.raises(CheckpointDamaged, match=file):
        store.load(newer)
    found = check(store.newest())
    assert (found.ref, len(found.damaged)) == (older, 1)


@ODD
def test_a_term_is_read_whatever_lies_in_the_place_of_its_base(
    root: Path, open_store: Open, state: State, check: Check, make: Callable[[Path], None]
) -> None:
    store = open_store(root=root, keep=2)
    writer = store.begin(1, "a", None)
    ref = writer.commit(10, state(10), {})
    second = store.begin(2, "b", check(store.newest()))
    floor = second.commit(20, state(20), {})
    (second.path / BASE).unlink()
    make(second.path / BASE)
    assert check(store.newest(floor)).line == (ref,)


def test_a_file_is_not_read_through_a_link(root: Path) -> None:
    (root / "file").write_text("content")
    (root / "link").symlink_to(root / "file")
    with pytest.raises(NotAFile, match="a symbolic link, and no file"):
        Disk(root).read(root / "link", 100)


def test_a_pipe_is_not_waited_for(root: Path) -> None:
    pipe(root / "pipe")
    outcome: list[Exception] = []

    def reads() -> None:
        try:
            Disk(root).read(root / "pipe", 1)
        except NotAFile as error:
            outcome.append(error)

    reader = threading.Thread(target=reads, daemon=True)
    reader.start()
    reader.join(60)
    assert str(outcome[0]).count("a pipe, and no file") == 1


def test_a_folder_that_is_nested_too_deep_stays_and_stops_no_save(store: RankStore, state: State) -> None:
    writer = store.begin(1, "a", None)
    writer.path.joinpath(".tmp-deep", *["deeper"] * 2 * TREE_LEVELS_MAX).mkdir(parents=True)
    writer.commit(10, state(10), {})
    last = writer.commit(20, state(20), {})
    assert store.peek() == last
    assert (writer.notices, (writer.path / ".tmp-deep").is_dir()) == ([], True)


# Numbers and shapes


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"step": 2**63}, "step"),
        ({"step": -1}, "step"),
        ({"step": STEP_MAX + 1}, "step"),
        ({"step": 29}, "step 29"),
        ({"term": TERM_MAX + 1}, "term"),
        ({"term": TERM_MAX}, "a later term"),
        ({"line": (CheckpointRef(1, 2, "no digest"),)}, "base"),
        ({"line": (CheckpointRef(2**31, 2, "a" * 64),)}, "base"),
        ({"line": (CheckpointRef(1, 2**63, "a" * 64),)}, "base"),
        ({"line": (CheckpointRef(1, 2, "a" * 64),) * 65}, "65 bases"),
        ({"tensors": {"w": Tensor("F32", (-1,), 0)}}, "shape"),
        ({"tensors": {"w": Tensor("F32", (2**62,), 0)}}, "shape"),
        ({"tensors": {"w": Tensor("F32", (2**40, 2**40), 0)}}, "memory"),
        ({"tensors": {"w": Tensor("F32", (1,) * 33, 0)}}, "shape"),
        ({"tensors": {"w": Tensor("F99", (1,), 0)}}, "F99"),
        ({"tensors": {"w\n\x1b[31m": Tensor("F32", (1,), 0)}}, "header"),
    ],
)
def test_a_manifest_that_nobody_can_have_saved_is_damage(
    root: Path, open_store: Open, state: State, check: Check, fields: dict[str, Any], what: str
) -> None:
    store = open_store(root=root)
    writer = store.begin(1, "a", None)
    ref = writer.commit(10, state(10), {})
    plant(writer.path / "step-30", forged(**fields))
    found = check(store.newest())
    assert found.ref == ref
    assert what in found.damaged[0]
    assert found.damaged[0].isprintable()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\udcff", "9" * 100_000, "1e999999"])
def test_json_that_is_too_deep_or_no_json_is_damage(
    root: Path, open_store: Open, state: State, check: Check, text: str
) -> None:
    store = open_store(root=root)
    writer = store.begin(1, "a", None)
    ref = writer.commit(10, state(10), {})
    plant(writer.path / "step-30", forged(extra={"a": msgspec.Raw(text.encode(errors="surrogateescape"))}))
    found = store.newest()
    assert check(found).ref == ref


def test_a_manifest_that_no_reader_would_take_is_not_written(store: RankStore, state: State) -> None:
    writer = store.begin(1, "a", None)
    with pytest.raises(ValueError, match="keep large values as tensors"):
        writer.commit(10, state(10), {"history": "x" * MANIFEST_MAX_BYTES})


def test_names_of_steps_beyond_all_bounds_are_no_steps(store: RankStore, state: State) -> None:
    writer = store.begin(1, "a", None)
    odd = [f"step-{2**63}", "step-" + "9" * 200, "step-01", "step-²"]
    for name in odd:
        (writer.path / name).mkdir()
    ref = writer.commit(10, state(10), {})
    assert store.peek() == ref
    assert [step_of(name) for name in odd] == [None] * 4
    with pytest.raises(ValueError, match="is above"):
        writer.commit(STEP_MAX + 1, state(20), {})


# Terms


@pytest.mark.parametrize("term", [2**31 - 1, TERM_CEILING, 3 + TERM_LEAP_MAX + 1, 10**9])
def test_a_term_that_the_rank_cannot_have_had_is_passed_over_and_told(
    store: RankStore, state: State, check: Check, term: int
) -> None:
    store.know_term(3)
    first = store.begin(3, "a", None)
    planted = store.path / f"term-{term}-x"
    planted.mkdir()
    (planted / BASE).touch()
    (planted / "step-99").mkdir()
    ref = first.commit(10, state(10), {})
    assert check(store.newest(ref)).ref == ref
    assert store.begin(4, "b", check(store.newest(ref))).commit(20, state(20), {}).term == 4
    sentence = store.foreign()
    assert sentence is not None
    assert f"term-{term}-x (a term that this rank cannot have had, whose own is 3)" in sentence
    assert "remove them" in sentence


def test_a_term_that_a_restored_etcd_may_have_forgotten_still_counts(store: RankStore) -> None:
    store.know_term(3)
    (store.path / f"term-{3 + TERM_LEAP_MAX}-x").mkdir(parents=True)
    assert store.foreign() is None
    with pytest.raises(Superseded) as superseded:
        store.begin(3, "a", None)
    assert superseded.value.term == 3 + TERM_LEAP_MAX
    assert not store.is_free(3, "a")


def test_before_any_term_is_known_none_is_above_the_ceiling(store: RankStore) -> None:
    store.path.mkdir(parents=True)
    for name in (f"term-{TERM_MAX}-x", f"term-{TERM_CEILING + 1}-x", "term-99999999999999-x", "term-7-x", "term-8-\n"):
        (store.path / name).mkdir()
    assert store.highest_term() == 7


def test_what_only_bears_a_terms_name_is_told_in_one_line(store: RankStore, treasure: Path) -> None:
    store.path.mkdir(parents=True)
    (store.path / "term-1-x").symlink_to(treasure)
    pipe(store.path / "term-2-y")
    (store.path / "term-3-z").mkdir()
    sentence = store.foreign()
    assert sentence is not None
    assert "term-1-x (a link or a file in place of a folder), term-2-y (a link" in sentence
    assert "term-3-z" not in sentence


# Marks


@pytest.mark.parametrize(
    "mark",
    [
        Mark("2026-01-01T00:00:00Z\n", "digits"),
        Mark("", "digits"),
        Mark("2026-01-01T00:00:00Z", "digits", -1),
        Mark("2026-01-01T00:00:00Z", "digits", 2**63),
    ],
)
def test_a_mark_that_no_job_can_have_left_is_nobodys(root: Path, mark: Mark) -> None:
    (root / "forged").mkdir()
    (root / "forged" / MARK).write_bytes(seal(mark)[0])
    assert earlier_jobs(root, "own", NOW) == []


def test_a_folder_whose_name_is_no_uid_is_nobodys(root: Path) -> None:
    for name in ("\x1b[31m", "two words", "x" * 65, os.fsdecode(b"\xff")):
        (root / name).mkdir()
        leave_mark(root, name, EARLIER)
    assert earlier_jobs(root, "own", NOW) == []


# What is said


def test_a_name_from_the_volume_steers_no_terminal(store: RankStore) -> None:
    error = CheckpointDamaged("step \x1b[31m\n\udcff is damaged", ("a\nb",))
    assert str(error) == "step \ufffd is damaged"
    assert error.problems == ("a b",)
    assert len(str(VolumeFailed("x" * 10_000))) <= 2000
