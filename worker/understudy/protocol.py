"""What the agent and the trainer tell each other over the Unix socket $UNDERSTUDY_SOCKET.

One message is one line of JSON, tagged by `type`. The trainer connects once and says `Hello` before anything slow; the
agent then says `Standby` or `Promote`. Order is kept in each direction; nothing is acknowledged unless a message below
says so.

Guarantees that what is said is in its bounds (understudy_contract/bounds.py), on both ends: it goes on into a Lease.
Guarantees nothing about delivery once either process has died: the progress counters and the volume say what was
reached. Reads no clock and opens no socket.
"""

from typing import Final

import msgspec
from understudy_contract.bounds import bounded
from understudy_contract.reports import CheckpointRef
from understudy_kube import shallow

LINE_MAX_BYTES: Final = 1 << 20
"""A longer line is not one of ours: readers give up rather than buffer without end."""


class _Message(msgspec.Struct, frozen=True, tag=True, tag_field="type", omit_defaults=True):
    pass


class Standby(_Message, frozen=True):
    """Be redundant: warm up, follow the primary's checkpoints, do not train."""

    volume: str | None = None
    """Id that the volume must have; None: not known yet."""


class Follow(_Message, frozen=True):
    """The primary committed this checkpoint: load it."""

    checkpoint: CheckpointRef
    volume: str | None = None


class Promote(_Message, frozen=True):
    """Be the primary of this term. A later one, with a higher term, answers TermTaken."""

    term: int
    floor: CheckpointRef | None = None
    """Checkpoint that MUST be found on the volume; None: the rank never committed one."""
    volume: str | None = None


class HandOver(_Message, frozen=True):
    """The pod ends. Finish the running step, save, say HandedOver, train no more; then the script may end."""

    signalled: bool = False
    """SIGTERM has been sent as well, so that the script's own handler has run."""


class Supersede(_Message, frozen=True):
    """A higher term exists: stop without another commit."""

    term: int


class Hello(_Message, frozen=True):
    """The SDK is in use. First message of the trainer, before anything slow."""

    version: str


class Ready(_Message, frozen=True):
    """Redundant: warm, and this checkpoint is verified and loaded. Sent again for each newer one."""

    loaded: CheckpointRef


class Started(_Message, frozen=True):
    """Primary: restored, and about to take its first step."""

    term: int
    checkpoint: CheckpointRef
    """What it goes on from; for a fresh start its own step-0 commit."""
    volume: str


class TermTaken(_Message, frozen=True):
    """The volume holds a folder of this term, not below ours, of another pod: without a higher one nothing can begin.

    Either this pod is superseded, or the Leases are older than the volume (etcd was restored from a backup).
    """

    term: int


class FirstStep(_Message, frozen=True):
    """The first step of the term is computed."""

    term: int
    step: int
    """Steps completed, this one included."""
    at: str
    """Wall clock after the step's result was there, RFC 3339 with microseconds."""


class Committed(_Message, frozen=True):
    """A checkpoint is durable and visible."""

    checkpoint: CheckpointRef


class HandedOver(_Message, frozen=True):
    """Answer to HandOver: this checkpoint holds every step that was taken."""

    checkpoint: CheckpointRef


class Completed(_Message, frozen=True):
    """The last checkpoint is committed; the script's own code may still run."""

    step: int
    model: str | None = None
    """Path of the finished model, relative to the volume's root."""


class Returned(_Message, frozen=True):
    """The main thread of a complete training's script has come to its end, so only its process is left to end."""

    waits_for: str
    """What keeps the process, in words; empty: nothing that the interpreter knows."""


class Superseded(_Message, frozen=True):
    """A higher term was found on the volume; the trainer stops."""

    term: int


class Failed(_Message, frozen=True):
    """The training has failed; one sentence says why."""

    message: str
    volume: bool = False
    """The volume is to blame, not the program."""
    final: bool = True
    """Nobody has caught the exception, so the process is about to end. False: it has left the training loop, and the
    script may still catch it."""


class Notice(_Message, frozen=True):
    """One sentence for the job's Events; training goes on."""

    reason: str
    """An EventReason."""
    message: str


FromAgent = Standby | Follow | Promote | HandOver | Supersede
FromTrainer = (
    Hello
    | Ready
    | Started
    | TermTaken
    | FirstStep
    | Committed
    | HandedOver
    | Completed
    | Returned
    | Superseded
    | Failed
    | Notice
)

_from_agent: Final[msgspec.json.Decoder[FromAgent]] = msgspec.json.Decoder(FromAgent)
_from_trainer: Final[msgspec.json.Decoder[FromTrainer]] = msgspec.json.Decoder(FromTrainer)


def encode(message: FromAgent | FromTrainer) -> bytes:
    """Render one message with its newline."""
    return msgspec.json.encode(bounded(message)) + b"\n"


def decode_from_agent(line: bytes) -> FromAgent:
    """Parse a line that the agent sent; raises msgspec.MsgspecError on anything else."""
    message: FromAgent = shallow.decode(line, _from_agent)
    return bounded(message)


def decode_from_trainer(line: bytes) -> FromTrainer:
    """Parse a line that the trainer sent; raises msgspec.MsgspecError on anything else."""
    message: FromTrainer = shallow.decode(line, _from_trainer)
    return bounded(message)
