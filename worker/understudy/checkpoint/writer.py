"""The writer's side of one term: commits that are atomic and durable, and the removal of what they replace.

Guarantees: when `commit` returns, the checkpoint survives a power cut, and readers of the line see it; a crash between
any two calls to the file system leaves the newest checkpoint before it readable. Looks for a higher term before each
commit; a race there is harmless, for readers follow the line (lineage.py). Does not guarantee that room is left:
VolumeFull is the caller's to report. Reads no clock.
"""

import contextlib
import errno
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from understudy_contract.reports import CheckpointRef

from understudy.checkpoint.filesystem import FULL, NO_LINKS, TEMPORARY, put_in_place, remove_tree, volume_errors
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
from understudy.errors import CheckpointDamaged, Superseded, UnderstudyError, VolumeFull, VolumeTooSmall

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
        self._base = base.ref if base else None
        self._line: Line = (base.ref, *base.line)[:_LINE_LENGTH] if base else ()
        self._base_path = base.location if base else None
        self._kept: dict[int, CheckpointRef] = {}
        """What lies in this term's folder, durable, ascending by step."""
        self._counts = False
        self._linked = False
        self._lock = threading.RLock()
        self._open()

    @property
    def newest(self) -> CheckpointRef | None:
        """The newest commit of this term, else its base."""
        return self._kept[max(self._kept)] if self._kept else self._base

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
        if not self._counts and self._base_path is not None:
            self._linked = self._link_base(self._base_path)

    def _step_path(self, step: int) -> Path:
        return self.path / f"step-{step}"

    def _stop_if_superseded(self) -> None:
        highest = max((term for term, _ in self._rank.term_names()), default=0)
        if highest > self.term:
            raise Superseded(highest)

    def _require_space(self, size_bytes: int) -> None:
        """A save happens beside the kept ones: with keep=1, too, two must fit.

        Raises VolumeTooSmall where they never will, and ENOSPC where something else lies in their place.
        """
        space = self._fs.space(self.path)
        copies = max(self._keep, 2)
        needed = copies * size_bytes
        if not space.total or space.free >= needed:
            return
        what = f"{copies} checkpoints of {_size(size_bytes)} need {_size(needed)} (keep is {self._keep})"
        if space.total < needed:
            raise VolumeTooSmall(
                f"the volume at {self._rank.root} holds {_size(space.total)}, but {what}: "
                "use a larger claim, or a lower keep"
            )
        raise OSError(
            errno.ENOSPC, f"{_size(space.free)} free of {_size(space.total)}, but {what}", str(self._rank.root)
        )

    def _commit_making_room(self, step: int, state: State, extra: Mapping[str, Any]) -> CheckpointRef:
        while True:
            try:
                if self.newest is None:
                    self._require_space(state.size_bytes)
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
            return remove_older_terms(self._rank, self.term, spare=self._base_path)
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
        if not self._counts and self._base_path is not None and self._base is not None:
            self._settle_base(self._base, self._base_path)
        temporary = self.path / f"{TEMPORARY}step-{step}"
        self._fs.make_folder(temporary)
        self._fs.write(temporary / STATE, state.chunks())
        manifest = Manifest(
            term=self.term, step=step, pod=self._pod_uid, line=self._line, tensors=state.tensors, extra=dict(extra)
        )
        sealed, digest = seal(manifest)
        if len(sealed) > MANIFEST_MAX_BYTES:
            raise ValueError(
                f"the manifest of step {step} has {_size(len(sealed))}, and readers take {_size(MANIFEST_MAX_BYTES)}: "
                "keep large values as tensors, not in the extra state"
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

    def _link_base(self, source: Path) -> bool:
        """Give the base a second name in this term's folder: whatever its own term prunes from now on, it stays."""
        assert self._base is not None
        temporary = self.path / f"{TEMPORARY}base"
        try:
            self._fs.make_folder(temporary)
            for name in (STATE, MANIFEST):
                self._fs.link(source / name, temporary / name)
            self._fs.rename(temporary, self._step_path(self._base.step))
        except OSError as error:
            if error.errno not in NO_LINKS and not isinstance(error, FileNotFoundError):
                raise
            remove_tree(self._fs, temporary)
            return False
        return True

    def _settle_base(self, base: CheckpointRef, source: Path) -> None:
        """Make the base durable in this term's folder, then make the term count.

        A base that is gone or damaged by now, where there are no links, leaves that to the first commit: it is durable,
        too.
        """
        target = self._step_path(base.step)
        if not self._linked and not self._copy_base(source, target):
            return
        self._fs.sync(target)
        self._declare()
        self._kept[base.step] = base

    def _copy_base(self, source: Path, target: Path) -> bool:
        try:
            found = read(self._fs, source)
            if found.ref != self._base:
                return False
            size = sum(array.nbytes for array in found.tensors.values())
            state = self._fs.read(source / STATE, size + MANIFEST_MAX_BYTES)  # the header repeats the manifest
            manifest = self._fs.read(source / MANIFEST, MANIFEST_MAX_BYTES)
        except (CheckpointDamaged, FileNotFoundError):
            return False
        temporary = self.path / f"{TEMPORARY}base"
        self._fs.make_folder(temporary)
        self._fs.write(temporary / STATE, [state])
        self._fs.write(temporary / MANIFEST, [manifest])
        self._fs.rename(temporary, target)
        self._linked = True
        return True

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
        if self._linked and not self._counts and self._base is not None:
            mine.add(self._base.step)
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


def _size(size_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.4g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.4g} GiB"
