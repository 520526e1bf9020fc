"""One failover, measured from outside: how long it took, leg by leg, how many steps it lost, and what the status says.

The first new step is the first step of a higher term in any log of the rank, by the time that its worker put on it
after the step's result was there. Lost steps are counted from the logs: the last step that the old primary printed,
less the one that the new primary says it resumed from; so the job must log every step. What cannot be seen is None.
"""

from dataclasses import dataclass
from typing import Final

from understudy_contract.lease import LeaseRecord
from understudy_contract.names import TRAINER_CONTAINER, rank_lease_name
from understudy_contract.reports import Promotion
from understudy_contract.status import FailoverStatus

from testbed.errors import TestbedError
from testbed.faults import Fault
from testbed.kube import parse_time
from testbed.lines import Step
from testbed.logs import PodLog
from testbed.pods import Pod
from testbed.testbed import Testbed

FIRST_STEP_WITHIN_S: Final = 120
"""Long enough for a cold start, which is then a result."""
STATUS_WITHIN_S: Final = 60
LOG_ENDS_WITHIN_S: Final = 60

LEGS: Final = ("signal", "release", "decision", "notified", "resumed", "first step")
"""Moments in their order; a leg is the time since the moment before that is known, the first one since the fault."""


@dataclass(frozen=True, slots=True)
class Failover:
    """What one fault led to."""

    fault: str
    rank: int
    term: int
    old: str
    new: str
    cause: str
    """As the operator recorded it."""
    cold: bool
    at: float
    """When the fault was sent."""
    moments: dict[str, float | None]
    """Seconds after the fault of each of LEGS."""
    last_step: int
    """Last step that the old primary is known to have completed."""
    resumed: int
    ran_on: bool
    """`last_step` is that at the fault; the old primary may have gone on, and may have saved what it did."""
    status: FailoverStatus
    """What the status says of it."""

    @property
    def took_s(self) -> float:
        """Fault to first new step."""
        found = self.moments["first step"]
        assert found is not None
        return found

    @property
    def decided_s(self) -> float:
        """Fault to the operator's decision."""
        found = self.moments["decision"]
        assert found is not None
        return found

    @property
    def lost_steps(self) -> int:
        """Steps that were taken and have to be taken again; negative would be a contradiction."""
        lost = self.last_step - self.resumed
        return max(0, lost) if self.ran_on else lost

    def legs(self) -> dict[str, float | None]:
        """Return the time from each known moment to the next."""
        before, found = 0.0, dict[str, float | None]()
        for name in LEGS:
            moment = self.moments[name]
            found[name] = None if moment is None else moment - before
            before = before if moment is None else moment
        return found


def failover(testbed: Testbed, job: str, rank: int, fault: Fault) -> Failover:
    """Send a fault to a rank's primary and watch what comes of it; does not undo the fault."""
    term = testbed.world.rank(job, rank).term
    old = testbed.primary(job, rank)
    log = testbed.logs.of(old.name)
    at = fault.aim(testbed, old)()
    new, step = _first_step(testbed, job, rank, term, fault, at)
    record = _promotion(testbed, job, rank, step.term)
    entry = _status_entry(testbed, job, rank, step.term)
    if fault.node:
        read_disk(testbed, old, log)
    elif not fault.runs_on:
        testbed.wait_until(lambda: log.ended, timeout_s=LOG_ENDS_WITHIN_S, what=f"the end of the log of {old.name}")
    last = log.last_step(term, until=at if fault.runs_on else None)
    resumed = new.resumed_at(step.term)
    if last is None or resumed is None:
        raise TestbedError(
            f"{old.name} printed no step of term {term}" if last is None else f"{new.pod} resumed silently"
        )
    return Failover(
        fault=fault.name,
        rank=rank,
        term=step.term,
        old=old.name,
        new=new.pod,
        cause=str(record.cause),
        cold=record.cold,
        at=at,
        moments=_moments(testbed, job, rank, fault, old, new, step, record, at),
        last_step=last.step,
        resumed=resumed[1],
        ran_on=fault.runs_on,
        status=entry,
    )


