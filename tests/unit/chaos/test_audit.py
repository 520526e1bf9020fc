"""The audit of a volume, on folders as workers leave them."""

from pathlib import Path

import numpy as np
from understudy.checkpoint import RankStore
from understudy.checkpoint.folder import BASE, encode_base

from chaos.target import Target
from chaos.volume_audit import Audit, damage, newest, newest_step, readable

SOLO = Target("solo", 0)


def commit(root: Path, term: int, steps: dict[int, float], *, base: bool = False) -> RankStore:
    """Let a term commit states that are told apart by one number."""
    store = RankStore(root, "job", 0, keep=10)
    writer = store.begin(term, f"pod-{term}", store.newest(wait_s=0) if base else None)
    for step, value in steps.items():
        writer.commit(step, {"value": np.full(4, value)}, {})
    return store


def test_equal_states_of_one_step_in_two_terms_are_sound(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0, 20: 2.0})
    audit = Audit()
    audit.look(SOLO, store.path)
    commit(tmp_path, 2, {30: 3.0}, base=True)
    audit.look(SOLO, store.path)
    assert audit.wrong == []
    assert audit.compared == 0, "the base is the very same file"
    assert newest_step(store.path) == 30
    assert readable(SOLO, tmp_path, "job", 30) == []


def test_a_step_that_is_found_again_with_other_tensors_is_told(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0})
    base = store.newest(wait_s=0)
    commit(tmp_path, 1, {20: 2.0})
    store.begin(2, "pod-2", base).commit(20, {"value": np.full(4, 2.5)}, {})
    audit = Audit()
    for _ in range(2):
        audit.look(SOLO, store.path)
    assert audit.compared == 1
    assert audit.wrong == ["step 20 of solo/0 has other tensors in term-1-pod-1/step-20 than in term-2-pod-2/step-20"]


def test_what_a_superseded_writer_adds_may_be_passed_over(tmp_path: Path) -> None:
    audit, store = Audit(), commit(tmp_path, 1, {10: 1.0, 20: 2.0})
    audit.look(SOLO, store.path)
    base = store.newest(wait_s=0)
    commit(tmp_path, 1, {30: 3.0, 40: 4.0})  # before it can see that term 2 has begun
    writer = store.begin(2, "pod-2", base)
    audit.look(SOLO, store.path)
    for step in (30, 40):
        writer.commit(step, {"value": np.full(4, step / 10)}, {})
        audit.look(SOLO, store.path)
    assert audit.wrong == []
    assert audit.compared == 2


def test_a_term_need_not_go_on_from_the_one_before_and_older_ones_may_go(tmp_path: Path) -> None:
    audit, store = Audit(), RankStore(tmp_path, "job", 0, keep=2)
    for term in range(1, 12):
        writer = store.begin(term, f"pod-{term}", store.newest(wait_s=0))
        for step in range(term % 3):  # every third one is lost before it counts
            writer.commit(100 * term + step, {"value": np.full(4, step)}, {})
            audit.look(SOLO, store.path)
    assert audit.wrong == []
    assert len(list(store.path.glob("term-*"))) < 5


def test_a_successor_that_passes_over_what_counted_is_told_though_its_tensors_are_right(tmp_path: Path) -> None:
    audit, store = Audit(), commit(tmp_path, 1, {10: 1.0})
    base = store.newest(wait_s=0)
    commit(tmp_path, 1, {20: 2.0})
    audit.look(SOLO, store.path)
    store.begin(2, "pod-2", base).commit(20, {"value": np.full(4, 2.0)}, {})
    for _ in range(2):
        audit.look(SOLO, store.path)
    assert audit.wrong == ["step 20 of term 1 of solo/0 counted, and is no ancestor of term-2-pod-2"]


def test_a_term_that_counted_and_is_left_out_by_the_next_is_told(tmp_path: Path) -> None:
    audit, store = Audit(), commit(tmp_path, 1, {10: 1.0})
    base = store.newest(wait_s=0)
    store.begin(2, "pod-2", base).commit(20, {"value": np.full(4, 2.0)}, {})
    audit.look(SOLO, store.path)
    store.begin(3, "pod-3", base).commit(20, {"value": np.full(4, 2.0)}, {})
    audit.look(SOLO, store.path)
    assert audit.wrong == ["step 20 of term 2 of solo/0 counted, and is no ancestor of term-3-pod-3"]


