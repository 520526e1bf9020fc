"""The supervision of the trainer: its messages, its deadlines, its end. Pure.

What the trainer says and what becomes of its process moves its life on (life.py, which has the table). The supervisor
alone writes `life`. It tells the trainer its role and the primary's newest checkpoint, and it decides the last words.

Guarantees that a trainer which failed, hangs, or does not end is ended, by a deadline of the job's `spec.failover` or
one of verdict.py. Trusts the machine's monotonic clock.
"""

import signal
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.exits import ExitCode, describe_exit
from understudy_contract.reports import CheckpointRef, Notice

from understudy import protocol
from understudy.agent import model
from understudy.agent.lease_view import LeaseView
from understudy.agent.life import Ending, Grace, HandingOver, Life, Running
from understudy.agent.model import Config
from understudy.agent.place import Standing
from understudy.agent.progress import SECOND, Progress
from understudy.agent.renewals import Renewals
from understudy.agent.turn import Turn
from understudy.agent.verdict import (
    FAILED_ENDS_WITHIN_S,
    HELLO_WITHIN_S,
    LAUNCHER_ENDS_WITHIN_S,
    RESTARTS_WITHIN_S,
    LastWords,
    ending_failed,
    ends_complete,
    handed_over,
    judge_exit,
    late_hand_over,
    lived_on,
    not_called_yet,
    outlived,
    stalled,
    too_often,
)
from understudy.agent.watchdog import Patience, Watchdog

_NEVER: Final = float("inf")
_URGENT: Final = (protocol.Ready, protocol.TermTaken, protocol.FirstStep, protocol.Completed)
"""Messages for which the operator waits."""