def _first_step(testbed: Testbed, job: str, rank: int, term: int, fault: Fault, at: float) -> tuple[PodLog, Step]:
    def look() -> tuple[PodLog, Step] | None:
        for log in testbed.logs.all():  # also of an earlier job of this name, whose terms were higher
            mine = log.rank == rank and log.pod.startswith(f"{job}-")
            if mine and (step := log.first_step(above_term=term, since=at)):
                return log, step
        return None

    what = f"a step of a term above {term} of rank {rank} of {job} after: {fault.title}"
    try:
        return testbed.wait_until(look, timeout_s=FIRST_STEP_WITHIN_S, what=what)
    except TestbedError as error:
        raise TestbedError(f"{error}; {testbed.world.describe(job)}{testbed.recent_events(job)}") from None


def _promotion(testbed: Testbed, job: str, rank: int, term: int) -> Promotion:
    def look() -> Promotion | None:
        lease = testbed.world.leases.get(rank_lease_name(job, rank))
        record = lease.promotion if lease is not None else None
        return record if record is not None and record.term == term else None

    what = f"the record of the promotion of rank {rank} of {job} to term {term} in its Lease"
    return testbed.wait_until(look, timeout_s=STATUS_WITHIN_S, what=what)


def _status_entry(testbed: Testbed, job: str, rank: int, term: int) -> FailoverStatus:
    def look() -> FailoverStatus | None:
        listed = testbed.status(job).failovers_of(rank)
        return next((entry for entry in listed if entry.term == term and entry.first_step_at is not None), None)

    what = f"the failover of rank {rank} of {job} to term {term}, with its first step, in the status"
    return testbed.wait_until(look, timeout_s=STATUS_WITHIN_S, what=what)


def read_disk(testbed: Testbed, pod: Pod, log: PodLog) -> None:
    """Read what a lost node wrote before the fault and could not send."""
    folder = f"{testbed.namespace}_{pod.name}_{pod.uid}"
    for text in testbed.cluster.node(pod.node).logs_on_disk(folder, TRAINER_CONTAINER):
        log.add_from_disk(text)


def _moments(
    testbed: Testbed,
    job: str,
    rank: int,
    fault: Fault,
    old: Pod,
    new: PodLog,
    step: Step,
    record: Promotion,
    at: float,
) -> dict[str, float | None]:
    resumed = new.resumed_at(step.term)
    found = {
        "signal": _signal(testbed, fault, old, at),
        "release": _release(testbed, rank_lease_name(job, rank), step.term - 1, at),
        "decision": parse_time(record.promoted_at),
        "notified": new.notified_at(step.term),
        "resumed": resumed[0] if resumed else None,
        "first step": step.at,
    }
    return {name: None if moment is None else moment - at for name, moment in found.items()}


def _signal(testbed: Testbed, fault: Fault, old: Pod, at: float) -> float | None:
    """Say when the failure was first known to anybody: the old pod's agent, or the API server."""
    log, world = testbed.logs.of(old.name), testbed.world
    match fault.name:
        case "delete" | "kubectl-delete" | "switchover" | "drain":
            line = log.find("SIGTERM", since=at, agent=True)
            return line.at if line else world.pod_change(old.uid, lambda pod: pod.deleting, since=at)
        case "kill-trainer" | "kill-leader" | "freeze-trainer":
            words = "no progress for" if fault.name == "freeze-trainer" else "the trainer ended"
            line = log.find(words, since=at, agent=True)
            return line.at if line else None
        case "kill-agent":
            return world.pod_change(old.uid, lambda pod: pod.terminated, since=at)
        case "force-delete":
            return world.pod_gone(old.uid)
    return None


def _release(testbed: Testbed, lease: str, term: int, at: float) -> float | None:
    """Say when the holder gave the Lease up, by its own clock."""

    def released(record: LeaseRecord) -> bool:
        return record.release is not None and record.release.term == term and record.term == term

    change = testbed.world.lease_change(lease, released, since=at)
    return parse_time(change.record.renew_time) if change and change.record.renew_time else None
