"""The agent's decisions: events in, actions out. Pure and deterministic; the caller gives the time and does the rest.

Rules:
1. The holder of the rank's Lease is primary; Promote goes to the trainer first, the acknowledging renewal next.
2. Once primary, never redundant again: a primary ends by completing, handing over, failing or being superseded.
3. Superseded only by positive evidence: another holder, in a term not below ours. A 422 makes us look; 401, 403, 404
   and time-outs prove nothing, and the trainer trains on. A term on the volume that a primary finds before it has begun
   is told to the operator, which knows whether it is we that are late or the Lease.
4. A trainer's death is told at once, on whichever Lease is held, with the last step that it completed.
5. A trainer that does nothing for its deadline is killed, and that is told; not one that has nothing to do. A script
   that runs on after its training is complete has a deadline of its own, after which it is ended, and complete.
6. A trainer that has failed is given some seconds to end. Then the container's program ends too, or a launcher in it
   starts a trainer again, which goes on in the same role and term; the heartbeats tell of the failure. If neither
   happens in time, the agent kills what is left, and the release gives the failure as its reason. Only one trainer
   trains at a time: the term on the volume is the pod's, and does not fence two processes of it.
7. The agent exits when its trainer has ended (or cannot be ended) and its release is settled or too late.

`now` is monotonic seconds, `counts` what the trainer's counters were at that moment.
"""

import signal
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.exits import ExitCode, describe_exit
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Term
from understudy_contract.reports import CheckpointRef, Notice

from understudy import protocol
from understudy.agent import model
from understudy.agent.asking import Asking
from understudy.agent.ending import Ending, Grace
from understudy.agent.model import Action, Config, Event, Role
from understudy.agent.progress import SECOND, Progress
from understudy.agent.renewals import Renewals
from understudy.agent.sight import Sight
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
from understudy.counters import Counts

_NEVER: Final = float("inf")


