"""What the trainer has said so far, and the heartbeat that follows from it. Pure; keeps no time."""

from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec
from understudy_contract.names import Term
from understudy_contract.reports import LAST_WORDS_MAX_CHARS, CheckpointRef, FirstStep, Heartbeat, Notice, Phase

from understudy import protocol
from understudy.agent.survived import Survived, brief

_NOTICES_MAX: Final = 16
"""Notices that wait for a renewal each; more than that is noise."""
_NO_WORD: Final = "the process that trains ended, or closed its connection to the agent, without a word"
_SILENT: Final = "the process that trains ended without a word"
_KILLED_BEFORE: Final = "; before that the kernel killed a process of the container: "
_ENDED_AFTER: Final = "the process ended after its training was complete, and the code after it did not succeed"
SECOND: Final = (
    "a second process called understudy while the first one was connected, and was refused: let one process of a pod "
    "train, and start no other before that one has ended"
)


@dataclass(slots=True)
class Progress:
    """The trainer's own account of itself."""

    hello: bool = False
    volume: str | None = None
    """Known from the trainer or from the rank's Lease."""
    loaded: CheckpointRef | None = None
    started: protocol.Started | None = None
    term_taken: int = 0
    """Highest term, not below its own, that the trainer found on the volume."""
    first: FirstStep | None = None
    checkpoint: CheckpointRef | None = None
    completed: protocol.Completed | None = None
    returned: protocol.Returned | None = None
    failed: str | None = None
    """Why it failed, if it said so: an exception that nobody caught, or one that has left the training loop."""
    volume_failed: bool = False
    """That sentence is about the volume."""
    superseded: bool = False
    """It found a higher term on the volume."""
    lost: bool = False
    """The process that said Hello has ended, or its connection has; no other has said Hello since."""
    below: bool = False
    """It had been started by the container's program, and was not that itself."""
    shortage: str = ""
    """What memory.py says of a process that was killed for want of memory while it ran."""
    notices: list[Notice] = field(default_factory=list)
    survived: Survived = field(default_factory=Survived)

    @property
    def failure(self) -> str:
        """Say why the present trainer failed, whatever is known of it."""
        return self.failed or (_NO_WORD if self.completed is None else _ENDED_AFTER)

    @property
    def cause(self) -> str:
        """Say why the present trainer failed, and that the kernel killed a process for want of memory, if it did.

        A trainer without a last word was the victim, as far as anybody knows. Other failures may follow from the death
        of a child.
        """
        if not self.shortage:
            return self.failure
        return told_with(self.failed, self.shortage) if self.failed is not None else f"{_SILENT}: {self.shortage}"

    def note(self, message: protocol.FromTrainer) -> str | None:  # noqa: C901 - one branch a message
        """Take a message in; give a line for the log where people would want one."""
        match message:
            case protocol.Hello():
                if self.hello:
                    return self._start_again()
                self.hello = True
            case protocol.Ready(loaded):
                first, self.loaded = self.loaded is None, loaded
                if first:
                    self.survived.failures = 0  # as for a pod: one that came to be warm has failed in nothing
                return f"ready to take over from step {loaded.step}" if first else None
            case protocol.Started(term, checkpoint, volume):
                self.started, self.checkpoint, self.volume = message, checkpoint, volume
                return f"term {term} goes on from step {checkpoint.step}"
            case protocol.TermTaken(term):
                self.term_taken = term
                return f"term {term} is on the volume: a higher one is needed"
            case protocol.FirstStep(_, step, at):
                self.first = FirstStep(step, at)
            case protocol.Committed(checkpoint):
                self._commit(checkpoint)
            case protocol.HandedOver(checkpoint):
                self._commit(checkpoint)
                return f"handed over at step {checkpoint.step}"
            case protocol.Completed(step):
                self.completed, self.failed, self.volume_failed = message, None, False
                return f"complete at step {step}; waiting for the script to end"
            case protocol.Returned(waits_for):
                self.returned = message
                return f"the script's code has ended; its process waits for {waits_for}" if waits_for else None
            case protocol.Superseded(term):
                self.failed = f"term {term} is on the volume: another pod trains this rank"
                self.superseded = True
                return self.failed
            case protocol.Failed(text, volume):
                self.failed, self.volume_failed = text, volume
            case protocol.Notice(reason, text):
                self._notice(Notice(reason, text))
            case _:
                assert_never(message)
        return None

    def fails_too_often(self, limit: float) -> bool:
        """Say whether one more failure is the last one that the job may have; trouble with the volume never is."""
        return not self.volume_failed and self.survived.before + self.survived.failures + 1 >= limit

    def lose(self, *, below: bool) -> None:
        """Note that the process that said Hello has ended, or has closed its connection."""
        self.lost, self.below = True, below

    def note_shortage(self, shortage: str) -> None:
        """Note what memory.py says of a process that was killed while this trainer ran; empty: it says nothing."""
        self.shortage = shortage or self.shortage

    def learn_volume(self, volume: str | None) -> None:
        """Note the volume's id, as the rank's Lease reports it."""
        if volume is not None:
            self.volume = volume

    def begin_term(self, failures: int = 0) -> None:
        """Count failures of a new term; `failures` without progress came before it."""
        self.survived.begin_term(failures)

    @property
    def next_notice(self) -> Notice | None:
        """Return the notice that the next renewal carries."""
        return self.notices[0] if self.notices else None

    def drop_notice(self) -> None:
        """Forget the first notice: the API server has it, or refuses it."""
        self.notices.pop(0)

    def add_notice(self, notice: Notice) -> None:
        """Add a notice of the agent's own. They are few, so they are not limited."""
        self.notices.append(notice)

    def refuse_second(self) -> None:
        """Note that a second process wanted to train beside the first."""
        self._notice(self.survived.refuse(SECOND, self.checkpoint))

    def _start_again(self) -> str:
        """Forget the trainer before; keep what is true of the pod: volume, newest checkpoint, notices."""
        sentence = self.survived.start_again(self.cause, self.checkpoint, volume=self.volume_failed)
        self._notice(self.survived.notice(sentence))
        self.loaded = self.started = self.first = self.completed = self.returned = self.failed = None
        self.volume_failed = self.superseded = self.lost = False
        self.shortage = ""
        self.term_taken = 0
        return sentence

    def _commit(self, checkpoint: CheckpointRef) -> None:
        self.checkpoint = checkpoint
        self.survived.committed(checkpoint)

    def _notice(self, notice: Notice | None) -> None:
        if notice is not None and len(self.notices) < _NOTICES_MAX:
            self.notices.append(notice)

    def is_working(self, *, primary: bool) -> bool:
        """Say whether a primary steps, or a redundant pod is warm."""
        if self.lost:
            return False
        return self.first is not None or self.completed is not None if primary else self.loaded is not None

    def beat(self, pod: str, term: Term, step: int, *, primary: bool) -> Heartbeat:
        """Compose the heartbeat; `step` is the progress counter.

        A trainer that is lost is one that starts: it could not take a step, nor take over. The newest checkpoint is
        told all the same: it stays the durable floor of the rank.
        """
        survived = self.survived
        beat = self._beat(pod, term, step, primary=primary)
        return msgspec.structs.replace(
            beat,
            failures=survived.failures,
            restarts=survived.restarts,
            last_failure=brief(self.cause) if self.lost else survived.last,
        )

    def _beat(self, pod: str, term: Term, step: int, *, primary: bool) -> Heartbeat:
        held = self.loaded.step if self.loaded is not None else 0
        if not primary:
            phase = Phase.READY if self.loaded is not None and not self.lost else Phase.STARTING
            return Heartbeat(pod=pod, term=term, phase=phase, step=held, loaded=self.loaded)
        if self.checkpoint is not None:
            held = max(step, self.checkpoint.step)
        if self.started is None or self.checkpoint is None or self.lost:
            return Heartbeat(
                pod=pod,
                term=term,
                phase=Phase.STARTING,
                step=held,
                checkpoint=self.checkpoint,
                volume=self.volume,
                term_floor=self.term_taken if self.term_taken >= term else 0,
            )
        return Heartbeat(
            pod=pod,
            term=term,
            phase=Phase.FINISHING if self.completed is not None else Phase.TRAINING,
            step=held,
            checkpoint=self.checkpoint,
            first_step=self.first if self.started.term == term else None,
            volume=self.volume,
            model=self.completed.model if self.completed is not None else None,
        )


def told_with(message: str, shortage: str) -> str:
    """Add a shortage of memory to a message. A release is cut at its end: the shortage stays readable behind it."""
    return f"{message[: LAST_WORDS_MAX_CHARS - len(_KILLED_BEFORE) - len(shortage)]}{_KILLED_BEFORE}{shortage}"
