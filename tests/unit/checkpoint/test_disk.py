"""The same on a real disk, and the file format itself."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from understudy.checkpoint import Checkpoint, RankStore
from understudy.checkpoint.disk import Disk
from understudy.errors import CheckpointDamaged, VolumeFailed

State = Callable[[int], Any]
Open = Callable[..., RankStore]
Check = Callable[[Checkpoint | None], Checkpoint]


class DiskWithoutLinks(Disk):
    def link(self, source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(target))


@pytest.mark.parametrize("kind", [Disk, DiskWithoutLinks], ids=["hard links", "copies"])
def test_terms_follow_each_other(
    tmp_path: Path, open_store: Open, state: State, check: Check, kind: type[Disk]
) -> None:
    disk = kind(tmp_path / "deep" / "root")
    store = open_store(disk, tmp_path / "deep" / "root")
    assert store.create_volume_id() == store.volume_id()
    first = store.begin(1, "a", None)
    first.commit(0, state(0), {})
    base = check(store.newest(first.commit(10, state(10), {})))
    second = store.begin(2, "b", base)
    floor = second.commit(20, state(20), {"seed": np.int64(3)})
    assert check(store.newest(floor)).extra == {"seed": 3}
    source, copy = (writer.path / "step-10" / "state.safetensors" for writer in (first, second))
    assert copy.read_bytes() == source.read_bytes()
    assert copy.samefile(source) == (kind is Disk)
    last = second.commit(30, state(30), {})
    assert sorted(disk.names(store.path)) == ["VOLUME", "term-2-b"]
    assert sorted(disk.names(second.path)) == ["BASE", "step-20", "step-30"]
    assert store.peek(floor) == last == store.load(last).ref


def test_a_base_that_is_gone_by_the_first_commit_is_done_without(
    tmp_path: Path, open_store: Open, state: State, check: Check
) -> None:
    store = open_store(DiskWithoutLinks(tmp_path), tmp_path)
    first = store.begin(1, "a", None)
    base = check(store.newest(first.commit(10, state(10), {})))
    second = store.begin(2, "b", base)
    (first.path / "step-10").rename(tmp_path / "elsewhere")
    floor = second.commit(20, state(20), {})
    assert check(store.newest(floor)).line == (base.ref,)


def test_a_torn_file_on_disk_is_found(tmp_path: Path, open_store: Open, state: State) -> None:
    store = open_store(root=tmp_path)
    writer = store.begin(1, "a", None)
    ref = writer.commit(10, state(10), {})
    path = writer.path / "step-10" / "state.safetensors"
    size = path.stat().st_size
    os.truncate(path, size - 8)
    os.truncate(path, size)
    with pytest.raises(CheckpointDamaged, match="checksum"):
        store.load(ref)


def test_a_removed_folder_is_said(tmp_path: Path, open_store: Open, state: State) -> None:
    store = open_store(root=tmp_path)
    writer = store.begin(1, "a", None)
    writer.commit(10, state(10), {})
    writer.path.rename(tmp_path / "elsewhere")
    with pytest.raises(VolumeFailed, match="is missing on the volume"):
        writer.commit(20, state(20), {})


def test_the_trained_model_appears_whole(tmp_path: Path, open_store: Open, state: State) -> None:
    writer = open_store(root=tmp_path).begin(1, "a", None)
    writer.commit(10, state(10), {})
    for content in (b"first", b"second"):
        path = writer.publish_final("model.keras", lambda path, content=content: path.write_bytes(content) and None)  # type: ignore[misc]
        assert path == writer.path / "final" / "model.keras"
        assert path.read_bytes() == content
    assert Disk(tmp_path).names(path.parent) == ["model.keras"]


TENSORS = {
    **{
        kind: np.arange(6).reshape(2, 3).astype(kind)
        for kind in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8")
    },
    "scalar": np.array(3, np.int64),
    "empty": np.zeros((0, 4), np.float32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "big endian": np.arange(3).astype(">f4"),
    "name with / and ünïcode": np.ones(1, np.uint8),
}


def test_any_tensor_of_numbers_comes_back_and_others_can_read_it(tmp_path: Path, open_store: Open) -> None:
    store = open_store(root=tmp_path)
    writer = store.begin(1, "a", None)
    found = store.load(writer.commit(0, TENSORS, {}))
    theirs = safetensors.numpy.load_file(writer.path / "step-0" / "state.safetensors")
    assert found.tensors.keys() == TENSORS.keys() == theirs.keys()
    for name, tensor in TENSORS.items():
        assert np.array_equal(found.tensors[name], tensor), name
        assert np.array_equal(theirs[name], tensor), name
        assert found.tensors[name].shape == tensor.shape
        assert found.tensors[name].flags.writeable
        assert found.tensors[name].flags.aligned


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_narrow_floats_come_back(tmp_path: Path, open_store: Open, kind: type) -> None:
    store = open_store(root=tmp_path)
    tensor = np.linspace(-2, 2, 7).astype(kind)
    found = store.load(store.begin(1, "a", None).commit(0, {"weights": tensor}, {}))
    assert found.tensors["weights"].dtype == tensor.dtype
    assert found.tensors["weights"].tobytes() == tensor.tobytes()


def test_what_is_no_number_is_refused(tmp_path: Path, open_store: Open) -> None:
    writer = open_store(root=tmp_path).begin(1, "a", None)
    with pytest.raises(TypeError, match=r"tensor 'names' has dtype <U3: .* extra state"):
        writer.commit(0, {"names": np.array(["abc"])}, {})
