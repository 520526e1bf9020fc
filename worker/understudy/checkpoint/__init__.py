"""Checkpoints on a shared volume, safe against crashes, power cuts and superseded writers, without any lock on the
volume.

    <root>/<job uid>/rank-<R>/VOLUME                               a random id: tells one volume from another
    <root>/<job uid>/rank-<R>/term-<T>-<pod uid>/BASE              what this term was based on; makes it count
    <root>/<job uid>/rank-<R>/term-<T>-<pod uid>/step-<S>/         one checkpoint: manifest.json, state.safetensors
    <root>/<job uid>/rank-<R>/term-<T>-<pod uid>/final/model.keras the trained model

    store = RankStore(root, job_uid, rank, keep=3)
    store.volume_id(wait_s=0) -> str | None;  store.create_volume_id() -> str
    store.highest_term() -> int                           over all term folders, with or without BASE; 0 without any
    store.peek(floor) -> CheckpointRef | None             what newest(floor) would load, unverified; a few calls
    store.load(ref) -> Checkpoint                         verified; CheckpointDamaged, CheckpointMissing (pruned)
    store.newest(floor, wait_s=60) -> Checkpoint | None   verified; None: start fresh; FloorMissing, CheckpointDamaged
    store.begin(term, pod_uid, base) -> TermWriter        makes the term's folder; Superseded, CheckpointsExist

    writer.commit(step, tensors, extra) -> CheckpointRef  atomic, durable; what is there for a step that is there
    writer.publish_final(name, write) -> Path             makes the trained model durable, then visible
    writer.newest -> CheckpointRef | None                 newest commit, or the base

Every method raises UnderstudyError's kinds only (OSError is translated), and ValueError or TypeError for misuse.
Rules, in order of importance:

1. A term counts from its BASE on, and BASE is written only when the term's folder holds a durable checkpoint.
2. Readers take the highest term that counts, and there the newest step that passes its checksums; from there they go
   back along the lineage: into the term of the base, but never above the base's step. What a superseded writer commits
   is thus never read.
3. The durable floor must be visible, in a term that counts or in its line, before anybody reads: the reader waits, then
   fails with FloorMissing.
4. A writer prunes its own folder. Older terms go when `keep` commits of its own have been read back, or when the volume
   is full.
"""

from understudy.checkpoint.format import Checkpoint, as_json
from understudy.checkpoint.store import RankStore
from understudy.checkpoint.writer import TermWriter

__all__ = ["Checkpoint", "RankStore", "TermWriter", "as_json"]
