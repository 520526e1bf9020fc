"""A rank's folder: names on the volume to values and back. Knows the layout, decides nothing."""

import contextlib
from pathlib import Path
from typing import Final

import msgspec
from understudy_contract.reports import CheckpointRef
from understudy_contract.terms import highest_plausible

from understudy.checkpoint.filesystem import FileSystem, read_intact
from understudy.checkpoint.format import SMALL_MAX_BYTES, UNREADABLE, checked_line, read_manifest, seal, unseal
from understudy.checkpoint.layout import step_of, term_of
from understudy.checkpoint.lineage import Line, TermFolder
from understudy.errors import CheckpointDamaged

BASE: Final = "BASE"
FINAL: Final = "final"


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """Content of BASE."""

    term: int
    """The term that it makes count."""
    pod: str
    line: Line
    """What the term was based on, newest first; empty: it started fresh."""


class RankFolder:
    """All terms of one rank of one job."""

    def __init__(self, root: Path, job_uid: str, rank: int, fs: FileSystem) -> None:
        self.known_term: int | None = None
        """The highest term that the rank is known to have had, from elsewhere than the volume."""
        self.root = root
        self.path = root / job_uid / f"rank-{rank}"
        self.fs = fs

    def term_path(self, term: int, pod_uid: str) -> Path:
        """Name a term's folder."""
        return self.path / f"term-{term}-{pod_uid}"

    def term_names(self) -> list[tuple[int, str]]:
        """List (term, pod uid) of every term folder, with or without BASE; terms that cannot be the rank's are none."""
        highest = highest_plausible(self.known_term)
        terms = (term_of(name) for name in self._names(self.path))
        return sorted(found for found in terms if found is not None and found[0] <= highest)

    def foreign(self) -> list[tuple[str, str]]:
        """List entries that bear a term's name and are none, each with what is wrong: readers pass them over."""
        highest = highest_plausible(self.known_term)
        found = []
        for name in sorted(self._names(self.path)):
            if (term := term_of(name)) is None:
                continue
            if term[0] > highest:
                found.append((name, f"a term that this rank cannot have had, whose own is {self.known_term or 0}"))
                continue
            try:
                self.fs.names(self.path / name)
            except NotADirectoryError:
                found.append((name, "a link or a file in place of a folder"))
            except OSError:
                continue
        return found

    def scan(self, above: int = 0) -> list[TermFolder]:
        """List every term's folder from term `above` on."""
        return [self.term_folder(term, pod_uid) for term, pod_uid in self.term_names() if term >= above]

    def term_folder(self, term: int, pod_uid: str) -> TermFolder:
        """List one term's folder; empty if it is gone."""
        path = self.term_path(term, pod_uid)
        names = self._names(path)
        steps = sorted(step for name in names if (step := step_of(name)) is not None)
        return TermFolder(term, pod_uid, path, BASE in names, tuple(steps))

    def line_of(self, folder: TermFolder) -> Line:
        """Read what a term was based on; empty for a fresh start, or where nothing tells any more.

        A damaged BASE is replaced by what the term's manifests repeat, or by the base itself, which lies beside it.
        """
        try:
            text, _ = unseal(read_intact(self.fs, folder.path / BASE, SMALL_MAX_BYTES))
            return checked_line(msgspec.json.decode(text, type=Base).line)
        except (*UNREADABLE, FileNotFoundError):
            pass
        for step in reversed(folder.steps):
            with contextlib.suppress(CheckpointDamaged, FileNotFoundError):
                manifest, digest = read_manifest(self.fs, folder.checkpoint(step))
                if manifest.term == folder.term:
                    return manifest.line
                return (CheckpointRef(manifest.term, manifest.step, digest), *manifest.line)
        return ()

    def make(self, path: Path) -> None:
        """Make a folder and those above it; parents above the root, which nobody else syncs, durably."""
        try:
            self.fs.make_folder(path)
        except FileExistsError:
            return
        except FileNotFoundError:
            self.make(path.parent)
            with contextlib.suppress(FileExistsError):
                self.fs.make_folder(path)
        if not path.is_relative_to(self.root) or path == self.root:
            self.fs.sync(path.parent)

    def sync_path_to(self, path: Path) -> None:
        """Make the names of all folders from the root down to `path`, and those in `path`, durable."""
        self.fs.sync(path)
        while path != self.root:
            path = path.parent
            self.fs.sync(path)

    def _names(self, path: Path) -> list[str]:
        try:
            return self.fs.names(path)
        except (FileNotFoundError, NotADirectoryError):
            return []


def encode_base(term: int, pod_uid: str, line: Line) -> bytes:
    """Render a BASE."""
    return seal(Base(term=term, pod=pod_uid, line=line))[0]
