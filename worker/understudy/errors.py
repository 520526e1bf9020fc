"""What can go wrong on the worker's side. The message of each says what happened, to which object, and what to do next.

UnderstudyError
├── Retryable                  the same call may succeed later; training goes on meanwhile
│   ├── CheckpointMissing      a checkpoint that was named is not (or no longer) on the volume
│   │   └── FloorMissing       … and it is the durable floor: nobody may start below it
│   ├── CheckpointsExist       a fresh start was asked for where checkpoints lie: read the newest again
│   └── VolumeTrouble          the volume refused a read or a write
│       ├── VolumeFull         ENOSPC, EDQUOT; at a fresh start no room for `keep` checkpoints
│       ├── VolumeReadOnly     EROFS, EACCES, EPERM
│       └── VolumeFailed       EIO, ESTALE, a time-out and everything else
└── Terminal                   trying again gives the same: this process must end, or somebody must act
    ├── Superseded             a higher term exists: another pod trains this rank; stop without another commit
    ├── CheckpointDamaged      a checkpoint, or every one along a lineage, fails its checksums
    ├── VolumeMismatch         this pod sees another volume than the primary
    ├── VolumeTooSmall         the volume could not hold `keep` checkpoints of this model if it were empty
    └── NotStarted             a call of the SDK out of its order
"""

from typing import Final

from understudy_contract.reports import CheckpointRef
from understudy_contract.text import clean

MESSAGE_MAX_BYTES: Final = 2000
"""Of an error's message: names and values from a volume are in it, which others can write."""


class UnderstudyError(Exception):
    """Root of all errors that this package raises on purpose.

    Its message is one clean line.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(clean(message, MESSAGE_MAX_BYTES))


class Retryable(UnderstudyError):  # noqa: N818 - an adjective, for `except`
    """The same call may succeed later."""


class Terminal(UnderstudyError):  # noqa: N818 - an adjective, for `except`
    """The same call will fail again."""


class CheckpointMissing(Retryable):
    """A checkpoint that was named is not on the volume: pruned meanwhile, or not visible yet."""

    def __init__(self, ref: CheckpointRef, message: str) -> None:
        super().__init__(message)
        self.ref = ref


class FloorMissing(CheckpointMissing):
    """The checkpoint that MUST be there did not appear in time."""


class CheckpointsExist(Retryable):
    """A fresh start was asked for where checkpoints lie."""


class VolumeTrouble(Retryable):
    """The volume refused a read or a write; `errno` says how."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class VolumeFull(VolumeTrouble):
    """No space, or the quota is used up; or, before the first save, less space than will be needed."""


class VolumeReadOnly(VolumeTrouble):
    """Mounted read-only, or not writable for this user."""


class VolumeFailed(VolumeTrouble):
    """The storage itself failed."""


class Superseded(Terminal):
    """A higher term exists: another pod trains this rank."""

    def __init__(self, term: int, message: str | None = None) -> None:
        super().__init__(message or f"superseded: term {term} of this rank belongs to another pod; this one stops")
        self.term = term
        """The term that was seen."""


class CheckpointDamaged(Terminal):
    """A checkpoint fails its checksums; `problems` holds one sentence for each that was tried."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(clean(problem, MESSAGE_MAX_BYTES) for problem in problems or (message,))


class VolumeMismatch(Terminal):
    """This pod sees another volume than the primary of its rank."""

    def __init__(self, expected: str, found: str | None) -> None:
        seen = f"volume {found}" if found else "a volume without an id"
        super().__init__(
            f"the primary trains on volume {expected}, this pod sees {seen}: their nodes do not share the claim. "
            "Use a ReadWriteMany claim, or a ReadWriteOnce one with all pods of the job on one node"
        )
        self.expected = expected
        self.found = found


class VolumeTooSmall(Terminal):
    """The volume, were it empty, could not hold as many checkpoints as are to be kept."""


class NotStarted(Terminal):
    """A call of the SDK out of its order."""
