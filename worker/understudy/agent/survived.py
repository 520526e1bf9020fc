"""Failures of the trainer that its pod has survived: a launcher in the container starts the trainer again. Pure.

A template may run its script below a launcher, such as `until python train.py; do sleep 2; done`. Then the end of the
process that trains is not the end of the container, and no release tells the operator of it. The pod goes on in its
term, and each heartbeat says how often the trainer has failed.

Guarantees that a failure counts once: when the next trainer says Hello. If none comes, the pod ends, and its release
tells of the failure instead. A newer checkpoint than the newest one at the failure sets the count back, so that the
operator can add it to the failures without progress of the rank. The counts are of one term: in the next one the
operator has taken over what was told in the last one.

A pod does not survive the failure that ends its job, as far as it knows of those before: it ends by itself, so that its
log is kept. The operator counts on its own.

Does not guarantee that each reason is seen: a heartbeat holds the last one. Events tell the others as far as a renewal
carries them. Of a loop that goes on for ever, as that of a redundant trainer may, they tell the first few restarts and
then ever fewer. Reads no clock.
"""

from dataclasses import dataclass
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.reports import LAST_FAILURE_MAX_BYTES, CheckpointRef, Notice
from understudy_contract.text import clean

_ALL_TOLD: Final = 5
"""Restarts of which each becomes an Event; after that those whose number is a power of two."""


@dataclass(slots=True)
class Survived:
    """What the heartbeats of one term tell of the trainers before the present one."""

    failures: int = 0
    """Since the newest checkpoint."""
    restarts: int = 0
    last: str | None = None
    """Why the last one failed."""
    before: int = 0
    """Failures without progress of the pods before this one, as the promotion to this term told them."""
    _checkpoint: CheckpointRef | None = None
    """The newest one at the last failure."""
    _refused: bool = False
    """The present trainer had company already, which was counted."""

    def start_again(self, reason: str, checkpoint: CheckpointRef | None, *, volume: bool) -> str:
        """Count the failure of the trainer before the one that has just said Hello; say it in a sentence.

        Trouble of the volume is told and not counted: it ends no job.
        """
        self.restarts += 1
        self._refused = False
        self._count(reason, checkpoint, by=0 if volume else 1)
        row = f", {self.failures} failures without progress" if self.failures > 1 else ""
        return f"the trainer failed, and was started again in its pod (restart {self.restarts}{row}): {reason}"

    def notice(self, sentence: str) -> Notice | None:
        """Make an Event of the last restart's sentence, unless there were so many that it would be noise."""
        number = self.restarts
        told = number <= _ALL_TOLD or number & (number - 1) == 0
        return Notice(EventReason.TRAINER_RESTARTED, sentence) if told else None

    def refuse(self, reason: str, checkpoint: CheckpointRef | None) -> Notice | None:
        """Count a second process that wants to train beside the present one, once for each trainer."""
        if self._refused:
            return None
        self._refused = True
        self._count(reason, checkpoint, by=1)
        return Notice(EventReason.SECOND_TRAINER, reason)

    def committed(self, checkpoint: CheckpointRef) -> None:
        """Begin the count anew once there is progress."""
        before = self._checkpoint
        if before is None or (checkpoint.term, checkpoint.step) > (before.term, before.step):
            self.failures = 0
        self.before = 0

    def begin_term(self, before: int = 0) -> None:
        """Forget all: what is counted belongs to one term of one Lease."""
        self.failures, self.restarts, self.last, self._checkpoint, self._refused = 0, 0, None, None, False
        self.before = before

    def _count(self, reason: str, checkpoint: CheckpointRef | None, *, by: int) -> None:
        self.failures += by
        self._checkpoint = checkpoint
        self.last = brief(reason)


def brief(reason: str) -> str:
    """Cut a reason to what each heartbeat may carry."""
    return clean(reason, LAST_FAILURE_MAX_BYTES)
