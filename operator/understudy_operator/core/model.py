"""Observation: frozen values of one job, its pods, Leases, claim and nodes, as last seen.

Times named `*_at` or `*_since` and ending without a unit word are seconds of the operator's monotonic clock; strings
are the API's wall-clock times and serve display only.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from understudy_contract.bounds import COUNT_MAX
from understudy_contract.events import EventReason
from understudy_contract.lease import LeaseRecord, natural
from understudy_contract.names import Rank, Role, Term, pod_name
from understudy_contract.reports import Phase
from understudy_contract.status import JobStatus

from understudy_operator.core.fleet import Fleet
from understudy_operator.core.policy import Policy

LATE: Final = 0.4
"""Share of a lease after which a renewal is late: one comes every third."""


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks: monotonic seconds decide, the wall is shown."""

    at: float
    wall: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """The container is not started; `reason` is the kubelet's, such as ImagePullBackOff."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Running:
    """The container runs, since `since` of the operator's monotonic clock at the latest."""

    since: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """The container has ended."""

    exit_code: int
    reason: str
    message: str
    finished_at: str


Container = Waiting | Running | Terminated | None


@dataclass(frozen=True, slots=True)
class Killed:
    """What a pod's Events say of the end of its container `trainer`."""

    by: str = ""
    """`liveness` or `startup`: that probe failed, and the kubelet killed the container. Evicted and the like: what
    status.reason will say in a moment. Empty: nothing."""
    words: str = ""
    """The kubelet's sentence about it."""


def incarnation_of(name: str) -> int:
    """Read the incarnation out of a pod's name; -1 if it has none, or one that no job comes to."""
    number = natural(name.rpartition("-")[2], COUNT_MAX)
    return -1 if number is None else number


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the job."""

    name: str
    uid: str
    resource_version: str
    rank: Rank
    role: Role | None
    term: Term | None
    node: str | None
    created: str
    phase: str
    reason: str
    """status.reason: Evicted, for one."""
    deleting_since: float | None
    deletion_time: str
    """Wall clock of the API server when the deletion was asked for, RFC 3339; empty: it was not."""
    scheduling: str
    """Why the scheduler finds no node; empty when it found one or has not tried."""
    container: Container
    """The trainer's."""
    waiting: tuple[tuple[str, Waiting], ...] = ()
    """Its other containers that are not started, by name, init containers first."""
    failed_init: tuple[str, Terminated] | None = None
    """The init container that failed, by name; of a pod that has ended it tells why the trainer never began."""
    gates: tuple[str, ...] = ()
    """Scheduling gates that are still on it, by name."""
    seen_since: float = -math.inf
    """When the operator first saw it."""
    message: str = ""
    """status.message: the sentence that goes with `reason`."""
    disruption: tuple[str, str] | None = None
    """Reason and message of the condition DisruptionTarget, if that is True."""
    killed: Killed | None = None
    """None: its Events were not asked yet."""
    orphaned: bool = False
    """It has no owner: its job was deleted without it, or it was restored from a backup."""
    ending_since: float | None = None
    """Its agent has said that it is ending, or its container has; None after a restart of the operator."""
    active_deadline_s: int | None = None
    """spec.activeDeadlineSeconds: after this the kubelet ends the whole pod."""

    @property
    def incarnation(self) -> int:
        """Number of the pod within its rank; -1 for a name that we did not give."""
        return incarnation_of(self.name)

    def is_of(self, job: str) -> bool:
        """Tell whether the job made this pod, as opposed to a copy that carries its labels."""
        return self.name == pod_name(job, self.rank, self.incarnation)

    @property
    def finished(self) -> bool:
        """No container of the pod can run again, sidecars included."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def ended(self) -> bool:
        """No process of the trainer's container can run again."""
        return self.finished or isinstance(self.container, Terminated)


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease, and when it was seen to change."""

    record: LeaseRecord
    changed_at: float
    """When it changed last: back-offs count from here."""
    silent_since: float
    """Since when it could have been heard to change, and was not; infinite while nothing can be heard."""
    any_worker_steady_since: float
    """Since when workers of any job were heard without a gap of half this Lease's duration; infinite in such a gap."""
    steady_since: float
    """Since when it has been renewed without a gap of more than half its duration."""

    @property
    def acknowledged(self) -> bool:
        """The present holder has reported in the present term."""
        return self.record.current_heartbeat is not None

    @property
    def phase(self) -> Phase | None:
        """Phase of the present holder's last report."""
        beat = self.record.current_heartbeat
        return beat.phase if beat else None

    def silent(self, at: float) -> bool:
        """Tell whether the holder was not heard for a whole lease."""
        return at >= self.silent_since + self.record.patience_s


