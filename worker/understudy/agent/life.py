"""How far the life of this pod's trainer has come, and how it ends. Pure.

    state        | event                                                | next
    -------------+------------------------------------------------------+------------------------------
    Running      | SIGTERM, in a primary that has begun its term        | HandingOver
    Running      | SIGTERM, otherwise                                   | Ending
    HandingOver  | SIGTERM                                              | HandingOver: the deadline stays
    HandingOver  | the deadline passes                                  | Ending, the trainer is killed
    both         | the trainer says HandedOver                          | Ending
    both         | the trainer's process ends                           | Ending
    both         | it failed, and neither ends nor is started again     | Ending, the trainer is killed
    both         | it failed too often, and is started again            | Ending, the trainer is killed
    both         | its training is complete, and its script runs on     | Ending
    Running      | nothing happens for the deadline of the watchdog     | Ending, the trainer is killed
    both         | the rank's Lease makes the pod superseded (place.py) | Ending
    Ending       | the trainer has ended, and the release is settled    | the agent exits

No state leads back. Guarantees that the end comes: a trainer that survives SIGKILL is left to the kernel, and a release
that cannot be written is given up (renewals.py).

Once a pod is told to end, its script owns the rest of the grace period: `finally` clauses, exit handlers and its own
SIGTERM handler run, while the successor trains already. SIGKILL comes a second before the kubelet would send it, so
that the agent's last line and exit code are kept. The grace period is counted from the SIGTERM on the machine's
monotonic clock, and is the one that the pod was made with. `kubectl delete --grace-period` gives another one, which the
kubelet alone knows: where it is shorter, the kubelet kills, and where it is longer, the agent does.
"""

import signal
from dataclasses import dataclass
from typing import Final

from understudy.agent.model import END_WITHIN_S, Action, Exit, Log, SignalTrainer
from understudy.agent.renewals import Renewals

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
        """Return how long the trainer may run on: END_WITHIN_S at least, also where no SIGTERM has come."""
        return max(END_WITHIN_S, self._over_at - LAST_SECOND_S - now) if self._over_at is not None else END_WITHIN_S


@dataclass(slots=True)
class Running:
    """The trainer is to go on. Each deadline is infinite while it does not hold."""

    hello_by: float = _NEVER
    """Until then the script is expected to call understudy; later this is reported once."""
    failed_by: float = _NEVER
    """The trainer has failed; until then its process may end, or a launcher may start it again."""
    end_by: float = _NEVER
    """The training is complete; until then its script may run on."""

    def begin_again(self) -> None:
        """Lift the deadlines: a trainer has said Hello."""
        self.hello_by = self.failed_by = self.end_by = _NEVER

    def wake_at(self) -> float:
        """Return the next deadline."""
        return min(self.hello_by, self.failed_by, self.end_by)


@dataclass(slots=True)
class HandingOver(Running):
    """SIGTERM came, and the trainer is to save, and to say HandedOver."""

    hand_over_by: float = _NEVER

    def wake_at(self) -> float:
        """Return the next deadline."""
        return min(self.hello_by, self.failed_by, self.end_by, self.hand_over_by)


@dataclass(slots=True)
class Ending:
    """The trainer is made to end; then the agent exits, once its release is settled."""

    code: int
    """Exit code of the agent."""
    kill_at: float
    trainer_ended: bool = False
    killed: bool = False

    def hurry(self, now: float) -> None:
        """Kill what is left of the trainer now: nothing that it still does is of use."""
        if not self.killed:
            self.kill_at = now

    def advance(self, renewals: Renewals, now: float) -> list[Action]:
        """Return the next steps; the last one is Exit."""
        out: list[Action] = []
        if not self.trainer_ended and now >= self.kill_at:
            if self.killed:
                out.append(Log("the trainer does not die: leaving it to the kernel"))
                self.trainer_ended = True
            else:
                self.killed, self.kill_at = True, now + END_WITHIN_S
                out += [Log("the trainer has not ended: killing it"), SignalTrainer(signal.SIGKILL)]
        if self.trainer_ended and now >= renewals.over_at:
            if not renewals.is_released:
                out.append(Log("the release could not be written; the Lease will expire"))
            out.append(Exit(self.code, renewals.words.message if renewals.words is not None else ""))
        return out

    def wake_at(self, renewals: Renewals) -> float:
        """Return when `advance` will have something to do."""
        return renewals.over_at if self.trainer_ended else self.kill_at


Life = Running | HandingOver | Ending
