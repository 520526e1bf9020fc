"""What a checkpoint holds of a training beside its number: how it is composed, and put back.

The arrays are the state's own. The manifest's extra has the rest: the state's extra, Python's and numpy's random
generators, the place of the feed, the facts on which exactness depends, and whether the script has ended its training.

Guarantees that what was put back is what was saved: the arrays are compared, bit for bit, after the first load and
after the warm-up step. Facts that differ are reported. Reads no clock.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from understudy_contract.events import EventReason

from understudy.checkpoint import Checkpoint, as_json
from understudy.trainer import global_random
from understudy.trainer.facts import collect, differences
from understudy.trainer.failures import name_failure
from understudy.trainer.loading import Notify
from understudy.trainer.program import Program
from understudy.trainer.state import require_equal

ENVELOPE: Final = 1
"""Version of the layout of a manifest's extra."""


class Content:
    """The content of the checkpoints of one program."""

    def __init__(self, program: Program, notice: Notify, bump: Callable[[], None]) -> None:
        """Report by `notice`, and show by `bump` that this is no hang."""
        self._program = program
        self._state = program.state
        self._notice = notice
        self._bump = bump
        self._facts: dict[str, str] = {}
        self._checked = False
        self.stopped = False
        """The script has ended its training, here or in the pod whose checkpoint was loaded."""

    def record_facts(self) -> None:
        """Collect the facts on which exactness depends: the model is built by now."""
        self._facts = collect(self._program.facts())

    def envelope(self) -> dict[str, Any]:
        """Compose the manifest's extra."""
        place = self._program.feed.state() if self._program.feed is not None else {}
        return {
            "version": ENVELOPE,
            "stopped": self.stopped,
            "state": as_json(self._state.extra()),  # a copy: it is written while training goes on
            "facts": self._facts,
            "random": global_random.read(),
            **({"feed": as_json(place)} if place else {}),
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint back."""
        self._state.load(checkpoint.tensors)
        if not self._checked:
            require_equal(checkpoint.tensors, self._state.tensors(), f"after loading step {checkpoint.ref.step}")
            self._checked = True
            self._compare_facts(checkpoint.extra.get("facts", {}))
        self.stopped = bool(checkpoint.extra.get("stopped", False))
        self._state.load_extra(checkpoint.extra.get("state", {}))
        global_random.write(checkpoint.extra.get("random", {}))
        if self._program.feed is not None:
            self._program.feed.load(checkpoint.extra.get("feed", {}))
        self._program.prepare(checkpoint.ref.step)
        self._bump()

    def warm_up(self, index: int) -> None:
        """Take a step, and put everything back as it was."""
        before, extra, drawn = self._state.tensors(), as_json(self._state.extra()), global_random.read()
        with name_failure(f"step_fn({index})"):
            self._program.step(index)
        global_random.write(drawn)
        self._bump()
        self._state.load(before)
        self._state.load_extra(extra)
        require_equal(before, self._state.tensors(), "after the warm-up step")

    def _compare_facts(self, recorded: Mapping[str, Any]) -> None:
        if differs := differences(recorded, self._facts):
            self._notice(
                EventReason.NOT_EXACT,
                f"exactness is off, the training itself is not: {'; '.join(differs)}. Results are bit for bit "
                "repeatable only with one image, one number of threads and one type of CPU",
            )