def test_a_step_up_to_that_of_the_base_counts_in_the_term_of_the_base_alone(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0})
    base = store.newest(wait_s=0)
    commit(tmp_path, 1, {20: 2.0})
    later = store.newest(wait_s=0)
    assert later is not None
    store.begin(2, "pod-2", base).commit(20, {"value": np.full(4, 2.0)}, {})
    (store.path / "term-2-pod-2" / BASE).write_bytes(encode_base(2, "pod-2", (later.ref, *later.line)))
    audit = Audit()
    audit.look(SOLO, store.path)
    assert audit.wrong == ["term-2-pod-2/step-20 of solo/0 was committed by a term that goes on from step 20 of term 1"]


def test_two_pods_that_make_one_term_count_are_told(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0})
    other = RankStore(tmp_path, "other", 0, keep=10)
    other.begin(1, "pod-2", None).commit(10, {"value": np.full(4, 1.0)}, {})
    (other.path / "term-1-pod-2").rename(store.path / "term-1-pod-2")
    audit = Audit()
    audit.look(SOLO, store.path)
    assert audit.wrong == ["term 1 of solo/0 counts in term-1-pod-2 and in term-1-pod-1"]


def test_damage_excuses_a_successor_that_passes_over_what_counted(tmp_path: Path) -> None:
    audits, store = (Audit(), Audit()), commit(tmp_path, 1, {10: 1.0, 20: 2.0})
    for audit in audits:
        audit.look(SOLO, store.path)
    victim = newest(store.path)
    assert victim is not None
    known = {damage(victim)}
    commit(tmp_path, 2, {30: 3.0}, base=True)
    audits[0].look(SOLO, store.path, known)
    audits[1].look(SOLO, store.path)
    assert audits[0].wrong == []
    assert "step 20 of term 1 of solo/0 counted, and is no ancestor of term-2-pod-2" in audits[1].wrong


def test_a_newest_checkpoint_that_is_not_the_wanted_one_is_told(tmp_path: Path) -> None:
    commit(tmp_path, 1, {10: 1.0})
    assert readable(SOLO, tmp_path, "job", 20) == ["the newest checkpoint of solo/0 is step 10 instead of 20"]
    assert readable(SOLO, tmp_path, "other", 20) == [f"no checkpoint of solo/0 is left below {tmp_path}"]


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0})
    checkpoint = newest(store.path)
    assert checkpoint is not None
    damage(checkpoint)
    (sentence,) = readable(SOLO, tmp_path, "job", 10)
    assert "cannot be read" in sentence
    assert "is whole (1 tried)" in sentence


def test_the_newest_step_is_that_of_the_highest_term_that_counts(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0, 50: 1.0})
    store.begin(2, "pod-2", store.newest(wait_s=0))
    assert newest_step(store.path) == 50, "term 2 has committed nothing yet"


def test_a_checkpoint_that_a_fault_has_damaged_is_passed_over_by_whatever_name(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0, 20: 2.0})
    base = store.newest(wait_s=0)
    commit(tmp_path, 1, {30: 3.0})  # by a writer that did not know yet that term 2 goes on from step 20
    store.begin(2, "pod-2", base).commit(40, {"value": np.full(4, 4.0)}, {})
    damaged = set()
    for step in (40, 20):
        found = newest(store.path, damaged)
        assert found is not None
        assert (found.parent.name, found.name) == ("term-2-pod-2", f"step-{step}")
        damaged.add(damage(found))
    assert newest_step(store.path, damaged) == 10, "step 20 of term 1 is the file that term 2 calls its base"
    assert newest_step(store.path) == 40
    reread = store.newest(wait_s=0)
    assert reread is not None
    assert reread.ref.step == 10, "what a worker falls back to"


def test_only_what_a_fault_has_damaged_may_be_damaged(tmp_path: Path) -> None:
    store = commit(tmp_path, 1, {10: 1.0, 20: 2.0})
    checkpoint = newest(store.path)
    assert checkpoint is not None
    known = {damage(checkpoint)}
    audit = Audit()
    audit.look(SOLO, store.path, known)
    assert audit.wrong == []
    for _ in range(2):
        audit.look(SOLO, store.path)
    (sentence,) = audit.wrong
    assert sentence.startswith("solo/0, which nobody has damaged: checkpoint ")
    assert "step-20 is damaged" in sentence
