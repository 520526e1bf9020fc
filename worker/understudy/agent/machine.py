"""The agent's decisions: events in, actions out. Pure and deterministic; the caller gives the time and does the rest.

The machine has two states. `place` is what the Leases make of this pod (place.py); `_life` is how far the life of its
trainer has come (life.py). Both modules open with the table of their transitions. Everything else belongs to one part,
which alone writes it: what the trainer said to Progress, the Lease that is held and the last words to Renewals, what is
known of the rank's Lease to LeaseView, the plan of reads to ReadScheduler, the search for hangs to Watchdog.

Rules:
1. The holder of the rank's Lease is primary. Promote goes to the trainer first, the acknowledging renewal next.
2. Once primary, never redundant again: a primary ends by completing, handing over, failing or being superseded.
3. A pod is superseded only by positive evidence: another holder, in a term not below ours. After a 422 the agent reads
   the Lease. 401, 403, 404 and time-outs prove nothing, and the trainer trains on. If a trainer finds a higher term on
   the volume before it has begun its own, the operator is told: it knows whether the pod is late, or the Lease is old.
4. The death of a trainer is reported at once, on whichever Lease is held, with the last step that it completed.
5. A stalled trainer is killed and reported; an idle one is not. A script that runs on after its training is complete
   has a deadline of its own. After it the script is ended, and the rank is complete.
6. A trainer that has failed is given some seconds to end. Then the container's program ends too, or a launcher in it
   starts a trainer again, which goes on in the same role and term; the heartbeats report the failure. If neither
   happens in time, the agent kills what is left, and the release gives the failure as its reason. Only one trainer
   trains at a time: the term on the volume is the pod's, and does not separate two processes of it.
7. The agent exits when its trainer has ended (or cannot be ended) and its release is settled or too late.

`now` is monotonic seconds, `counts` what the trainer's counters were at that moment.
"""

import signal
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.exits import ExitCode, describe_exit
from understudy_contract.lease import LeaseRecord
from understudy_contract.reports import CheckpointRef, Notice

from understudy import protocol
from understudy.agent import model
from understudy.agent.lease_view import LeaseView
from understudy.agent.life import Ending, Grace, HandingOver, Life, Running
from understudy.agent.model import Action, Config, Event
from understudy.agent.place import (
    Appointed,
    Displaced,
    Finding,
    Place,
    Primary,
    Redundant,
    Undecided,
    is_redundant,
    judge_rank,
)
from understudy.agent.progress import SECOND, Progress
from understudy.agent.read_scheduler import ReadScheduler
from understudy.agent.renewals import Renewals
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
_URGENT: Final = (protocol.Ready, protocol.TermTaken, protocol.FirstStep, protocol.Completed)
"""Messages for which the operator waits."""


