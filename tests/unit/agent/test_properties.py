"""Whatever happens in whatever order: what an agent never does."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from understudy import protocol
from understudy.agent import model
from understudy_contract.lease import LeaseRecord

from tests.unit.agent.driver import OTHER, POD, RANK, SLOT, Driver, drive, lease, rank_with_floor, ref

STARTED = protocol.Started(1, ref(0), "v1")
MESSAGES = [
    protocol.Hello("1"),
    protocol.Ready(ref(100)),
    STARTED,
    protocol.FirstStep(1, 1, "now"),
    protocol.Committed(ref(100)),
    protocol.HandedOver(ref(120)),
    protocol.Completed(200, "m"),
    protocol.Returned("thread upload"),
    protocol.Superseded(9),
    protocol.Failed("why"),
    protocol.Failed("why", final=False),
    protocol.Notice("A", "b"),
]


class AgentMachine(RuleBasedStateMachine):
    """A trainer, an API and an operator that do as they like."""

    it: Driver

    @initialize(slot=st.sampled_from([SLOT, None]))
    def start(self, slot: str | None) -> None:
        self.it = drive(slot_lease=slot, end_s=40)
        self.version = 1
        self.seen: list[LeaseRecord] = []
        self.dead_code: int | None = None
        self.completed = False
        self.hellos = 0
        self.terminated = False
        self.read = 0
        self.in_flight: dict[str, model.Renew] = {}
        self.kills: list[float] = []
        self.look()

    def look(self) -> None:
        """Check the actions of the last event."""
        for action in self.it.all[self.read :]:
            match action:
                case model.Renew():
                    older = self.in_flight.get(action.lease)
                    assert older is None or (action.release is not None and older.release is None)
                    self.in_flight[action.lease] = action
                    assert action.beat.pod == POD
                case model.SignalTrainer(number):
                    assert self.dead_code is None
                    if number == 9:
                        self.kills.append(self.it.now)
                case model.Send(protocol.Supersede()):
                    assert any(record.name == RANK and record.holder != POD for record in self.seen)
                case model.Exit(code):
                    left_to_kernel = self.kills and self.it.now >= self.kills[0] + model.END_WITHIN_S
                    assert self.dead_code is not None or left_to_kernel
                    if code == 0:
                        late = self.completed and any(
                            r.release and "(endDeadlineSeconds)" in r.release.message for r in self.it.renewals
                        )
                        assert self.terminated or late or (self.completed and self.dead_code == 0)
                case _:
                    pass
        self.read = len(self.it.all)

    @rule(
        holder=st.sampled_from([POD, OTHER, "job-0-2", ""]),
        term=st.integers(1, 4),
        floor=st.integers(0, 3),
        watched=st.booleans(),
        fresh=st.booleans(),
    )
    def rank_seen(self, holder: str, term: int, floor: int, watched: bool, fresh: bool) -> None:
        self.version += fresh
        record = rank_with_floor(ref(floor * 100), version=self.version, holder=holder, term=term)
        self.seen.append(record)
        self.it.see(record, watched=watched)
        self.look()

    @rule(holder=st.sampled_from([POD, "job-0-2", ""]), term=st.integers(1, 3))
    def slot_seen(self, holder: str, term: int) -> None:
        self.it.see(lease(SLOT, holder, term))
        self.look()

    @rule(name=st.sampled_from([RANK, SLOT]))
    def lease_unread(self, name: str) -> None:
        self.it.feed(model.LeaseUnread(name, "no"))
        self.look()

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), outcome=st.sampled_from(["ok", "refused", "lost"]))
    def renewal_answered(self, data: st.DataObject, outcome: str) -> None:
        renewal = self.in_flight.pop(data.draw(st.sampled_from(sorted(self.in_flight))))
        if outcome == "ok":
            self.it.feed(model.Renewed(renewal.lease, renewal.number, 3))
        else:
            refused = outcome == "refused"
            self.it.feed(model.RenewalFailed(renewal.lease, renewal.number, refused, "no", unfit=refused))
        self.look()

    @precondition(lambda self: self.dead_code is None)
    @rule(message=st.sampled_from(MESSAGES))
    def trainer_says(self, message: protocol.FromTrainer) -> None:
        self.completed |= isinstance(message, protocol.Completed)
        self.hellos += isinstance(message, protocol.Hello)
        self.it.step += 1
        self.it.feed(message)
        self.look()

    @precondition(lambda self: self.dead_code is None)
    @rule(event=st.sampled_from([model.TrainerLost(), model.SecondTrainer()]))
    def connection_ends_or_is_refused(self, event: model.TrainerLost | model.SecondTrainer) -> None:
        self.it.feed(event)
        self.look()

    @precondition(lambda self: self.dead_code is None)
    @rule(code=st.sampled_from([0, 1, 81, 82, 137]))
    def trainer_exits(self, code: int) -> None:
        self.dead_code = code
        self.it.feed(model.TrainerExited(code))
        self.look()

    @rule()
    def terminated_from_outside(self) -> None:
        self.terminated = True
        self.it.feed(model.Terminated())
        self.look()

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.it.now + seconds
        turns = 0
        while (wake_at := self.it.machine.wake_at()) <= end:
            turns += 1
            assert turns < 50 + seconds * 20, "the machine spins"
            self.it.now = max(self.it.now, wake_at)
            self.it.feed(model.Tick())
            self.look()
        self.it.now = end

    @invariant()
    def it_exits_once_and_does_nothing_afterwards(self) -> None:
        if hasattr(self, "it") and self.it.machine.exited:
            assert isinstance(self.it.all[-1], model.Exit)
            assert sum(isinstance(action, model.Exit) for action in self.it.all) == 1

    @invariant()
    def it_is_promoted_once_and_never_demoted(self) -> None:
        if not hasattr(self, "it"):
            return
        roles = [
            type(action.message)
            for action in self.it.all
            if isinstance(action, model.Send) and isinstance(action.message, protocol.Standby | protocol.Promote)
        ]
        if protocol.Promote in roles:
            # A trainer that says Hello twice is told its role twice; it is never told another one.
            assert protocol.Standby not in roles[roles.index(protocol.Promote) :]

    @invariant()
    def it_counts_no_more_failures_than_there_were_hellos(self) -> None:
        if not hasattr(self, "it"):
            return
        for beat in (renewal.beat for renewal in self.it.renewals):
            assert 0 <= beat.failures <= 2 * self.hellos + 1, (
                "each may be refused a companion, the first before its Hello"
            )
            assert 0 <= beat.restarts < max(self.hellos, 1)

    @invariant()
    def the_terms_it_claims_never_regress_and_were_granted(self) -> None:
        if not hasattr(self, "it"):
            return
        terms, highest = [], 0
        for beat in (renewal.beat for renewal in self.it.renewals if renewal.lease == RANK):
            assert beat.term >= highest or beat.term_floor >= highest, "a lower one, of a backup, is asked to be raised"
            terms.append(beat.term)
            highest = max(highest, beat.term)
        assert set(terms) <= {record.term for record in self.seen if record.name == RANK and record.holder == POD}


TestAgentMachine = AgentMachine.TestCase
TestAgentMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
