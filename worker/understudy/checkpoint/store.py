"""The reader's side of a rank's checkpoints: which is the newest that may be read, verified and loaded.

Guarantees: a checkpoint is returned only after every byte passed its checksum, and only from the line of the highest
term that counts (lineage.py); never one from below a durable floor that is merely not visible yet; "start fresh" only
where nothing was ever committed. Does not guarantee that what it returns is still the newest: a living primary goes on.
Clock: an injected monotonic one, for the wait for the floor alone.
"""

import contextlib
import errno
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from understudy_contract.reports import CheckpointRef

from understudy.checkpoint.disk import Disk
from understudy.checkpoint.filesystem import NO_LINKS, TEMPORARY, FileSystem, NotAFile, put_in_place, volume_errors
from understudy.checkpoint.folder import RankFolder
from understudy.checkpoint.format import SMALL_MAX_BYTES, Checkpoint, read, read_manifest
from understudy.checkpoint.lineage import TermFolder, candidates
from understudy.checkpoint.writer import TermWriter
from understudy.errors import CheckpointDamaged, CheckpointMissing, CheckpointsExist, FloorMissing, Superseded

FLOOR_WAIT_S: Final = 65.0
"""Network file systems cache a folder's names for up to a minute (acdirmax of nfs(5)); and a look takes a while."""
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_VOLUME_ID_CHARS: Final = 32
_FOREIGN_NAMED: Final = 3
"""Entries that one sentence names: an Event takes 1 KiB."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one look at a rank's whole line gave."""

    found: Checkpoint | None
    stuck: CheckpointDamaged | None = None
    """Why nothing can be gone on from, although there are terms; None: nothing was ever committed."""
    is_stale: bool = False
    """The names of a folder are from before a living primary pruned all that they name, or from before the first
    checkpoint of a term that counts. They will be renewed: look again."""