class Machine:
    """One agent's life. Call `start`, then `handle` for each event; send a Tick when `wake_at` has come."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.place: Place = Undecided() if config.slot_lease is not None else Appointed()
        self.exited = False
        self._out: list[Action] = []
        self._now, self._counts = 0.0, Counts()
        self._life: Life = Running()
        self._busy_before = 0
        self._grace = Grace(config.grace_s)
        self._trainer = Progress()
        self._reads = ReadScheduler()
        self._watchdog = Watchdog()
        self._rank = LeaseView()
        self._renewals = Renewals(config.pod, self._trainer)
        self._followed: CheckpointRef | None = None

    @property
    def is_primary(self) -> bool:
        """Return whether this pod is its rank's primary, as far as it knows."""
        return isinstance(self.place, Primary)

    @property
    def is_ready(self) -> bool:
        """Return whether the pod does its work: a primary that steps, or a warm redundant pod."""
        return not self._is_ending and self._trainer.is_working(primary=self.is_primary)

    @property
    def wants_watch(self) -> bool:
        """Return whether to watch the rank's Lease. A primary learns all it needs from its renewals."""
        return is_redundant(self.place) and not self.exited

    def start(self, now: float) -> tuple[Action, ...]:
        """Begin: the trainer has been started."""
        self._life = Running(hello_by=now + HELLO_WITHIN_S)
        self._reads.request(self._config.rank_lease, now)
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
            case model.TrainerLost(below):
                self._on_lost(below)
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
            self._life.wake_at(self._renewals) if isinstance(self._life, Ending) else self._life.wake_at(),
            self._reads.wake_at(),
            self._suspect_at(),
            self._watchdog.wake_at(),
            self._renewals.wake_at(),
        )

    # What Leases say

    def _on_lease(self, record: LeaseRecord, watched: bool) -> None:
        asked_at = None if watched else self._reads.answered(record.name)
        if record.name != self._config.rank_lease:
            self._on_slot(record)
        elif self._rank.take(record, self._now, watched=watched, asked_at=-_NEVER if asked_at is None else asked_at):
            self._on_rank(record, asked_at)

    def _on_rank(self, record: LeaseRecord, asked_at: float | None) -> None:
        if self._rank.watch_missed:
            self._log("the watch missed a change of the rank's Lease: watching anew")
            self._out.append(model.RestartWatch())
        self._trainer.learn_volume(record.heartbeat.volume if record.heartbeat is not None else None)
        match judge_rank(self.place, record, self._config.pod, self._renewals.term, asked_at):
            case Finding.GRANTED:
                self._on_grant(record)
            case Finding.RENUMBERED:
                self._on_renumbered(record)
            case Finding.REDUNDANT:
                self._on_redundant(record)
            case Finding.FOLLOWS:
                self._follow()
            case Finding.SUPERSEDED:
                self._on_superseded(record)
            case Finding.UNCLEAR:
                self._reads.request(record.name, self._now + model.RETRY_S)
            case Finding.NOTHING:
                pass

    def _on_redundant(self, record: LeaseRecord) -> None:
        assert self._config.slot_lease is not None
        self.place = Redundant()
        self._log(f"redundant for rank {self._config.rank}, whose primary is {record.holder or 'nobody yet'}")
        self._reads.request(self._config.slot_lease, self._now)
        self._brief()

    def _on_grant(self, record: LeaseRecord) -> None:
        self.place = Primary()
        self._log(f"primary of rank {self._config.rank} in term {record.term}")
        self._renewals.hold(record, self._now)
        last = record.promotion
        self._trainer.begin_term(last.failures if last is not None and last.term == record.term else 0)
        self._brief()
        if self._is_ending:
            words = self._renewals.words or handed_over(f"{self._config.pod} was ending when it was promoted")
            self._renewals.release(words, self._now)

    def _on_renumbered(self, record: LeaseRecord) -> None:
        self._log(f"the rank's Lease goes on as term {record.term} with this pod as its holder")
        self._renewals.adopt(record)
        self._trainer.begin_term()
        if self._trainer.started is None:
            self._brief()

    def _on_superseded(self, record: LeaseRecord) -> None:
        self._renewals.forget_release()
        if not self._is_ending:
            self._log(f"superseded: {record.holder or 'nobody'} holds {record.name} in term {record.term}")
            if self._trainer.hello:
                self._send(protocol.Supersede(record.term))
            self._end(ExitCode.SUPERSEDED, grace_s=model.END_WITHIN_S if self._trainer.hello else 0.0)

    def _on_slot(self, record: LeaseRecord) -> None:
        if not is_redundant(self.place):
            return
        if record.holder == self._config.pod:
            if isinstance(self.place, Displaced):
                return  # read before the slot was given away: a pod's name is used once
            if self._renewals.term is None:
                self._renewals.hold(record, self._now)
            elif record.term != self._renewals.term:
                self._renewals.adopt(record)
        elif record.holder:
            self.place = Displaced(self._now)
            self._renewals.drop()
            self._reads.request(self._config.rank_lease, self._now)
        else:
            self._reads.request(record.name, self._now + model.RETRY_S)

    def _on_answer(self, event: model.LeaseUnread | model.Renewed | model.RenewalFailed) -> None:
        if isinstance(event, model.LeaseUnread):
            if self._reads.failed(event.lease, self._now + model.RETRY_S):
                self._log(f"Lease {event.lease} cannot be read, retrying: {event.message}")
            return
        if line := self._renewals.on_answer(event, self._now):
            self._log(line)
        if isinstance(event, model.RenewalFailed) and event.refused:
            self._reads.request(event.lease, self._now)

    # What the trainer says and does

    def _on_trainer(self, message: protocol.FromTrainer) -> None:
        if isinstance(message, protocol.Hello) and self._trainer.hello and not self._may_start_again():
            return
        if line := self._trainer.note(message):
            self._log(line)
        if isinstance(message, _URGENT):
            self._renewals.hurry()
        life = self._life
        match message:
            case protocol.Hello():
                self._on_hello()
            case protocol.Failed(final=True) | protocol.Superseded() if not isinstance(life, Ending):
                life.failed_by = min(life.failed_by, self._now + FAILED_ENDS_WITHIN_S)
            case protocol.Completed() if not isinstance(life, Ending):
                life.end_by = self._now + self._config.end_s
            case protocol.Returned() if isinstance(life, HandingOver):
                self._end_complete()
            case protocol.HandedOver(checkpoint) if not isinstance(life, Ending):
                left_s = self._grace.left_s(self._now)
                self._log(f"the script has {left_s:.0f} s to end")
                self._finish(handed_over(f"saved step {checkpoint.step}"), grace_s=left_s)
            case _:
                pass  # the next renewal carries it

    def _on_hello(self) -> None:
        if not isinstance(self._life, Ending):
            self._life.begin_again()
        if self._trainer.survived.restarts:
            self._renewals.hurry()
        self._followed = None
        self._brief()

    def _may_start_again(self) -> bool:
        """Say whether a trainer that was started again gets a role; else its pod ends."""
        if isinstance(self._life, HandingOver | Ending) or self._trainer.superseded:
            self._log("a trainer that was started again gets no role: this pod is ending")
            if isinstance(self._life, Ending):
                self._life.hurry(self._now)  # the script has ended, and its launcher does not know when to
            return False
        if self._trainer.fails_too_often(self._config.max_failures):
            self._give_up(too_often(self._trainer))
            return False
        return True

    def _on_lost(self, below: bool) -> None:
        trainer, life = self._trainer, self._life
        self._busy_before = self._counts.busy  # a trainer that was killed amid a long piece of work has left its mark
        ended_well = trainer.completed is not None and trainer.failed is None
        if not trainer.hello or isinstance(life, Ending) or ended_well:
            return
        trainer.lose(below=below)
        leaving = isinstance(life, HandingOver) or trainer.superseded
        life.failed_by = self._now + (LAUNCHER_ENDS_WITHIN_S if leaving else RESTARTS_WITHIN_S)
        if is_redundant(self.place):
            self._renewals.hurry()  # it could not take over now

    def _on_exit(self, code: int, shortage: str) -> None:
        if isinstance(self._life, Ending):
            self._life.trainer_ended = True
            self._log(f"the trainer ended with {describe_exit(code)}")
            return
        words, end = judge_exit(code, self._config.script, self._trainer, shortage), describe_exit(code)
        self._log(f"the trainer ended with {end}" + (f": {words.message}" if words.message != end else ""))
        self._finish(words, grace_s=0.0, trainer_ended=True)

    def _on_terminated(self) -> None:
        self._grace.begin(self._now)
        life = self._life
        if isinstance(life, HandingOver | Ending):
            return
        if not self.is_primary:
            self._log("SIGTERM: ending the trainer")
            self._terminate()
            self._end(0, grace_s=self._grace.left_s(self._now))
        elif life.failed_by < _NEVER or (self._trainer.started is None and self._trainer.survived.restarts):
            words = ending_failed(self._trainer)
            self._log(f"SIGTERM, and the trainer has failed: {words.message}")
            self._finish(words, grace_s=0.0)
        elif self._trainer.started is None:
            text = "deleted before its first step of this term, so none is lost"
            self._log(f"SIGTERM: {text}")
            self._terminate()
            self._finish(handed_over(text), grace_s=self._grace.left_s(self._now))
        elif not self._end_complete():
            by = self._now + self._config.hand_over_s
            self._life = HandingOver(life.hello_by, life.failed_by, life.end_by, by)
            what = "handing over within" if self._trainer.completed is None else "the script may end within"
            self._log(f"SIGTERM: {what} {self._config.hand_over_s:g} s")
            self._send(protocol.HandOver())

    # What time brings

    def _on_time(self) -> None:
        now = self._now
        if not isinstance(self._life, Ending):
            self._judge_deadlines(self._life)
        if now >= self._suspect_at():
            self._rank.suspect(now)
            self._reads.request(self._config.rank_lease, now)
        if (renewal := self._renewals.next(self._counts.step, now, primary=self.is_primary)) is not None:
            self._out.append(renewal)
        self._out.extend(model.GetLease(lease) for lease in self._reads.due(now))
        if isinstance(self._life, Ending):
            self._out.extend(self._life.advance(self._renewals, now))
        self.exited = any(isinstance(action, model.Exit) for action in self._out)

    def _judge_deadlines(self, life: Running) -> None:
        """End the pod at the first deadline that has passed; of several the first in this list counts."""
        now, patience = self._now, self._patience(life)
        stands_still = self._watchdog.look(self._counts.activity, now, patience)
        if isinstance(life, HandingOver) and now >= life.hand_over_by:
            self._give_up(late_hand_over(self._config.hand_over_s, self._trainer))
        elif now >= life.failed_by:
            self._give_up(lived_on(self._trainer, self._config.script))
        elif now >= life.end_by:
            words = outlived(self._config.end_s, self._trainer)
            self._log(words.message)
            self._trainer.add_notice(Notice(EventReason.SCRIPT_ENDED, words.message))
            self._out.append(model.SignalTrainer(signal.SIGTERM))
            self._finish(words, grace_s=model.HANDLERS_WITHIN_S)
        elif stands_still and patience is not None:
            self._give_up(stalled(patience, self._counts.step, self._config.script, self._trainer))
        elif now >= life.hello_by:
            life.hello_by = _NEVER
            notice = not_called_yet(self._config.script)
            self._log(notice.message)
            self._trainer.add_notice(notice)

    # Means

    @property
    def _is_ending(self) -> bool:
        return isinstance(self._life, Ending)

    def _brief(self) -> None:
        """Tell the trainer its role, once it listens."""
        if not self._trainer.hello or self._trainer.lost or self._is_ending or self._rank.record is None:
            return
        if is_redundant(self.place):
            self._send(protocol.Standby(self._trainer.volume))
            self._follow()
        elif self._renewals.term is not None and self.is_primary:
            known = (self._rank.record.floor, self._trainer.checkpoint)
            floor = max((ref for ref in known if ref is not None), default=None)
            self._send(protocol.Promote(self._renewals.term, floor, self._trainer.volume))

    def _follow(self) -> None:
        floor = self._rank.record.floor if self._rank.record is not None else None
        if not self._trainer.hello or self._trainer.lost or self._is_ending or floor is None:
            return
        if self._followed is None or floor > self._followed:
            self._followed = floor
            self._send(protocol.Follow(floor, self._trainer.volume))

    def _patience(self, life: Running) -> Patience | None:
        """How long the trainer may do nothing now; None: as long as it likes."""
        trainer = self._trainer
        if trainer.completed is not None or isinstance(life, HandingOver) or life.failed_by < _NEVER:
            return None  # another deadline holds
        if isinstance(self.place, Appointed | Undecided) and trainer.hello:
            return None  # it waits for its role, as we do
        # One that was warm has traced and loaded everything: it says so itself where it is busy all the same.
        steps = self.is_primary and (trainer.loaded is not None or trainer.first is not None)
        if steps and self._counts.busy <= self._busy_before:
            return Patience(self._config.progress_s, "progressDeadlineSeconds")
        return Patience(self._config.startup_s, "startupDeadlineSeconds")

    def _suspect_at(self) -> float:
        if not self.wants_watch or self._reads.is_reading(self._config.rank_lease):
            return _NEVER
        return self._rank.suspect_at()

    def _give_up(self, words: LastWords) -> None:
        """Kill the trainer, and release with these words."""
        self._log(words.message)
        self._finish(words, grace_s=0.0)

    def _finish(self, words: LastWords, *, grace_s: float, trainer_ended: bool = False) -> None:
        """Release with these words, and end."""
        self._renewals.release(words, self._now)
        self._end(words.code, grace_s=grace_s, trainer_ended=trainer_ended)

    def _end(self, code: int, *, grace_s: float, trainer_ended: bool = False) -> None:
        """End the trainer after the grace, then the agent."""
        self._life = Ending(code, self._now + grace_s, trainer_ended)
        self._watchdog.rest()

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