class Supervisor:
    """Supervises one pod's trainer; `turn` holds what happens now."""

    def __init__(
        self, config: Config, turn: Turn, standing: Standing, rank: LeaseView, progress: Progress, renewals: Renewals
    ) -> None:
        self._config = config
        self._turn = turn
        self._standing = standing
        self._rank = rank
        self._progress = progress
        self._renewals = renewals
        self.life: Life = Running()
        self._grace = Grace(config.grace_s)
        self._watchdog = Watchdog()
        self._busy_before = 0
        self._followed: CheckpointRef | None = None

    @property
    def is_ending(self) -> bool:
        """Return whether the trainer is made to end."""
        return isinstance(self.life, Ending)

    def start(self, now: float) -> None:
        """Begin: the trainer's process has been started."""
        self.life = Running(hello_by=now + HELLO_WITHIN_S)

    def wake_at(self) -> float:
        """Return when `on_time` will have something to do."""
        life = self.life.wake_at(self._renewals) if isinstance(self.life, Ending) else self.life.wake_at()
        return min(life, self._watchdog.wake_at())

    def on_time(self) -> None:
        """Judge the deadlines that have passed."""
        if not isinstance(self.life, Ending):
            self._judge(self.life)

    def advance(self) -> None:
        """Take the next steps of the end."""
        if isinstance(self.life, Ending):
            self._turn.do(*self.life.advance(self._renewals, self._turn.now))

    def refuse_second(self) -> None:
        """Note that a second process wanted to train, and was refused."""
        self._turn.log(SECOND)
        self._progress.refuse_second()

    def supersede(self, term: int) -> None:
        """End the trainer, which may save nothing any more: another pod holds the rank's Lease in this term."""
        if self._progress.hello:
            self._turn.send(protocol.Supersede(term))
        self._end(ExitCode.SUPERSEDED, grace_s=model.END_WITHIN_S if self._progress.hello else 0.0)

    def on_message(self, message: protocol.FromTrainer) -> None:
        """Take in what the trainer says."""
        if isinstance(message, protocol.Hello) and self._progress.hello and not self._may_start_again():
            return
        if line := self._progress.note(message):
            self._turn.log(line)
        if isinstance(message, _URGENT):
            self._renewals.hurry()
        life = self.life
        match message:
            case protocol.Hello():
                self._on_hello()
            case protocol.Failed(final=True) | protocol.Superseded() if not isinstance(life, Ending):
                life.failed_by = min(life.failed_by, self._turn.now + FAILED_ENDS_WITHIN_S)
            case protocol.Completed() if not isinstance(life, Ending):
                life.end_by = self._turn.now + self._config.end_s
            case protocol.Returned() if isinstance(life, HandingOver):
                self._end_complete()
            case protocol.HandedOver(checkpoint) if not isinstance(life, Ending):
                left_s = self._grace.left_s(self._turn.now)
                self._turn.log(f"the script has {left_s:.0f} s to end")
                self._finish(handed_over(f"saved step {checkpoint.step}"), grace_s=left_s)
            case _:
                pass  # the next renewal carries it

    def _on_hello(self) -> None:
        if not isinstance(self.life, Ending):
            self.life.begin_again()
        if self._progress.survived.restarts:
            self._renewals.hurry()
        self._followed = None
        self.brief()

    def _may_start_again(self) -> bool:
        """Say whether a trainer that was started again gets a role; else its pod ends."""
        if isinstance(self.life, HandingOver | Ending) or self._progress.superseded:
            self._turn.log("a trainer that was started again gets no role: this pod is ending")
            if isinstance(self.life, Ending):
                self.life.hurry(self._turn.now)  # the script has ended, and its launcher does not know when to
            return False
        if self._progress.fails_too_often(self._config.max_failures):
            self._give_up(too_often(self._progress))
            return False
        return True

    def on_lost(self, below: bool, shortage: str) -> None:
        """The trainer's process has ended, or has closed its connection; the container's program may live on."""
        trainer, life = self._progress, self.life
        trainer.note_shortage(shortage)
        # A trainer that was killed amid a long piece of work has left its mark in the counters.
        self._busy_before = self._turn.counts.busy
        ended_well = trainer.completed is not None and trainer.failed is None
        if not trainer.hello or isinstance(life, Ending) or ended_well:
            return
        trainer.lose(below=below)
        leaving = isinstance(life, HandingOver) or trainer.superseded
        life.failed_by = self._turn.now + (LAUNCHER_ENDS_WITHIN_S if leaving else RESTARTS_WITHIN_S)
        if self._standing.is_redundant:
            self._renewals.hurry()  # it could not take over now

    def on_exit(self, code: int, shortage: str) -> None:
        """The container's program has ended."""
        self._progress.note_shortage(shortage)
        if isinstance(self.life, Ending):
            self.life.trainer_ended = True
            self._turn.log(f"the trainer ended with {describe_exit(code)}")
            return
        words, end = judge_exit(code, self._config.script, self._progress), describe_exit(code)
        self._turn.log(f"the trainer ended with {end}" + (f": {words.message}" if words.message != end else ""))
        self._finish(words, grace_s=0.0, trainer_ended=True)

    def on_terminated(self) -> None:
        """SIGTERM: the pod is being deleted."""
        self._grace.begin(self._turn.now)
        life = self.life
        if isinstance(life, HandingOver | Ending):
            return
        if not self._standing.is_primary:
            self._turn.log("SIGTERM: ending the trainer")
            self._terminate()
            self._end(0, grace_s=self._grace.left_s(self._turn.now))
        elif life.failed_by < _NEVER or (self._progress.started is None and self._progress.survived.restarts):
            words = ending_failed(self._progress)
            self._turn.log(f"SIGTERM, and the trainer has failed: {words.message}")
            self._finish(words, grace_s=0.0)
        elif self._progress.started is None:
            text = "deleted before its first step of this term, so none is lost"
            self._turn.log(f"SIGTERM: {text}")
            self._terminate()
            self._finish(handed_over(text), grace_s=self._grace.left_s(self._turn.now))
        elif not self._end_complete():
            by = self._turn.now + self._config.hand_over_s
            self.life = HandingOver(life.hello_by, life.failed_by, life.end_by, by)
            what = "handing over within" if self._progress.completed is None else "the script may end within"
            self._turn.log(f"SIGTERM: {what} {self._config.hand_over_s:g} s")
            self._turn.send(protocol.HandOver())

    def _judge(self, life: Running) -> None:
        """End the pod at the first deadline that has passed; of several the first in this list counts."""
        now, patience = self._turn.now, self._patience(life)
        stands_still = self._watchdog.look(self._turn.counts.activity, now, patience)
        if isinstance(life, HandingOver) and now >= life.hand_over_by:
            self._give_up(late_hand_over(self._config.hand_over_s, self._progress))
        elif now >= life.failed_by:
            self._give_up(lived_on(self._progress, self._config.script))
        elif now >= life.end_by:
            words = outlived(self._config.end_s, self._progress)
            self._turn.log(words.message)
            self._progress.add_notice(Notice(EventReason.SCRIPT_ENDED, words.message))
            self._turn.do(model.SignalTrainer(signal.SIGTERM))
            self._finish(words, grace_s=model.HANDLERS_WITHIN_S)
        elif stands_still and patience is not None:
            self._give_up(stalled(patience, self._turn.counts.step, self._config.script, self._progress))
        elif now >= life.hello_by:
            life.hello_by = _NEVER
            notice = not_called_yet(self._config.script)
            self._turn.log(notice.message)
            self._progress.add_notice(notice)

    def brief(self) -> None:
        """Tell the trainer its role, once it listens."""
        if not self._progress.hello or self._progress.lost or self.is_ending or self._rank.record is None:
            return
        if self._standing.is_redundant:
            self._turn.send(protocol.Standby(self._progress.volume))
            self.follow()
        elif self._renewals.term is not None and self._standing.is_primary:
            known = (self._rank.record.floor, self._progress.checkpoint)
            floor = max((ref for ref in known if ref is not None), default=None)
            self._turn.send(protocol.Promote(self._renewals.term, floor, self._progress.volume))

    def follow(self) -> None:
        """Tell a redundant trainer of the primary's newest checkpoint."""
        floor = self._rank.record.floor if self._rank.record is not None else None
        if not self._progress.hello or self._progress.lost or self.is_ending or floor is None:
            return
        if self._followed is None or floor > self._followed:
            self._followed = floor
            self._turn.send(protocol.Follow(floor, self._progress.volume))

    def _patience(self, life: Running) -> Patience | None:
        """How long the trainer may do nothing now; None: as long as it likes."""
        trainer = self._progress
        if trainer.completed is not None or isinstance(life, HandingOver) or life.failed_by < _NEVER:
            return None  # another deadline holds
        if self._standing.is_undecided and trainer.hello:
            return None  # it waits for its role, as we do
        # One that was warm has traced and loaded everything: it says so itself where it is busy all the same.
        steps = self._standing.is_primary and (trainer.loaded is not None or trainer.first is not None)
        if steps and self._turn.counts.busy <= self._busy_before:
            return Patience(self._config.progress_s, "progressDeadlineSeconds")
        return Patience(self._config.startup_s, "startupDeadlineSeconds")

    def _give_up(self, words: LastWords) -> None:
        """Kill the trainer, and release with these words."""
        self._turn.log(words.message)
        self._finish(words, grace_s=0.0)

    def _finish(self, words: LastWords, *, grace_s: float, trainer_ended: bool = False) -> None:
        """Release with these words, and end."""
        self._renewals.release(words, self._turn.now)
        self._end(words.code, grace_s=grace_s, trainer_ended=trainer_ended)

    def _end(self, code: int, *, grace_s: float, trainer_ended: bool = False) -> None:
        """End the trainer after the grace, then the agent."""
        self.life = Ending(code, self._turn.now + grace_s, trainer_ended)
        self._watchdog.rest()

    def _end_complete(self) -> bool:
        """End a pod whose script has run all its code: what keeps its process is not worth another pod."""
        if (words := ends_complete(self._progress)) is None:
            return False
        self._turn.log(f"SIGTERM: {words.message}")
        self._terminate()
        self._finish(words, grace_s=self._grace.left_s(self._turn.now))
        return True

    def _terminate(self) -> None:
        """Let a trainer that has nothing to save end in its way: by SIGTERM, and where it ignores that, by our word."""
        self._turn.do(model.SignalTrainer(signal.SIGTERM))
        if self._progress.hello and self._progress.completed is None:
            self._turn.send(protocol.HandOver(signalled=True))
