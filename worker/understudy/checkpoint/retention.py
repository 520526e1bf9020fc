"""Removal of what is not needed any more, so that a crash in the midst of it confuses no reader."""

from pathlib import Path

from understudy.checkpoint.filesystem import GONE, TEMPORARY, FileSystem, remove_tree
from understudy.checkpoint.folder import BASE, RankFolder
from understudy.checkpoint.format import MANIFEST


def discard(fs: FileSystem, path: Path) -> None:
    """Remove a folder, out of the readers' sight first; where a power cut undoes that, without its manifest first."""
    if not path.name.startswith(TEMPORARY):
        hidden = path.with_name(GONE + path.name)
        remove_tree(fs, hidden)
        try:
            fs.rename(path, hidden)
        except FileNotFoundError:
            return
        path = hidden
    remove_tree(fs, path, first=MANIFEST)


def has_older_terms(rank: RankFolder, term: int) -> bool:
    """Tell whether anything of older terms is left."""
    return any(other < term for other, _ in rank.term_names()) or bool(_half_gone(rank))


def remove_older_terms(rank: RankFolder, term: int, spare: Path | None) -> bool:
    """Remove what older terms left, oldest first; keep the checkpoint `spare`. Return whether anything was removed."""
    removed = False
    for name in _half_gone(rank):
        discard(rank.fs, rank.path / name)
        removed = True
    for folder in rank.scan():
        if folder.term >= term:
            continue
        if spare is None or not spare.is_relative_to(folder.path):
            discard(rank.fs, folder.path)
            removed = True
            continue
        for name in rank.fs.names(folder.path):
            if folder.path / name != spare and name != BASE:
                discard(rank.fs, folder.path / name)
                removed = True
    return removed


def _half_gone(rank: RankFolder) -> list[str]:
    """List older terms whose removal a crash cut short."""
    return [name for name in rank.fs.names(rank.path) if name.startswith(GONE)]
