"""The agent's decisions: events in, actions out. Pure and deterministic; the caller gives the time and does the rest.

The machine has two states: what the Leases make of this pod (place.py), and how far the life of its trainer has come
(life.py). Both modules open with the table of their transitions. This module decides the first one, and supervisor.py
the second one. Everything else belongs to one part, which alone writes it: what the trainer said to Progress, the Lease
that is held and the last words to Renewals, what is known of the rank's Lease to LeaseView, the plan of reads to
ReadScheduler, the search for hangs to Watchdog.

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

from typing import Final

from understudy_contract.lease import LeaseRecord

from understudy.agent import model
from understudy.agent.lease_view import LeaseView
from understudy.agent.model import Action, Config, Event
from understudy.agent.place import (
    Appointed,
    Displaced,
    Finding,
    Primary,
    Redundant,
    Standing,
    Undecided,
    judge_rank,
)
from understudy.agent.progress import Progress
from understudy.agent.read_scheduler import ReadScheduler
from understudy.agent.renewals import Renewals
from understudy.agent.supervisor import Supervisor
from understudy.agent.turn import Turn
from understudy.agent.verdict import handed_over
from understudy.counters import Counts

_NEVER: Final = float("inf")


class Machine:
    """One agent's life. Call `start`, then `handle` for each event; send a Tick when `wake_at` has come."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.exited = False
        self._turn = Turn()
        self._standing = Standing(Undecided() if config.slot_lease is not None else Appointed())
        self._progress = Progress()
        self._reads = ReadScheduler()
        self._rank = LeaseView()
        self._renewals = Renewals(config.pod, self._progress)
        self._supervisor = Supervisor(config, self._turn, self._standing, self._rank, self._progress, self._renewals)

    @property
    def is_primary(self) -> bool:
        """Return whether this pod is its rank's primary, as far as it knows."""
        return self._standing.is_primary

    @property
    def is_ready(self) -> bool:
        """Return whether the pod does its work: a primary that steps, or a warm redundant pod."""
        return not self._supervisor.is_ending and self._progress.is_working(primary=self.is_primary)

    @property
    def wants_watch(self) -> bool:
        """Return whether to watch the rank's Lease. A primary learns all it needs from its renewals."""
        return self._standing.is_redundant and not self.exited

    def start(self, now: float) -> tuple[Action, ...]:
        """Begin: the trainer has been started."""
        self._supervisor.start(now)
        self._reads.request(self._config.rank_lease, now)
        return self.handle(now, Counts(), model.Tick())

    def handle(self, now: float, counts: Counts, event: Event) -> tuple[Action, ...]:
        """Take in one event, and return what is to be done, in order."""
        if self.exited:
            return ()
        self._turn.begin(now, counts)
        match event:
            case model.Tick():
                pass
            case model.LeaseSeen(record, watched):
                self._on_lease(record, watched)
            case model.LeaseUnread() | model.Renewed() | model.RenewalFailed():
                self._on_answer(event)
            case model.TrainerExited(code, shortage):
                self._supervisor.on_exit(code, shortage)
            case model.TrainerLost(below, shortage):
                self._supervisor.on_lost(below, shortage)
            case model.SecondTrainer():
                self._supervisor.refuse_second()
            case model.Terminated():
                self._supervisor.on_terminated()
            case _:
                self._supervisor.on_message(event)
        self._on_time()
        return tuple(self._turn.actions)

    def wake_at(self) -> float:
        """Return when to send a Tick if nothing else happens before."""
        if self.exited:
            return _NEVER
        return min(
            self._supervisor.wake_at(),
            self._reads.wake_at(),
            self._suspect_at(),
            self._renewals.wake_at(),
        )

    def _on_lease(self, record: LeaseRecord, watched: bool) -> None:
        asked_at = None if watched else self._reads.answered(record.name)
        if record.name != self._config.rank_lease:
            self._on_slot(record)
        elif self._rank.take(record, self._turn.now, asked_at=asked_at):
            self._on_rank(record, asked_at)

    def _on_rank(self, record: LeaseRecord, asked_at: float | None) -> None:
        if self._rank.watch_missed:
            self._turn.log("the watch missed a change of the rank's Lease: watching anew")
            self._turn.do(model.RestartWatch())
        self._progress.learn_volume(record.heartbeat.volume if record.heartbeat is not None else None)
        match judge_rank(self._standing.place, record, self._config.pod, self._renewals.term, asked_at):
            case Finding.GRANTED:
                self._on_grant(record)
            case Finding.RENUMBERED:
                self._on_renumbered(record)
            case Finding.REDUNDANT:
                self._on_redundant(record)
            case Finding.FOLLOWS:
                self._supervisor.follow()
            case Finding.SUPERSEDED:
                self._on_superseded(record)
            case Finding.UNCLEAR:
                self._reads.request(record.name, self._turn.now + model.RETRY_S)
            case Finding.NOTHING:
                pass

    def _on_redundant(self, record: LeaseRecord) -> None:
        assert self._config.slot_lease is not None
        self._standing.place = Redundant()
        self._turn.log(f"redundant for rank {self._config.rank}, whose primary is {record.holder or 'nobody yet'}")
        self._reads.request(self._config.slot_lease, self._turn.now)
        self._supervisor.brief()

    def _on_grant(self, record: LeaseRecord) -> None:
        self._standing.place = Primary()
        self._turn.log(f"primary of rank {self._config.rank} in term {record.term}")
        self._renewals.hold(record, self._turn.now)
        last = record.promotion
        self._progress.begin_term(last.failures if last is not None and last.term == record.term else 0)
        self._supervisor.brief()
        if self._supervisor.is_ending:
            words = self._renewals.words or handed_over(f"{self._config.pod} was ending when it was promoted")
            self._renewals.release(words, self._turn.now)

    def _on_renumbered(self, record: LeaseRecord) -> None:
        self._turn.log(f"the rank's Lease goes on as term {record.term} with this pod as its holder")
        self._renewals.adopt(record)
        self._progress.begin_term()
        if self._progress.started is None:
            self._supervisor.brief()

    def _on_superseded(self, record: LeaseRecord) -> None:
        self._renewals.forget_release()
        if not self._supervisor.is_ending:
            self._turn.log(f"superseded: {record.holder or 'nobody'} holds {record.name} in term {record.term}")
            self._supervisor.supersede(record.term)

    def _on_slot(self, record: LeaseRecord) -> None:
        if not self._standing.is_redundant:
            return
        if record.holder == self._config.pod:
            if isinstance(self._standing.place, Displaced):
                return  # read before the slot was given away: a pod's name is used once
            if self._renewals.term is None:
                self._renewals.hold(record, self._turn.now)
            elif record.term != self._renewals.term:
                self._renewals.adopt(record)
        elif record.holder:
            self._standing.place = Displaced(self._turn.now)
            self._renewals.drop()
            self._reads.request(self._config.rank_lease, self._turn.now)
        else:
            self._reads.request(record.name, self._turn.now + model.RETRY_S)

    def _on_answer(self, event: model.LeaseUnread | model.Renewed | model.RenewalFailed) -> None:
        if isinstance(event, model.LeaseUnread):
            if self._reads.failed(event.lease, self._turn.now + model.RETRY_S):
                self._turn.log(f"Lease {event.lease} cannot be read, retrying: {event.message}")
            return
        if line := self._renewals.on_answer(event, self._turn.now):
            self._turn.log(line)
        if isinstance(event, model.RenewalFailed) and event.refused:
            self._reads.request(event.lease, self._turn.now)

    def _on_time(self) -> None:
        now = self._turn.now
        self._supervisor.on_time()
        if now >= self._suspect_at():
            self._rank.suspect(now)
            self._reads.request(self._config.rank_lease, now)
        if (renewal := self._renewals.next(self._turn.counts.step, now, primary=self.is_primary)) is not None:
            self._turn.do(renewal)
        self._turn.do(*(model.GetLease(lease) for lease in self._reads.due(now)))
        self._supervisor.advance()
        self.exited = any(isinstance(action, model.Exit) for action in self._turn.actions)

    def _suspect_at(self) -> float:
        if not self.wants_watch or self._reads.is_reading(self._config.rank_lease):
            return _NEVER
        return self._rank.suspect_at()
