"""Files that Keras' own callbacks append to, taken back to a checkpoint: CSVLogger's table, TensorBoard's event files.

A pod that goes on from a checkpoint takes the steps after it again, and its callbacks write about them again. So with
each checkpoint the length of these files is saved, and before the callbacks of a successor begin, each file is cut to
the length that it had: no row and no point is there twice, and none is lost. CSVLogger, which empties its file by
default, appends from then on.

Guarantees this on a file system that the successor sees, such as the checkpoint's volume. A file that is missing
there, or shorter than it was, is told. Does not cut a file that the callback of another rank or another host writes.
Trusts the wall clock for one thing: an event file of this host, or of an earlier pod of this rank, that was made after
the checkpoint is removed, since all of it is written again.
"""

import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import keras

_EVENT_FILE: Final = re.compile(r"events\.out\.tfevents\.(?P<made_at>\d+)\.(?P<host>.+)\.\d+\.\d+(\.v2)?\Z")
"""events.out.tfevents.<seconds>.<host>.<pid>.<number>.v2"""
_INCARNATION: Final = re.compile(r"-\d+\Z")
"""Pods of one rank differ in the number at the end of their names, which are their host names."""


def measure(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Give the lengths, in bytes, of the files that this callback has appended to, durable; empty for other kinds."""
    if isinstance(callback, keras.callbacks.CSVLogger):
        return {"csv": _length(Path(callback.filename))} if callback.csv_file is not None else {}
    if isinstance(callback, keras.callbacks.TensorBoard):
        for writer in getattr(callback, "_writers", {}).values():
            writer.flush()
        lengths = {str(path): _length(path) for path, _ in _event_files(Path(callback.log_dir))}
        return {"events": lengths, "at": int(time.time())}
    return {}


def take_back(callback: keras.callbacks.Callback, saved: Mapping[str, Any]) -> list[str]:
    """Cut the files to the lengths that `measure` gave, before the callback begins; give a sentence for each loss."""
    if "csv" in saved and isinstance(callback, keras.callbacks.CSVLogger):
        callback.append = True
        return _cut(Path(callback.filename), int(saved["csv"]))
    if "events" in saved and isinstance(callback, keras.callbacks.TensorBoard):
        lengths = saved["events"]
        lost = [sentence for path, length in lengths.items() for sentence in _cut(Path(path), int(length))]
        for path, made_at in _event_files(Path(callback.log_dir)):
            if str(path) not in lengths and made_at >= int(saved["at"]):
                path.unlink(missing_ok=True)
        return lost
    return []


def _event_files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Find the event files of this host and of earlier pods of its rank, with the time at which each was made."""
    ours = _INCARNATION.sub("", socket.gethostname())
    for path in sorted(folder.glob("**/events.out.tfevents.*")):
        named = _EVENT_FILE.match(path.name)
        if named is not None and _INCARNATION.sub("", named["host"]) == ours and path.is_file():
            yield path, int(named["made_at"])


def _length(path: Path) -> int:
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return 0


def _cut(path: Path, length: int) -> list[str]:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        found = 0
    if found < length:
        missing = f"has only {found} of the {length} bytes" if found else "is missing, which had"
        return [f"{path} {missing} {'that it had' if found else f'{length} bytes'} at the checkpoint"]
    if found > length:
        os.truncate(path, length)
    return []