class RankStore:
    """Checkpoints of one rank of one job."""

    def __init__(
        self,
        root: Path,
        job_uid: str,
        rank: int,
        *,
        keep: int,
        fs: FileSystem | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: at least one checkpoint must be kept")
        self._fs = fs or Disk(root)
        self._rank = RankFolder(root, job_uid, rank, self._fs)
        self._keep = keep
        self._clock = clock
        self._sleep = sleep

    @property
    def path(self) -> Path:
        """The rank's folder."""
        return self._rank.path

    def volume_id(self, *, wait_s: float = 0.0) -> str | None:
        """Read the volume's random id; None if nobody has written one that can be seen here within `wait_s`."""
        with volume_errors("read the volume's id", self.path):
            self._until(lambda: self._volume_id() is not None, self._clock() + wait_s)
            return self._volume_id()

    def create_volume_id(self) -> str:
        """Write the volume's random id, durably, unless there is one; return what is there."""
        path = self.path / "VOLUME"
        with volume_errors("write the volume's id", path):
            if existing := self._volume_id():
                return existing
            self._rank.make(self.path)
            temporary = self.path / f"{TEMPORARY}VOLUME-{secrets.token_hex(8)}"
            self._fs.write(temporary, [secrets.token_hex(_VOLUME_ID_CHARS // 2).encode() + b"\n"])
            try:
                self._fs.link(temporary, path)  # unlike a rename, this lets the first of two writers win
            except OSError as error:
                if error.errno not in NO_LINKS | {errno.EEXIST}:
                    raise
                if self._volume_id() is None:  # no links here, or what is there is torn, or no file
                    put_in_place(self._fs, temporary, path)
            with contextlib.suppress(FileNotFoundError):
                self._fs.remove(temporary)
            self._rank.sync_path_to(self.path)
            return self._volume_id() or ""

    def know_term(self, term: int) -> None:
        """Take in that the rank has had this term: folders of terms far above are not its own, and are passed over."""
        self._rank.known_term = max(term, self._rank.known_term or 0)

    def foreign(self) -> str | None:
        """Return a sentence that names entries which look like terms and are ignored; None if there are none."""
        with volume_errors("list the terms", self.path):
            found = self._rank.foreign()
        if not found:
            return None
        named = ", ".join(f"{name} ({what})" for name, what in found[:_FOREIGN_NAMED])
        more = f" and {len(found) - _FOREIGN_NAMED} more" if len(found) > _FOREIGN_NAMED else ""
        return (
            f"passed over in {self.path}: {named}{more}. Understudy did not make them. If a term's folder was moved "
            "and linked, move it back while the job is suspended; else remove them"
        )

    def highest_term(self) -> int:
        """Return the highest term that has a folder, with or without BASE; 0 without any."""
        with volume_errors("list the terms", self.path):
            return max((term for term, _ in self._rank.term_names()), default=0)

    def peek(self, floor: CheckpointRef | None = None) -> CheckpointRef | None:
        """Name what `newest(floor)` would load, tensors unverified: a cheap question for something newer than what is
        loaded.

        None if there is nothing, or if the floor is not visible. A redundant pod whose loaded checkpoint is
        `peek(floor)` may start.
        """
        with volume_errors("look for a newer checkpoint", self.path):
            for candidate in candidates(self._rank.scan(), self._rank.line_of, floor):
                if not candidate.keeps_floor:
                    return None
                with contextlib.suppress(CheckpointDamaged, FileNotFoundError):
                    manifest, digest = read_manifest(self._fs, candidate.path)
                    return CheckpointRef(manifest.term, manifest.step, digest)
        return None

    def load(self, ref: CheckpointRef) -> Checkpoint:
        """Load one checkpoint by its name, every byte verified. Raises CheckpointDamaged, CheckpointMissing."""
        problems: list[str] = []
        with volume_errors(f"load step {ref.step} of term {ref.term}", self.path):
            # Its own term first, then the copies that later terms made of their base.
            for folder in self._rank.scan(above=ref.term):
                if ref.step not in folder.steps:
                    continue
                try:
                    if (found := read(self._fs, folder.checkpoint(ref.step))).ref == ref:
                        return found
                except CheckpointDamaged as error:
                    problems.append(str(error))
                except FileNotFoundError:
                    continue
        if problems:
            raise CheckpointDamaged("; ".join(problems), tuple(problems))
        raise CheckpointMissing(
            ref, f"step {ref.step} of term {ref.term} is not below {self.path}: pruned meanwhile; take the newest"
        )

    def newest(self, floor: CheckpointRef | None = None, *, wait_s: float = FLOOR_WAIT_S) -> Checkpoint | None:
        """Load the checkpoint to go on from; None: nothing was ever committed, start fresh.

        Waits until all that `floor` promises is visible. Damaged checkpoints are passed over, back along the lineage,
        and reported in `Checkpoint.damaged`. Raises FloorMissing, and CheckpointDamaged if none along the lineage is
        whole.
        """
        with volume_errors("load the newest checkpoint", self.path):
            deadline = self._clock() + wait_s
            self._await(floor, wait_s, deadline)
            while True:
                looked_at = self._clock()
                attempt = self._attempt(floor)
                if attempt.found is not None:
                    return attempt.found
                if attempt.is_stale and looked_at < deadline:
                    self._pause(_LONGEST_PAUSE_S, deadline)
                    continue
                if attempt.stuck is not None:
                    raise attempt.stuck
                return None

    def _attempt(self, floor: CheckpointRef | None) -> _Attempt:
        """Look for the newest whole checkpoint, once."""
        hollow: set[Path] = set()
        while (attempt := self._walk(floor, hollow)) is None:
            pass
        return attempt

    def _walk(self, floor: CheckpointRef | None, hollow: set[Path]) -> _Attempt | None:
        """Walk the line back to its first whole checkpoint, past folders that are known to be `hollow`.

        None: another folder is hollow, and was added. A living primary pruned it, so newer ones are there and the walk
        has to begin again; or a removal was cut short.
        """
        folders = self._rank.scan()
        problems: list[str] = []
        for candidate in candidates(folders, self._rank.line_of, floor):
            if candidate.path in hollow:
                continue
            try:
                found = read(self._fs, candidate.path)
            except CheckpointDamaged as error:
                problems.extend(error.problems)
            except FileNotFoundError:
                hollow.add(candidate.path)
                return None
            else:
                if floor and not candidate.keeps_floor and not problems:
                    problems.append(
                        f"step {floor.step} of term {floor.term} was committed, but is neither on the volume "
                        f"nor an ancestor of step {candidate.step} in {candidate.path}"
                    )
                return _Attempt(replace(found, damaged=tuple(problems)))
        stuck = self._no_way_back(folders, floor, problems)
        return _Attempt(None, stuck, is_stale=bool(hollow) or (stuck is not None and not problems))

    def begin(self, term: int, pod_uid: str, base: Checkpoint | None) -> TermWriter:
        """Open this term for writing; `base` is what training goes on from, None for a fresh start.

        Makes the term's folder, which stops older writers before their next commit, and secures the base in it by hard
        links. Syncs nothing, for it is on a failover's path: a folder that a power cut takes back held nothing yet.
        Raises Superseded if a higher term, or another pod with this term, has a folder. Looks again once its own is
        made: a change of one's own ends what a network file system believed of the names around it. Of two pods that
        an etcd restored to an older state gave the same term at least one sees the other.
        """
        with volume_errors(f"begin term {term}", self.path):
            self._stop_if_taken(term, pod_uid)
            if base is None and any(folder.counts and folder.term < term for folder in self._rank.scan()):
                raise CheckpointsExist(
                    f"checkpoints lie below {self.path}: term {term} must go on from the newest of them; "
                    "to start over, use another job, or remove that folder"
                )
            writer = TermWriter(self._rank, term, pod_uid, base, self._keep)
            self._stop_if_taken(term, pod_uid)
            return writer

    def is_free(self, term: int, pod_uid: str) -> bool:
        """Tell whether `begin` would succeed: no higher term is there, and no other pod's folder of this term."""
        with volume_errors("list the terms", self.path), contextlib.suppress(Superseded):
            self._stop_if_taken(term, pod_uid)
            return True
        return False

    def _stop_if_taken(self, term: int, pod_uid: str) -> None:
        for other, uid in self._rank.term_names():
            if other > term:
                raise Superseded(other)
            if other == term and uid != pod_uid:
                raise Superseded(term, f"term {term} was begun by pod {uid} already; this pod ({pod_uid}) stops")

    def _volume_id(self) -> str | None:
        try:
            text = bytes(self._fs.read(self.path / "VOLUME", SMALL_MAX_BYTES))
        except (FileNotFoundError, NotAFile):
            return None
        # A torn one is none.
        return text[:-1].decode("ascii") if len(text) == _VOLUME_ID_CHARS + 1 and text[:-1].isalnum() else None

    def _until(self, seen: Callable[[], bool], deadline: float) -> bool:
        """Look again and again; tell whether it was seen. The last look begins after the deadline: this process may
        have stood still in the one before."""
        pause = _FIRST_PAUSE_S
        while True:
            looked_at = self._clock()
            if seen():
                return True
            if looked_at >= deadline:
                return False
            self._pause(pause, deadline)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _pause(self, seconds: float, deadline: float) -> None:
        if (left := deadline - self._clock()) > 0:
            self._sleep(min(seconds, left))

    def _await(self, floor: CheckpointRef | None, wait_s: float, deadline: float) -> None:
        def shown() -> bool:
            first = next(candidates(self._rank.scan(), self._rank.line_of, floor), None)
            return first is not None and first.keeps_floor

        if floor is None or self._until(shown, deadline) or floor.step == 0:
            return
        # A later term that leaves the floor out went back past it, damaged, and could not report that.
        if any(folder.counts and folder.term > floor.term for folder in self._rank.scan()):
            return
        raise FloorMissing(
            floor,
            f"step {floor.step} of term {floor.term} (digest {floor.digest[:12]}) was committed, but is not below "
            f"{self.path} after {wait_s:.0f} s: is this the same volume? Starting below it would lose steps; "
            "bring the volume back, or remake the job",
        )

    def _no_way_back(
        self, folders: list[TermFolder], floor: CheckpointRef | None, problems: list[str]
    ) -> CheckpointDamaged | None:
        what_to_do = "restore the folder from a backup, or remove it to start over"
        if problems:
            return CheckpointDamaged(
                f"no checkpoint below {self.path} is whole ({len(problems)} tried): {what_to_do}", tuple(problems)
            )
        if any(folder.counts for folder in folders) or (floor is not None and floor.step > 0):
            return CheckpointDamaged(f"{self.path} has terms, but no checkpoint is left in them: {what_to_do}")
        return None
