"""What the trainer has said so far, and the heartbeat that follows from it. Pure; keeps no time."""

from dataclasses import dataclass, field
from typing import Final, assert_never

from understudy_contract.names import Term
from understudy_contract.reports import CheckpointRef, FirstStep, Heartbeat, Notice, Phase

from understudy import protocol

_NOTICES_MAX: Final = 16
"""Notices that wait for a renewal each; more than that is noise."""


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
    """Its last sentence, if it had one."""
    volume_failed: bool = False
    """That sentence is about the volume."""
    notices: list[Notice] = field(default_factory=list)

    def note(self, message: protocol.FromTrainer) -> str | None:  # noqa: C901 - one branch a message
        """Take a message in; give a line for the log where people would want one."""
        match message:
            case protocol.Hello():
                self.hello = True
            case protocol.Ready(loaded):
                first, self.loaded = self.loaded is None, loaded
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
                self.checkpoint = checkpoint
            case protocol.HandedOver(checkpoint):
                self.checkpoint = checkpoint
                return f"handed over at step {checkpoint.step}"
            case protocol.Completed(step):
                self.completed = message
                return f"complete at step {step}; waiting for the script to end"
            case protocol.Returned(waits_for):
                self.returned = message
                return f"the script's code has ended; its process waits for {waits_for}" if waits_for else None
            case protocol.Superseded(term):
                self.failed = f"term {term} is on the volume: another pod trains this rank"
                return self.failed
            case protocol.Failed(text, volume):
                self.failed, self.volume_failed = text, volume
            case protocol.Notice(reason, text):
                if len(self.notices) < _NOTICES_MAX:
                    self.notices.append(Notice(reason, text))
            case _:
                assert_never(message)
        return None

    def is_working(self, *, primary: bool) -> bool:
        """Say whether a primary steps, or a redundant pod is warm."""
        return self.first is not None or self.completed is not None if primary else self.loaded is not None

    def beat(self, pod: str, term: Term, step: int, *, primary: bool) -> Heartbeat:
        """Compose the heartbeat; `step` is the progress counter."""
        held = self.loaded.step if self.loaded is not None else 0
        if not primary:
            phase = Phase.READY if self.loaded is not None else Phase.STARTING
            return Heartbeat(pod=pod, term=term, phase=phase, step=held, loaded=self.loaded)
        if self.started is None or self.checkpoint is None:
            taken = self.term_taken if self.term_taken >= term else 0
            return Heartbeat(pod=pod, term=term, phase=Phase.STARTING, step=held, volume=self.volume, term_floor=taken)
        return Heartbeat(
            pod=pod,
            term=term,
            phase=Phase.FINISHING if self.completed is not None else Phase.TRAINING,
            step=max(step, self.checkpoint.step),
            checkpoint=self.checkpoint,
            first_step=self.first if self.started.term == term else None,
            volume=self.volume,
            model=self.completed.model if self.completed is not None else None,
        )
