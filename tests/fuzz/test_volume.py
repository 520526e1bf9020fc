"""Whatever lies on a volume, a reader returns values within their bounds, or one of its own errors.

Contents are sealed, so that they pass the digest and reach the decoders: whoever writes on a volume can seal.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from understudy.checkpoint import RankStore
from understudy.checkpoint.folder import BASE, RankFolder
from understudy.checkpoint.format import MANIFEST, STATE, State, read
from understudy.checkpoint.layout import STEP_MAX, step_of, term_of
from understudy.checkpoint.lineage import TermFolder
from understudy.checkpoint.marks import MARK, Mark, earlier_jobs, leave_mark
from understudy.errors import CheckpointDamaged, UnderstudyError
from understudy_contract.bounds import TERM_MAX
from understudy_contract.reports import CheckpointRef

from tests.fuzz.strategies import fuzz
from tests.memory_volume import MemoryFileSystem

ROOT = Path("/volume")
STEP = ROOT / "job" / "rank-0" / "term-9-a" / "step-7"
OURS = Mark("2026-01-03T00:00:00Z", "digits")

numbers = st.one_of(
    st.integers(-2, 12), st.integers(), st.sampled_from([2**31 - 1, 2**31, 2**53, 2**63, 2**64, 10**400]), st.floats()
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
shapes = st.lists(st.one_of(st.integers(-1, 4), numbers), max_size=4)
crcs = st.one_of(st.just(0), numbers)
tensors = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        values,
        st.fixed_dictionaries(
            {"dtype": st.sampled_from(["F32", "BF16", "BOOL", "F8_E5M2", "F99", ""]), "shape": shapes, "crc32": crcs}
        ),
    ),
    max_size=3,
)
refs = st.one_of(
    values,
    st.fixed_dictionaries({"term": numbers, "step": numbers, "digest": st.one_of(st.just("a" * 64), st.text())}),
)
lines = st.one_of(values, st.lists(refs, max_size=70))
manifests = st.fixed_dictionaries(
    {
        "version": st.one_of(st.just(1), values),
        "term": st.one_of(st.just(9), numbers, values),
        "step": st.one_of(st.just(7), numbers, values),
        "pod": st.one_of(st.text(max_size=9), values),
        "line": st.one_of(st.just([]), lines),
        "tensors": st.one_of(tensors, values),
        "extra": st.one_of(st.dictionaries(st.text(max_size=9), values, max_size=3), values),
    }
)
raw = st.one_of(
    st.binary(max_size=300),
    st.integers(1, 20_000).map(lambda depth: b"[" * depth),
    st.integers(1, 5_000).map(lambda depth: b'{"a":' * depth + b"0" + b"}" * depth),
)


def sealed(body: bytes) -> bytes:
    """Seal any content, as anybody can."""
    body = body.removesuffix(b"}")
    return body + b',"digest":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def files(value: Any) -> bytes:
    return sealed(json.dumps(value).encode(errors="surrogatepass"))


contents = st.one_of(raw, raw.map(sealed), values.map(files))


def volume(path: Path, *written: tuple[str, bytes]) -> MemoryFileSystem:
    """A volume with these files in a folder."""
    fs = MemoryFileSystem()
    for folder in reversed([path, *path.parents][:-1]):
        fs.make_folder(folder)
    for name, content in written:
        fs.write(path / name, [content])
    return fs


def require_bounded(ref: CheckpointRef) -> None:
    assert 0 <= ref.term <= TERM_MAX
    assert 0 <= ref.step <= STEP_MAX
    assert len(ref.digest) == 64


@given(manifest=st.one_of(manifests.map(files), contents), state=st.binary(max_size=200))
@fuzz
def test_any_manifest_is_a_checkpoint_within_bounds_or_damaged(manifest: bytes, state: bytes) -> None:
    try:
        found = read(volume(STEP, (MANIFEST, manifest), (STATE, state)), STEP)
    except CheckpointDamaged as error:
        assert str(error).isprintable()
        return
    assert found.ref.step == 7
    for ref in (found.ref, *found.line):
        require_bounded(ref)


@given(st.data())
@fuzz
def test_any_state_beside_a_whole_manifest_is_that_state_or_damaged(data: st.DataObject) -> None:
    arrays = {"w": np.arange(6, dtype=np.float32), "b": np.ones(3, bool)}
    state = State(arrays)
    whole = b"".join(bytes(chunk) for chunk in state.chunks())
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
    other = whole[:start] + data.draw(st.binary(max_size=40)) + whole[stop:]
    entries = {name: {"dtype": t.dtype, "shape": t.shape, "crc32": t.crc32} for name, t in state.tensors.items()}
    manifest = {"term": 9, "step": 7, "pod": "a", "tensors": entries, "extra": {}}
    try:
        found = read(volume(STEP, (MANIFEST, files(manifest)), (STATE, other)), STEP)
    except CheckpointDamaged:
        assert other != whole
        return
    assert other == whole
    assert all(np.array_equal(found.tensors[name], array) for name, array in arrays.items())


@given(base=st.one_of(contents, st.fixed_dictionaries({"term": numbers, "pod": st.text(), "line": lines}).map(files)))
@fuzz
def test_any_base_is_a_line_within_bounds(base: bytes) -> None:
    folder = RankFolder(ROOT, "job", 0, volume(STEP.parent, (BASE, base)))
    for ref in folder.line_of(TermFolder(9, "a", STEP.parent, counts=True, steps=())):
        require_bounded(ref)


@given(
    mark=st.one_of(
        contents,
        st.fixed_dictionaries(
            {
                "created": st.one_of(st.just("2026-01-01T00:00:00Z"), st.text(max_size=30)),
                "name": st.one_of(st.just("digits"), st.text(max_size=9)),
                "ranks": numbers,
                "namespace": st.one_of(st.just(""), st.text(max_size=9)),
            }
        ).map(files),
    )
)
@fuzz
def test_any_mark_is_one_that_a_job_can_have_left_or_nobodys(mark: bytes) -> None:
    fs = volume(ROOT / "other", (MARK, mark))
    for uid, found in earlier_jobs(ROOT, "own", OURS, fs):
        assert (uid, found.name) == ("other", "digits")
        assert 0 <= found.ranks < 2**31
        assert len(found.created) == 20
    leave_mark(ROOT, "other", OURS, fs)
    assert earlier_jobs(ROOT, "own", Mark("2026-01-04T00:00:00Z", "digits"), fs) == [("other", OURS)]


@given(content=contents)
@fuzz
def test_any_volume_id_is_one_or_none(content: bytes) -> None:
    store = RankStore(ROOT, "job", 0, keep=1, fs=volume(STEP.parents[1], ("VOLUME", content)))
    found = store.volume_id()
    assert found is None or (len(found) == 32 and found.isalnum())
    assert store.create_volume_id() == (found or store.volume_id())


file_names = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=60).filter(lambda n: n not in "..")
term_names = st.builds("term-{}-{}".format, st.one_of(numbers, st.text("0123456789", max_size=30)), file_names)
step_names = st.builds("step-{}".format, st.one_of(numbers, st.text("0123456789", max_size=30), file_names))


@given(st.one_of(file_names, term_names, step_names))
@fuzz
def test_a_name_is_one_of_ours_exactly_or_none(name: str) -> None:
    if (term := term_of(name)) is not None:
        assert name == f"term-{term[0]}-{term[1]}"
        assert name.isascii() and name.isprintable()
    if (step := step_of(name)) is not None:
        assert name == f"step-{step}"
        assert step <= STEP_MAX


# A whole volume, on a real disk

TERM, OLDER = "job/rank-0/term-3-pod", "job/rank-0/term-1-old"
PLACES = (
    "job", "job/JOB", "job/rank-0", "job/rank-0/VOLUME", "job/rank-0/.tmp-gone-x", "job/rank-0/term-2147483647-x",
    "job/rank-0/term-2-x", "job/rank-0/term-2-x/BASE", "job/rank-0/term-2-x/step-9",
    "job/rank-0/term-2-x/step-9/manifest.json",
    OLDER, f"{OLDER}/BASE", f"{OLDER}/step-5", f"{OLDER}/step-5/manifest.json", f"{OLDER}/step-5/state.safetensors",
    TERM, f"{TERM}/BASE", f"{TERM}/.tmp-BASE", f"{TERM}/.tmp-step-10", f"{TERM}/.tmp-step-10/state.safetensors",
    f"{TERM}/step-10", f"{TERM}/step-999999999999999", f"{TERM}/final", f"{TERM}/final/.tmp-model",
    f"{TERM}/final/model", "other", "other/JOB",
)  # fmt: skip
THINGS = ("folder", "empty", "rubbish", "pipe", "link out", "dangling", "sparse")


def put(root: Path, place: str, thing: str) -> None:
    """Put a thing there, unless something is in its way."""
    path = root / place
    if os.path.lexists(path) or any(parent.is_symlink() for parent in path.parents):
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        match thing:
            case "folder":
                (path / "deeper" / "still").mkdir(parents=True)
            case "empty":
                path.touch()
            case "rubbish":
                path.write_bytes(files({"line": [], "tensors": {}}))
            case "pipe":
                os.mkfifo(path)
            case "link out":
                path.symlink_to(root.parent / "outside")
            case "dangling":
                path.symlink_to(root / "nowhere")
            case "sparse":
                path.touch()
                os.truncate(path, 1 << 40)


@contextlib.contextmanager
def outside(root: Path) -> Iterator[None]:
    """A folder beside the volume that must stay as it is."""
    folder = root.parent / "outside"
    (folder / "step-10").mkdir(parents=True)
    (folder / "step-10" / MANIFEST).write_text("precious")
    (folder / "keep").write_text("precious")
    yield
    assert sorted(path.name for path in folder.rglob("*")) == ["keep", MANIFEST, "step-10"]
    assert {path.read_text() for path in folder.rglob("*") if path.is_file()} == {"precious"}


def tried(call: Any) -> None:
    """Call; the store's own errors, one clean line each, are an answer."""
    try:
        call()
    except UnderstudyError as error:
        assert str(error).isprintable()


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(THINGS)), max_size=6), st.booleans())
@fuzz
def test_whatever_lies_on_a_volume_a_job_trains_or_says_why_and_harms_nobody(
    planted: list[tuple[str, str]], begun: bool
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "root"
        root.mkdir()
        with outside(root):
            store = RankStore(root, "job", 0, keep=1, sleep=lambda _: None, clock=lambda: 0.0)
            if begun:
                store.begin(1, "old", None).commit(5, {"w": np.arange(3)}, {})
            for place, thing in planted:
                put(root, place, thing)
            store.know_term(3)
            for call in (store.peek, store.volume_id, store.create_volume_id, store.foreign, store.highest_term):
                tried(call)
            tried(lambda: (leave_mark(root, "job", OURS), earlier_jobs(root, "own", OURS)))
            tried(lambda: train(store))
            tried(lambda: store.newest(wait_s=0))


def train(store: RankStore) -> None:
    writer = store.begin(3, "pod", store.newest(wait_s=0))
    for step in (10, 20):
        ref = writer.commit(step, {"w": np.arange(step)}, {})
        assert store.load(ref).tensors["w"].tolist() == list(range(step))
    writer.publish_final("model", lambda path: path.write_bytes(b"model") and None)  # type: ignore[arg-type,func-returns-value]
    assert (writer.path / "final" / "model").read_bytes() == b"model"
