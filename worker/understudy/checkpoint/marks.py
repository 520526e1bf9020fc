"""Whose checkpoints lie below the root: a mark in each job's folder, so that a later job of that name finds them.

Guarantees that a mark is whole or absent; a folder without one is nobody's. Every rank writes the same mark, so it does
not matter who comes first. Orders jobs by the time at which the API server says that they were created.
"""

import contextlib
import secrets
from pathlib import Path
from typing import Final

import msgspec

from understudy.checkpoint.filesystem import TEMPORARY, Disk, FileSystem, volume_errors
from understudy.checkpoint.format import seal, unseal

MARK: Final = "JOB"


class Mark(msgspec.Struct, frozen=True, order=True):
    """Content of JOB."""

    created: str
    """RFC 3339, of one precision and in UTC, as the API server writes it."""
    name: str
    ranks: int = 0
    """How many the job has; 0: marked by a release that did not say."""


def leave_mark(root: Path, job_uid: str, mark: Mark, fs: FileSystem | None = None) -> None:
    """Mark a job's folder, which exists, unless it is marked. Raises VolumeTrouble."""
    fs = fs or Disk()
    folder = root / job_uid
    with volume_errors("mark the job's folder", folder):
        if _read(fs, folder) == mark:
            return
        temporary = folder / f"{TEMPORARY}{MARK}-{secrets.token_hex(8)}"
        fs.write(temporary, [seal(mark)[0]])
        fs.rename(temporary, folder / MARK)
        fs.sync(folder)


def earlier_jobs(root: Path, job_uid: str, mark: Mark, fs: FileSystem | None = None) -> list[tuple[str, Mark]]:
    """List uids and marks of earlier jobs of this name, the newest first. Raises VolumeTrouble."""
    fs = fs or Disk()
    with volume_errors("look for an earlier job's checkpoints", root):
        others = [name for name in fs.names(root) if name != job_uid]
    marks = []
    for uid in others:
        with contextlib.suppress(OSError):  # what cannot be read is nobody's: lost+found, another user's folder
            if (found := _read(fs, root / uid)) is not None:
                marks.append((found, uid))
    return [(uid, found) for found, uid in sorted(marks, reverse=True) if found.name == mark.name and found < mark]


def _read(fs: FileSystem, folder: Path) -> Mark | None:
    with contextlib.suppress(ValueError, msgspec.MsgspecError, FileNotFoundError, NotADirectoryError):
        return msgspec.json.decode(unseal(fs.read(folder / MARK))[0], type=Mark)
    return None
