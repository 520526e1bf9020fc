"""The writer's side of one term: commits that are atomic and durable, and the removal of what they replace.

Guarantees: when `commit` returns, the checkpoint survives a power cut, and readers of the line see it; a crash between
any two calls to the file system leaves the newest checkpoint before it readable. Looks for a higher term before each
commit; a race there is harmless, for readers follow the line (lineage.py). Does not guarantee that room is left:
VolumeFull is the caller's to report. Reads no clock.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from understudy_contract.reports import CheckpointRef

from understudy.checkpoint.base import Base
from understudy.checkpoint.filesystem import FULL, TEMPORARY, put_in_place, remove_tree, volume_errors
from understudy.checkpoint.folder import BASE, FINAL, RankFolder, encode_base
from understudy.checkpoint.format import (
    MANIFEST,
    MANIFEST_MAX_BYTES,
    STATE,
    Array,
    Checkpoint,
    Manifest,
    State,
    read,
    seal,
)
from understudy.checkpoint.layout import STEP_MAX, step_of
from understudy.checkpoint.lineage import Line
from understudy.checkpoint.retention import discard, has_older_terms, remove_older_terms
from understudy.checkpoint.room import require_space, size_text
from understudy.errors import CheckpointDamaged, Superseded, UnderstudyError, VolumeFull

_LINE_LENGTH: Final = 32
"""Bases that a term remembers: more failovers than this between two reports of a floor are not to be had."""


class TermWriter:
    """Made by RankStore.begin. Its methods may be called from any thread, one at a time."""

    def __init__(self, rank: RankFolder, term: int, pod_uid: str, base: Checkpoint | None, keep: int) -> None:
        self.term = term
        self.path = rank.term_path(term, pod_uid)
        self.notices: list[UnderstudyError] = []
        """What went wrong after a commit had succeeded; the caller reports and empties it."""
        self._rank = rank
        self._fs = rank.fs
        self._pod_uid = pod_uid
        self._keep = keep
        self._base = Base(self._fs, base, self.path) if base else None
        self._line: Line = (base.ref, *base.line)[:_LINE_LENGTH] if base else ()
        self._kept: dict[int, CheckpointRef] = {}
        """What lies in this term's folder, durable, ascending by step."""
        self._counts = False
        self._lock = threading.RLock()
        self._open()

    @property
    def newest(self) -> CheckpointRef | None:
        """The newest commit of this term, else its base."""
        if self._kept:
            return self._kept[max(self._kept)]
        return self._base.ref if self._base is not None else None

    def commit(self, step: int, tensors: Mapping[str, Array], extra: Mapping[str, Any]) -> CheckpointRef:
        """Save the state after `step` steps. A step that is committed already (the base's, too) returns the existing
        one.

        Raises Superseded, VolumeTooSmall (the first save of a fresh start), VolumeTrouble; the next call tries anew.
        """
        with self._lock, volume_errors(f"save step {step} of term {self.term}", self.path):
            self._stop_if_superseded()
            newest = self.newest
            if newest is not None and step <= newest.step:
                if step == newest.step:
                    return newest
                raise ValueError(f"step {step} was to be committed after step {newest.step}: steps only grow")
            if step > STEP_MAX:
                raise ValueError(f"step {step} is above {STEP_MAX}, the highest that a checkpoint can have")
            state = State(tensors)
            try:
                ref = self._commit_making_room(step, state, extra)
            except FileNotFoundError:
                self._stop_if_superseded()  # whose successor may have removed this term by now
                raise
            self._clean_up()
            return ref

    def final_dir(self) -> Path:
        """Make the folder for the trained model."""
        path = self.path / FINAL
        with volume_errors("make the folder of the trained model", path):
            self._rank.make(path)
            return path

    def publish_final(self, name: str, write: Callable[[Path], None]) -> Path:
        """Let `write` make a file, then make it durable and visible under its name, atomically. Disk only.

        On a full volume older checkpoints make room for it, and `write` is called again. Raises VolumeTrouble, and what
        `write` raises for other reasons.
        """
        folder = self.final_dir()
        temporary = folder / f"{TEMPORARY}{name}"
        action = f"save the trained model as {name}"
        with self._lock:
            while True:
                try:
                    with volume_errors(action, folder):
                        remove_tree(self._fs, temporary)
                    with volume_errors(action, folder, foreign=True):
                        write(temporary)
                    with volume_errors(action, folder):
                        self._fs.sync(temporary)
                        put_in_place(self._fs, temporary, folder / name)
                        self._rank.sync_path_to(folder)
                        return folder / name
                except VolumeFull:
                    with volume_errors(action, folder):
                        if not self._make_room():
                            raise
                finally:
                    with contextlib.suppress(OSError):
                        remove_tree(self._fs, temporary)

    def _open(self) -> None:
        """Make the folder, or adopt what an earlier process of this very pod left in it."""
        self._rank.make(self.path)
        folder = self._rank.term_folder(self.term, self._pod_uid)
        if folder.counts:
            for step in folder.steps:
                with contextlib.suppress(CheckpointDamaged, FileNotFoundError):
                    self._kept[step] = read(self._fs, folder.checkpoint(step)).ref
            if self._kept:
                self._line = self._rank.line_of(folder)
                self._counts = True
        self._sweep()
        if not self._counts and self._base is not None:
            self._base.link()

    def _step_path(self, step: int) -> Path:
        return self.path / f"step-{step}"

    def _stop_if_superseded(self) -> None:
        highest = max((term for term, _ in self._rank.term_names()), default=0)
        if highest > self.term:
            raise Superseded(highest)

    def _commit_making_room(self, step: int, state: State, extra: Mapping[str, Any]) -> CheckpointRef:
        while True:
            try:
                if self.newest is None:
                    require_space(self._fs, self._rank.root, self.path, self._keep, state.size_bytes)
                return self._commit(step, state, extra)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._sweep()
                if error.errno not in FULL or not self._make_room():
                    raise

    def _make_room(self) -> bool:
        """Remove older terms before their time, then the oldest checkpoint of this one: saving at all comes first.

        What would be fallen back to is verified before: here, or at its load. Tells whether anything was removed.
        """
        if not self._counts:
            return remove_older_terms(self._rank, self.term, spare=self._base.source if self._base else None)
        try:
            read(self._fs, self._step_path(max(self._kept)))
        except (CheckpointDamaged, FileNotFoundError):
            return False
        if remove_older_terms(self._rank, self.term, spare=None):
            return True
        kept = len(self._kept)
        self._prune(max(self._keep - 1, 1))
        return len(self._kept) < kept

    def _commit(self, step: int, state: State, extra: Mapping[str, Any]) -> CheckpointRef:
        self._sweep()
        if not self._counts and self._base is not None:
            self._settle_base(self._base)
        temporary = self.path / f"{TEMPORARY}step-{step}"
        self._fs.make_folder(temporary)
        self._fs.write(temporary / STATE, state.chunks())
        manifest = Manifest(
            term=self.term, step=step, pod=self._pod_uid, line=self._line, tensors=state.tensors, extra=dict(extra)
        )
        sealed, digest = seal(manifest)
        if len(sealed) > MANIFEST_MAX_BYTES:
            raise ValueError(
                f"the manifest of step {step} has {size_text(len(sealed))}, and readers take "
                f"{size_text(MANIFEST_MAX_BYTES)}: keep large values as tensors, not in the extra state"
            )
        self._fs.write(temporary / MANIFEST, [sealed])
        self._fs.sync(temporary)
        self._stop_if_superseded()
        self._fs.rename(temporary, self._step_path(step))
        self._fs.sync(self.path)
        if not self._counts:
            self._declare()
        self._kept[step] = CheckpointRef(self.term, step, digest)
        return self._kept[step]

    def _settle_base(self, base: Base) -> None:
        """Make the base durable in this term's folder, then make the term count.

        A base that is gone by now leaves that to the first commit: it is durable, too.
        """
        if base.settle():
            self._declare()
            self._kept[base.ref.step] = base.ref

    def _declare(self) -> None:
        """Write BASE: from here on readers take this term. All that it vouches for is made durable first."""
        self._rank.sync_path_to(self.path)
        temporary = self.path / f"{TEMPORARY}{BASE}"
        self._fs.write(temporary, [encode_base(self.term, self._pod_uid, self._line)])
        self._stop_if_superseded()
        put_in_place(self._fs, temporary, self.path / BASE)
        self._fs.sync(self.path)
        self._counts = True

    def _sweep(self) -> None:
        """Remove what a save that failed left behind, and what others put there.

        What is only in nobody's way may stay when it cannot be removed: a save does not fail for it.
        """
        mine = set(self._kept)
        if self._base is not None and self._base.is_here and not self._counts:
            mine.add(self._base.ref.step)
        names = self._fs.names(self.path)
        if BASE in names and not self._counts:
            # Its sync failed. It must not outlive the checkpoint that it vouches for.
            remove_tree(self._fs, self.path / BASE)
            self._fs.sync(self.path)
        for name in names:
            if (step := step_of(name)) is not None and step not in mine:
                discard(self._fs, self.path / name)
            elif name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    discard(self._fs, self.path / name)

    def _prune(self, count: int) -> None:
        for step in sorted(self._kept)[:-count]:
            del self._kept[step]
            discard(self._fs, self._step_path(step))

    def _clean_up(self) -> None:
        """Remove what the commit replaced. The commit stands: trouble here is a notice."""
        try:
            with volume_errors(f"remove old checkpoints of term {self.term}", self.path):
                self._prune(self._keep)
                own = [step for step, ref in self._kept.items() if ref.term == self.term]
                if len(own) >= self._keep and has_older_terms(self._rank, self.term):
                    for step in own:
                        read(self._fs, self._step_path(step))
                    remove_older_terms(self._rank, self.term, spare=None)
        except UnderstudyError as error:
            self.notices.append(error)