class Machine:
    """One agent's life. Call `start`, then `handle` for each event; send a Tick when `wake_at` has come."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.role = Role.UNKNOWN
        self.exited = False
        self._out: list[Action] = []
        self._now, self._counts = 0.0, Counts()
        self._hello_by = self._hand_over_by = self._failed_by = self._end_by = _NEVER
        self._busy_before = 0
        self._grace = Grace(config.grace_s)
        self._trainer = Progress()
        self._ending = Ending()
        self._asking = Asking()
        self._watchdog = Watchdog()
        self._rank = Sight()
        self._renewals = Renewals(config.pod, self._trainer)
        self._slot_lost_at = -_NEVER if config.slot_lease is None else _NEVER
        self._followed: CheckpointRef | None = None

    @property
    def is_ready(self) -> bool:
        """Say whether the pod does its work: a primary that steps, or a warm redundant pod."""
        return not self._ending.has_begun and self._trainer.is_working(primary=self.role is Role.PRIMARY)

    @property
    def wants_watch(self) -> bool:
        """Say whether the rank's Lease is to be watched: a primary learns all it needs from its renewals."""
        return self.role is Role.REDUNDANT and not self.exited

    def start(self, now: float) -> tuple[Action, ...]:
        """Begin: the trainer has been started."""
        self._hello_by = now + HELLO_WITHIN_S
        self._asking.ask(self._config.rank_lease, now)
        return self.handle(now, Counts(), model.Tick())

    def handle(self, now: float, counts: Counts, event: Event) -> tuple[Action, ...]:
        """Take in one event; give what is to be done, in order."""
        if self.exited:
            return ()
        self._now, self._counts, self._out = now, counts, []
        match event:
            case model.Tick():
                pass
            case model.LeaseSeen(record, watched):
                self._on_lease(record, watched)
            case model.LeaseUnread() | model.Renewed() | model.RenewalFailed():
                self._on_answer(event)
            case model.TrainerExited(code, shortage):
                self._on_exit(code, shortage)
            case model.TrainerLost(below, shortage):
                self._on_lost(below, shortage)
            case model.SecondTrainer():
                self._log(SECOND)
                self._trainer.refuse_second()
            case model.Terminated():
                self._on_terminated()
            case _:
                self._on_trainer(event)
        self._on_time()
        return tuple(self._out)

    def wake_at(self) -> float:
        """Say when to send a Tick if nothing else happens before."""
        if self.exited:
            return _NEVER
        return min(
            self._hello_by,
            self._hand_over_by,
            self._failed_by,
            self._end_by,
            self._ending.wake_at(),
            self._asking.wake_at(),
            self._suspect_at(),
            self._watchdog.wake_at(),
            self._renewals.wake_at(self._now),
        )

    # What Leases say

    def _on_lease(self, record: LeaseRecord, watched: bool) -> None:
        asked_at = -_NEVER if watched else self._asking.answered(record.name)
        if record.name != self._config.rank_lease:
            self._on_slot(record)
            return
        if not self._rank.take(record, self._now, watched=watched, asked_at=asked_at):
            return
        if self._rank.watch_missed:
            self._log("the watch missed a change of the rank's Lease: watching anew")
            self._out.append(model.RestartWatch())
        if record.heartbeat is not None and record.heartbeat.volume is not None:
            self._trainer.volume = record.heartbeat.volume
        if record.holder == self._config.pod:
            self._on_grant(record)
        elif self.role is Role.PRIMARY:
            if record.term > self._term or (record.holder and record.term == self._term):
                self._on_superseded(record)
        elif not watched and record.holder and asked_at >= self._slot_lost_at:
            self._on_superseded(record)
        else:
            self._on_not_holder(record)

    def _on_not_holder(self, record: LeaseRecord) -> None:
        if self._config.slot_lease is None or self._slot_lost_at < _NEVER:
            self._asking.ask(record.name, self._now + model.RETRY_S)
        elif self.role is Role.UNKNOWN:
            self.role = Role.REDUNDANT
            self._log(f"redundant for rank {self._config.rank}, whose primary is {record.holder or 'nobody yet'}")
            self._asking.ask(self._config.slot_lease, self._now)
            self._brief()
        else:
            self._follow()

    def _on_grant(self, record: LeaseRecord) -> None:
        if self.role is Role.PRIMARY:
            if record.term != self._term:  # the Lease was lost, or is a backup's; the volume fences any other writer
                self._log(f"the rank's Lease goes on as term {record.term} with this pod as its holder")
                self._renewals.adopt(record)
                self._trainer.survived.begin_term()
                if self._trainer.started is None:
                    self._brief()
            return
        self.role = Role.PRIMARY
        self._log(f"primary of rank {self._config.rank} in term {record.term}")
        self._renewals.hold(record, self._now)
        last = record.promotion
        self._trainer.survived.begin_term(last.failures if last is not None and last.term == record.term else 0)
        self._brief()
        if self._ending.has_begun:
            words = self._ending.words or handed_over(f"{self._config.pod} was ending when it was promoted")
            self._ending.tell(words, self._renewals.held, self._now)

    def _on_superseded(self, record: LeaseRecord) -> None:
        if self._renewals.held is not None:
            self._renewals.held.settled = True
        if not self._ending.has_begun:
            self._log(f"superseded: {record.holder or 'nobody'} holds {record.name} in term {record.term}")
            if self._trainer.hello:
                self._send(protocol.Supersede(record.term))
            self._end(ExitCode.SUPERSEDED, grace_s=model.END_WITHIN_S if self._trainer.hello else 0.0)

    def _on_slot(self, record: LeaseRecord) -> None:
        if self.role is not Role.REDUNDANT:
            return
        if record.holder == self._config.pod:
            if self._slot_lost_at < _NEVER:
                return  # read before the slot was given away: a pod's name is used once
            if self._renewals.held is None:
                self._renewals.hold(record, self._now)
            elif record.term != self._renewals.held.term:
                self._renewals.adopt(record)
        elif record.holder:
            # A promoted pod's slot is given away, so the rank's Lease, read after this, has the last word.
            self._slot_lost_at, self._renewals.held = self._now, None
            self._asking.ask(self._config.rank_lease, self._now)
        else:
            self._asking.ask(record.name, self._now + model.RETRY_S)

    def _on_answer(self, event: model.LeaseUnread | model.Renewed | model.RenewalFailed) -> None:
        if isinstance(event, model.LeaseUnread):
            if self._asking.failed(event.lease, self._now + model.RETRY_S):
                self._log(f"Lease {event.lease} cannot be read, trying on: {event.message}")
            return
        if line := self._renewals.on_answer(event, self._now):
            self._log(line)
        if isinstance(event, model.RenewalFailed) and event.refused:
            self._asking.ask(event.lease, self._now)

    # What the trainer says and does

    def _on_trainer(self, message: protocol.FromTrainer) -> None:
        if isinstance(message, protocol.Hello) and self._trainer.hello and not self._may_start_again():
            return
        if line := self._trainer.note(message):
            self._log(line)
        match message:
            case protocol.Hello():
                self._hello_by = self._failed_by = self._end_by = _NEVER
                if self._trainer.survived.restarts:
                    self._renewals.hurry()
                self._followed = None
                self._brief()
            case protocol.Failed(final=True) | protocol.Superseded() if not self._ending.has_begun:
                self._failed_by = min(self._failed_by, self._now + FAILED_ENDS_WITHIN_S)
            case protocol.Completed():
                self._end_by = _NEVER if self._ending.has_begun else self._now + self._config.end_s
                self._renewals.hurry()
            case protocol.Ready() | protocol.TermTaken() | protocol.FirstStep():
                self._renewals.hurry()
            case protocol.Returned() if self._hand_over_by < _NEVER and not self._ending.has_begun:
                self._end_complete()
            case protocol.HandedOver(checkpoint) if not self._ending.has_begun:
                left_s = self._grace.left_s(self._now)
                self._log(f"the script has {left_s:.0f} s to end")
                self._finish(handed_over(f"saved step {checkpoint.step}"), grace_s=left_s)
            case _:
                pass  # the next renewal carries it

    def _may_start_again(self) -> bool:
        """Say whether a trainer that was started again gets a role; else its pod ends."""
        if self._ending.has_begun or self._hand_over_by < _NEVER or self._trainer.superseded:
            self._log("a trainer that was started again gets no role: this pod is ending")
            if self._ending.has_begun:
                self._ending.hurry(self._now)  # the script has ended, and its launcher does not know when to
            return False
        if self._trainer.fails_too_often(self._config.max_failures):
            words = too_often(self._trainer)
            self._log(words.message)
            self._finish(words, grace_s=0.0)
            return False
        return True

    def _on_lost(self, below: bool, shortage: str) -> None:
        trainer = self._trainer
        trainer.shortage = shortage or trainer.shortage
        self._busy_before = self._counts.busy  # a trainer that was killed amid a long piece of work has left its mark
        ended_well = trainer.completed is not None and trainer.failed is None
        if not trainer.hello or self._ending.has_begun or ended_well:
            return
        trainer.lost, trainer.below = True, below
        leaving = self._hand_over_by < _NEVER or trainer.superseded
        self._failed_by = self._now + (LAUNCHER_ENDS_WITHIN_S if leaving else RESTARTS_WITHIN_S)
        if self.role is Role.REDUNDANT:
            self._renewals.hurry()  # it could not take over now

    def _on_exit(self, code: int, shortage: str) -> None:
        self._ending.trainer_ended = True
        self._trainer.shortage = shortage or self._trainer.shortage
        if self._ending.has_begun:
            self._log(f"the trainer ended with {describe_exit(code)}")
            return
        words, end = judge_exit(code, self._config.script, self._trainer), describe_exit(code)
        self._log(f"the trainer ended with {end}" + (f": {words.message}" if words.message != end else ""))
        self._finish(words, grace_s=0.0)

    def _on_terminated(self) -> None:
        self._grace.begin(self._now)
        if self._ending.has_begun or self._hand_over_by < _NEVER:
            return
        if self.role is not Role.PRIMARY:
            self._log("SIGTERM: ending the trainer")
            self._terminate()
            self._end(0, grace_s=self._grace.left_s(self._now))
        elif self._failed_by < _NEVER or (self._trainer.started is None and self._trainer.survived.restarts):
            words = ending_failed(self._trainer)
            self._log(f"SIGTERM, and the trainer has failed: {words.message}")
            self._finish(words, grace_s=0.0)
        elif self._trainer.started is None:
            text = "deleted before its first step of this term, so none is lost"
            self._log(f"SIGTERM: {text}")
            self._terminate()
            self._finish(handed_over(text), grace_s=self._grace.left_s(self._now))
        elif not self._end_complete():
            self._hand_over_by = self._now + self._config.hand_over_s
            what = "handing over within" if self._trainer.completed is None else "the script may end within"
            self._log(f"SIGTERM: {what} {self._config.hand_over_s:g} s")
            self._send(protocol.HandOver())

    # What time brings

    def _on_time(self) -> None:
        now = self._now
        if now >= self._hand_over_by:
            words = late_hand_over(self._config.hand_over_s, self._trainer)
            self._log(words.message)
            self._finish(words, grace_s=0.0)
        if now >= self._failed_by:
            words = lived_on(self._trainer, self._config.script)
            self._log(words.message)
            self._finish(words, grace_s=0.0)
        if now >= self._end_by:
            words = outlived(self._config.end_s, self._trainer)
            self._log(words.message)
            self._trainer.notices.append(Notice(EventReason.SCRIPT_ENDED, words.message))
            self._out.append(model.SignalTrainer(signal.SIGTERM))
            self._finish(words, grace_s=model.HANDLERS_WITHIN_S)
        patience = self._patience()
        if self._watchdog.look(self._counts.activity, now, patience) and patience is not None:
            words = stalled(patience, self._counts.step, self._config.script, self._trainer)
            self._log(words.message)
            self._finish(words, grace_s=0.0)
            self._watchdog.patience = None
        if now >= self._hello_by:
            self._hello_by = _NEVER
            notice = not_called_yet(self._config.script)
            self._log(notice.message)
            self._trainer.notices.append(notice)
        if now >= self._suspect_at():
            self._rank.suspect(now)
            self._asking.ask(self._config.rank_lease, self._now)
        primary = self.role is Role.PRIMARY
        if (renewal := self._renewals.next(self._counts.step, self._ending.words, now, primary=primary)) is not None:
            self._out.append(renewal)
        self._out.extend(model.GetLease(lease) for lease in self._asking.due(now))
        self._out.extend(self._ending.advance(self._renewals.held, now))
        self.exited = any(isinstance(action, model.Exit) for action in self._out)

    # Means

    @property
    def _term(self) -> Term:
        """Term of the Lease that is held."""
        assert self._renewals.held is not None
        return self._renewals.held.term

    def _brief(self) -> None:
        """Tell the trainer its role, once it listens."""
        if not self._trainer.hello or self._trainer.lost or self._ending.has_begun or self._rank.record is None:
            return
        if self.role is Role.REDUNDANT:
            self._send(protocol.Standby(self._trainer.volume))
            self._follow()
        elif self.role is Role.PRIMARY:
            known = (self._rank.record.floor, self._trainer.checkpoint)
            floor = max((ref for ref in known if ref is not None), default=None)
            self._send(protocol.Promote(self._term, floor, self._trainer.volume))

    def _follow(self) -> None:
        floor = self._rank.record.floor if self._rank.record is not None else None
        if not self._trainer.hello or self._trainer.lost or self._ending.has_begun or floor is None:
            return
        if self._followed is None or floor > self._followed:
            self._followed = floor
            self._send(protocol.Follow(floor, self._trainer.volume))

    def _patience(self) -> Patience | None:
        """How long the trainer may do nothing now; None: as long as it likes."""
        trainer = self._trainer
        if self._ending.has_begun or trainer.completed is not None:
            return None
        if self._hand_over_by < _NEVER or self._failed_by < _NEVER:
            return None  # another deadline holds
        if self.role is Role.UNKNOWN and trainer.hello:
            return None  # it waits for its role, as we do
        # One that was warm has traced and loaded everything: it says so itself where it is busy all the same.
        steps = self.role is Role.PRIMARY and (trainer.loaded is not None or trainer.first is not None)
        if steps and self._counts.busy <= self._busy_before:
            return Patience(self._config.progress_s, "progressDeadlineSeconds")
        return Patience(self._config.startup_s, "startupDeadlineSeconds")

    def _suspect_at(self) -> float:
        if not self.wants_watch or self._asking.is_asked(self._config.rank_lease):
            return _NEVER
        return self._rank.suspect_at()

    def _finish(self, words: LastWords, *, grace_s: float) -> None:
        """Release with these words, and end."""
        self._ending.tell(words, self._renewals.held, self._now)
        self._end(words.code, grace_s=grace_s)

    def _end(self, code: int, *, grace_s: float) -> None:
        """End the trainer after the grace, then the agent."""
        self._ending.begin(code, kill_at=self._now + grace_s)
        self._hello_by = self._hand_over_by = self._failed_by = self._end_by = _NEVER

    def _end_complete(self) -> bool:
        """End a pod whose script has run all its code: what keeps its process is not worth another pod."""
        if (words := ends_complete(self._trainer)) is None:
            return False
        self._log(f"SIGTERM: {words.message}")
        self._terminate()
        self._finish(words, grace_s=self._grace.left_s(self._now))
        return True

    def _terminate(self) -> None:
        """Let a trainer that has nothing to save end in its way: by SIGTERM, and where it ignores that, by our word."""
        self._out.append(model.SignalTrainer(signal.SIGTERM))
        if self._trainer.hello and self._trainer.completed is None:
            self._send(protocol.HandOver(signalled=True))

    def _send(self, message: protocol.FromAgent) -> None:
        self._out.append(model.Send(message))

    def _log(self, text: str) -> None:
        self._out.append(model.Log(text))
