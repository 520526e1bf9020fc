"""A driver for the agent's state machine: says what happens, keeps what comes out."""

from dataclasses import dataclass, field, replace
from typing import Any

from understudy import protocol
from understudy.agent import model
from understudy.agent.machine import Machine
from understudy.counters import Counts
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Term
from understudy_contract.reports import CheckpointRef, Heartbeat, Phase

RANK, SLOT, POD, OTHER = "job-0", "job-0-s0", "job-0-1", "job-0-0"


def ref(step: int, term: int = 1) -> CheckpointRef:
    return CheckpointRef(term, step, f"digest-{term}-{step}")


def lease(name: str = RANK, holder: str = OTHER, term: int = 1, version: int = 1, **more: Any) -> LeaseRecord:
    more.setdefault("duration_s", 3)
    return LeaseRecord(
        name=name,
        namespace="n",
        uid="u",
        resource_version=str(version),
        holder=holder,
        term=Term(term),
        renew_time=None,
        **more,
    )


def rank_with_floor(floor: CheckpointRef, *, version: int, holder: str = OTHER, term: int = 1) -> LeaseRecord:
    beat = Heartbeat(pod=OTHER, term=1, phase=Phase.TRAINING, step=floor.step, checkpoint=floor, volume="v1")
    return lease(version=version, holder=holder, term=term, heartbeat=beat, operator_floor=floor)


@dataclass
class Driver:
    """Feeds one machine; `out` holds the actions of the last event, `all` those of every event."""

    machine: Machine
    now: float = 100.0
    step: int = 0
    frozen: bool = False
    """The trainer does nothing; else its activity changes all the time."""
    activity: int = 0
    busy: int = 0
    out: tuple[model.Action, ...] = ()
    all: list[model.Action] = field(default_factory=list)

    def start(self) -> "Driver":
        return self._took(self.machine.start(self.now))

    def feed(self, event: model.Event) -> "Driver":
        self.activity += not self.frozen
        return self._took(self.machine.handle(self.now, Counts(self.step, self.activity, self.busy), event))

    def wait(self, seconds: float) -> "Driver":
        """Let time pass, with a Tick whenever the machine wants one."""
        end, kept = self.now + seconds, []
        while self.machine.wake_at() <= end:
            self.now = max(self.now, self.machine.wake_at())
            self.feed(model.Tick())
            kept.extend(self.out)
        self.now, self.out = end, tuple(kept)
        return self

    def see(self, record: LeaseRecord, *, watched: bool = False) -> "Driver":
        return self.feed(model.LeaseSeen(record, watched))

    def accept(self, duration_s: int = 3) -> "Driver":
        """The API accepts the newest renewal."""
        renewal = self.renewals[-1]
        return self.feed(model.Renewed(renewal.lease, renewal.number, duration_s))

    def fail(self, *, refused: bool = False, gone: bool = False, unfit: bool = False) -> "Driver":
        renewal = self.renewals[-1]
        return self.feed(model.RenewalFailed(renewal.lease, renewal.number, refused, "no", gone, unfit or refused))

    def primary(self, term: int = 1) -> "Driver":
        """Become a primary that steps."""
        self.feed(protocol.Hello("1")).see(lease(holder=POD, term=term, version=5)).accept()
        return self.begin(term)

    def begin(self, term: int) -> "Driver":
        self.feed(protocol.Started(term, ref(0, term), "v1"))
        self.step = 1
        return self.feed(protocol.FirstStep(term, 1, "now")).accept()

    def redundant(self) -> "Driver":
        """Become a warm redundant pod."""
        self.feed(protocol.Hello("1")).see(rank_with_floor(ref(100), version=5))
        self.see(lease(SLOT, POD)).accept()
        return self.feed(protocol.Ready(ref(100))).accept()

    @property
    def renewals(self) -> list[model.Renew]:
        return [action for action in self.all if isinstance(action, model.Renew)]

    @property
    def sent(self) -> list[protocol.FromAgent]:
        return [action.message for action in self.out if isinstance(action, model.Send)]

    def only(self, kind: type[Any]) -> Any:
        """Give the one action of this kind that the last event caused."""
        found = [action for action in self.out if isinstance(action, kind)]
        assert len(found) == 1, self.out
        return found[0]

    def none(self, kind: type[Any]) -> bool:
        return not any(isinstance(action, kind) for action in self.out)

    def _took(self, actions: tuple[model.Action, ...]) -> "Driver":
        self.out = actions
        self.all.extend(actions)
        return self


CONFIG = model.Config(
    pod=POD,
    rank=0,
    rank_lease=RANK,
    slot_lease=SLOT,
    hand_over_s=20,
    progress_s=60,
    startup_s=600,
    max_failures=float("inf"),
    grace_s=30,
    end_s=600,
    script="python train.py",
)


def drive(**changes: Any) -> Driver:
    """Make a started driver; keywords change the configuration."""
    return Driver(Machine(replace(CONFIG, **changes))).start()
