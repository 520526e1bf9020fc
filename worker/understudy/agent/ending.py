"""How an agent's life ends: the trainer is made to end, the release is written, the agent exits. Pure.

Guarantees that the end comes: a trainer that survives SIGKILL is left to the kernel, a release that cannot be written
is given up after one lease duration.

Once a pod is told to end, its script owns the rest of the grace period: `finally` clauses, exit handlers and its own
SIGTERM handler run, while the successor trains already. SIGKILL comes a second before the kubelet would send it, so
that the agent's last line and exit code are kept. The grace period is counted from the SIGTERM on the machine's
monotonic clock, and is the one that the pod was made with. `kubectl delete --grace-period` gives another one, which the
kubelet alone knows: where it is shorter, the kubelet kills, and where it is longer, the agent does.
"""

import signal
from dataclasses import dataclass
from typing import Final

from understudy_contract.exits import ReleaseReason

from understudy.agent.held import Held
from understudy.agent.model import (
    DEFAULT_DURATION_S,
    END_WITHIN_S,
    Action,
    Exit,
    Log,
    SignalTrainer,
)
from understudy.agent.verdict import LastWords

LAST_SECOND_S: Final = 1.0
"""Left of the grace period when the agent kills: room for its own end."""
_NEVER: Final = float("inf")


@dataclass(slots=True)
class Grace:
    """What is left of the time that the pod has once it is told to end."""

    period_s: float
    _over_at: float | None = None

    def begin(self, now: float) -> None:
        """Count from the first SIGTERM."""
        if self._over_at is None:
            self._over_at = now + self.period_s

    def left_s(self, now: float) -> float:
        """Say how long the trainer may run on: END_WITHIN_S at least, and where no SIGTERM has come."""
        return max(END_WITHIN_S, self._over_at - LAST_SECOND_S - now) if self._over_at is not None else END_WITHIN_S


@dataclass(slots=True)
class Ending:
    """Nothing is set while the trainer is to go on."""

    code: int | None = None
    """Exit code of the agent, once the end has begun."""
    words: LastWords | None = None
    """What the release says; None: nothing is to be released."""
    trainer_ended: bool = False
    _killed: bool = False
    _kill_at: float = _NEVER
    _tell_by: float = _NEVER

    @property
    def has_begun(self) -> bool:
        """Say whether the agent is on its way out."""
        return self.code is not None

    def begin(self, code: int, *, kill_at: float = _NEVER) -> None:
        """Exit with this code once the trainer has ended, by itself or at `kill_at`."""
        self.code, self._kill_at = code, kill_at

    def hurry(self, now: float) -> None:
        """Kill what is left of the trainer now: nothing that it still does is of use."""
        if not self._killed:
            self._kill_at = now

    def tell(self, words: LastWords, held: Held | None, now: float) -> None:
        """Release with these words before the exit."""
        duration_s = (held.duration_s if held is not None else 0) or DEFAULT_DURATION_S
        # That a training is complete is told however long the API server is away: untold, it would be done again.
        patience_s = _NEVER if words.reason is ReleaseReason.COMPLETED else duration_s
        self.words, self._tell_by = words, now + patience_s

    def wake_at(self) -> float:
        """Say when `advance` will have something to do."""
        return self._tell_by if self.trainer_ended else self._kill_at

    def advance(self, held: Held | None, now: float) -> list[Action]:
        """Take the next steps; the last is Exit."""
        out: list[Action] = []
        if self.code is None:
            return out
        if not self.trainer_ended and now >= self._kill_at:
            if self._killed:
                out.append(Log("the trainer does not die: leaving it to the kernel"))
                self.trainer_ended = True
            else:
                self._killed, self._kill_at = True, now + END_WITHIN_S
                out += [Log("the trainer has not ended: killing it"), SignalTrainer(signal.SIGKILL)]
        told = self.words is None or (held is not None and held.settled)
        if self.trainer_ended and (told or now >= self._tell_by):
            if not told:
                out.append(Log("the release could not be written; the Lease will expire"))
            out.append(Exit(self.code, self.words.message if self.words is not None else ""))
        return out
