"""Whose checkpoints lie below the root: a mark in each job's folder, so that a later job of that name finds them.

Guarantees that a mark is whole or absent; a folder without one, or with one that no job can have written, is nobody's.
Every rank writes the same mark, so it does not matter who comes first. Orders jobs by the time at which the API server
says that they were created. Does not prove who wrote a mark: whoever may write on the volume may forge one, and a job
with resume: Latest would go on from what lies beside it. What shares a claim is one trust domain
(docs/explanation/security.md).
"""

import contextlib
import re
import secrets
from pathlib import Path
from typing import Annotated, Final

import msgspec

from understudy.checkpoint.disk import Disk
from understudy.checkpoint.filesystem import TEMPORARY, FileSystem, put_in_place, read_intact, volume_errors
from understudy.checkpoint.format import SMALL_MAX_BYTES, UNREADABLE, seal, unseal

MARK: Final = "JOB"

_UID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
"""A job's folder bears its uid."""

_Created = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")]
_Namespace = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?\Z")]
_Ranks = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Mark(msgspec.Struct, frozen=True, order=True):
    """Content of JOB."""

    created: _Created
    """RFC 3339, of one precision and in UTC, as the API server writes it."""
    name: _Name
    ranks: _Ranks = 0
    """How many the job has; 0: marked by a release that did not say."""
    namespace: _Namespace = ""
    """Two namespaces may share a file server; empty: marked by a release that did not say."""


def leave_mark(root: Path, job_uid: str, mark: Mark, fs: FileSystem | None = None) -> None:
    """Mark a job's folder, which exists, unless it is marked. Raises VolumeTrouble."""
    fs = fs or Disk(root)
    folder = root / job_uid
    with volume_errors("mark the job's folder", folder):
        if _read(fs, folder) == mark:
            return
        temporary = folder / f"{TEMPORARY}{MARK}-{secrets.token_hex(8)}"
        fs.write(temporary, [seal(mark)[0]])
        put_in_place(fs, temporary, folder / MARK)
        fs.sync(folder)


def earlier_jobs(root: Path, job_uid: str, mark: Mark, fs: FileSystem | None = None) -> list[tuple[str, Mark]]:
    """List uids and marks of earlier jobs of this name, the newest first. Raises VolumeTrouble."""
    fs = fs or Disk(root)
    with volume_errors("look for an earlier job's checkpoints", root):
        others = [name for name in fs.names(root) if name != job_uid and _UID.fullmatch(name)]
    marks = []
    for uid in others:
        with contextlib.suppress(OSError):  # what cannot be read is nobody's: lost+found, another user's folder
            if (found := _read(fs, root / uid)) is not None:
                marks.append((found, uid))
    ours = [(found, uid) for found, uid in marks if found.name == mark.name and found.namespace in ("", mark.namespace)]
    return [(uid, found) for found, uid in sorted(ours, reverse=True) if found < mark]


def _read(fs: FileSystem, folder: Path) -> Mark | None:
    with contextlib.suppress(*UNREADABLE, FileNotFoundError, NotADirectoryError):
        return msgspec.json.decode(unseal(read_intact(fs, folder / MARK, SMALL_MAX_BYTES))[0], type=Mark)
    return None