@dataclass(frozen=True, slots=True)
class RankView:
    """One rank: its Lease, the Leases of its redundant slots, its pods by name."""

    rank: Rank
    lease: Lease | None
    slots: tuple[Lease | None, ...]
    pods: Mapping[str, Pod]
    surplus: tuple[Lease, ...] = ()
    """Leases of slots beyond the redundancy that was asked for, which still name a pod."""

    @property
    def primary(self) -> Pod | None:
        """The pod that holds the rank's Lease."""
        return self.pods.get(self.lease.record.holder) if self.lease else None

    def serves(self, pod: str) -> bool:
        """Tell whether a slot's holder may serve as redundant: once primary, a pod never is redundant again."""
        if self.lease is None:
            return bool(pod)
        last = self.lease.record.promotion
        former = (last.source, *last.former) if last is not None else ()
        return bool(pod) and pod != self.lease.record.holder and pod not in former

    def is_former(self, slot: Lease) -> bool:
        """Tell whether a slot's Lease names a pod that has been given the rank: it has not been assigned anew yet."""
        return bool(slot.record.holder) and not self.serves(slot.record.holder)

    def slot_pod(self, slot: int) -> Pod | None:
        """The pod that serves a redundant slot; None for a slot whose pod was promoted or is gone."""
        lease = self.slots[slot]
        return self.pods.get(lease.record.holder) if lease is not None and self.serves(lease.record.holder) else None

    def warm(self, slot: int, at: float) -> bool:
        """Tell whether a redundant slot's pod is ready to take over, as far as it was heard lately."""
        lease, pod = self.slots[slot], self.slot_pod(slot)
        if lease is None or pod is None or pod.deleting_since is not None or pod.ended:
            return False
        return lease.phase is Phase.READY and lease.record.current_release is None and not lease.silent(at)


@dataclass(frozen=True, slots=True)
class Claim:
    """The PersistentVolumeClaim of the checkpoints."""

    name: str
    phase: str
    access_modes: tuple[str, ...]
    """Of the bound volume, not what the claim asked for; empty until bound."""
    job_uid: str = ""
    """uid of the job that it was made for, from its label; empty for a claim of the user's own."""

    @property
    def bound(self) -> bool:
        """A volume is there."""
        return self.phase == "Bound"

    @property
    def single_pod(self) -> bool:
        """One pod alone can mount it (ReadWriteOncePod): no redundant pod could."""
        return self.bound and set(self.access_modes) == {"ReadWriteOncePod"}

    @property
    def shared(self) -> bool:
        """Pods on several nodes can write it."""
        return "ReadWriteMany" in self.access_modes


@dataclass(frozen=True, slots=True)
class Job:
    """A TrainingJob."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    policy: Policy
    status: JobStatus
    """As last read or written."""
    switchover: str | None = None
    """The rank that is to change its primary, as the annotation has it."""
    resource_version: str = ""
    """Of the object that `switchover` was read from."""
    adopted_uid: str = ""
    """uid of the earlier job of this name whose children this one has adopted (adoption.py); empty: none."""
    deleting: bool = False
    """Somebody has deleted it, and a finalizer keeps it."""
    size_bytes: int = 0
    """Of the text of its spec and status."""

    @property
    def identity(self) -> str:
        """The uid that labels the children and names the checkpoints' folder; their owner is `uid`."""
        return self.adopted_uid or self.uid


@dataclass(frozen=True, slots=True)
class Leftover:
    """A Lease of an earlier job of this name, which this one cannot adopt."""

    name: str
    job_uid: str
    going: bool
    """It has an owner that is gone: the garbage collector removes it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something could not be made, until somebody acts."""

    reason: EventReason
    message: str
    since: str
    """Wall clock of the first refusal, RFC 3339: for display, and to tell it from an earlier one."""
    again_at: float
    """When it may be tried again."""
    passing: bool = False
    """Room has just been made for it (room.py): it is told only if that does not help."""


Aim = tuple[str, Rank | None]
"""What was refused: the kind of action, and the rank it was for."""


@dataclass(frozen=True, slots=True)
class Observation:
    """All that `decide` may look at."""

    job: Job
    ranks: tuple[RankView, ...]
    claim: Claim | None
    fleet: Fleet
    """What silences are judged by."""
    suspect_nodes: frozenset[str]
    """Nodes on which a pod fell silent a moment ago: a scheduler may still believe in them."""
    prepared_at: float
    """When this process made sure of the children that never change: claim, Service, ServiceAccount; -inf: not yet."""
    prepared_generation: int
    """Generation of the spec that they were made for."""
    granted: frozenset[tuple[str | None, str]]
    """Accounts (None: the one made for the job) and Leases that this process has made sure they may renew, since it
    last prepared the job."""
    budgets: bool | None
    """This process has made sure that each rank has a PodDisruptionBudget, or that none has; None: of neither."""
    problems: Mapping[Aim, Problem]
    """What the API refuses to make; each is tried again, and over when that succeeds."""
    predecessor_pods: Mapping[str, bool]
    """Pods that an earlier job of this name has left, and whether each may still save; told before a rank is opened."""
    leftovers: tuple[Leftover, ...]
    """Leases of an earlier job of this name that are in the way; told before a rank is opened."""
    pending_pods: frozenset[str]
    """Pods that this process has decided to create and has not seen yet."""
    deleted_pods: frozenset[str]
    """Pods that a slot's Lease names and that are no more, although this process has seen them."""
    status_written_at: float
    """When this process last wrote the status; -inf for never."""

    @property
    def prepared(self) -> bool:
        """This process has made sure of those children at least once."""
        return self.prepared_at > -math.inf

    def blocked(self, kind: type, rank: Rank | None, at: float) -> bool:
        """Tell whether making this has to wait: it was refused a moment ago."""
        problem = self.problems.get((kind.__name__, rank))
        return problem is not None and at < problem.again_at

    @property
    def problem(self) -> Problem | None:
        """One of the problems that are told, the same as long as it lasts."""
        return next(iter(self.told_problems), None)

    @property
    def told_problems(self) -> tuple[Problem, ...]:
        """The problems that are told, always in the same order."""
        told = [(aim, problem) for aim, problem in self.problems.items() if not problem.passing]
        found = sorted(told, key=lambda item: (item[0][0], -1 if item[0][1] is None else item[0][1]))
        return tuple(problem for _, problem in found)
