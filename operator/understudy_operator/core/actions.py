"""What the operator can do about a job. Each is idempotent and guarded by what it was decided on (uid or
resourceVersion)."""

from dataclasses import dataclass
from typing import Final, Literal

from understudy_contract.events import EventReason
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Rank, Role, Term
from understudy_contract.reports import CheckpointRef, GivenUp, Promotion
from understudy_contract.status import JobStatus

from understudy_operator.core.model import Aim, Pod


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make sure of the claim, the Service and the workers' account."""

    trial: bool
    """Try the template in a dry run, too: of no use once pods of the job exist, which may fill a quota."""


@dataclass(frozen=True, slots=True)
class GrantRights:
    """Make sure that the workers may renew these Leases, all that the job has."""

    leases: tuple[str, ...]
    """Their names, in order."""


@dataclass(frozen=True, slots=True)
class KeepBudgets:
    """Make sure that every rank has a PodDisruptionBudget; or that none has."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class OpenRank:
    """Create a rank's Lease, with its holder."""

    rank: Rank
    term: Term
    holder: str
    """A pod still to be created, or the primary that outlived the Lease."""
    incarnation: int
    """The next pod's number, past the holder's."""
    floor: CheckpointRef | None = None
    complete: bool = False
    """The rank had completed: the holder is who did, and nobody has to train."""
    promotion: Promotion | None = None
    """What is still known of the last one, so that nothing is counted anew."""


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """Create the Lease of a redundant slot, with no holder."""

    rank: Rank
    slot: int


@dataclass(frozen=True, slots=True)
class FindPod:
    """Look for a pod that has reported and was never seen: the watch of pods lags behind, or it is gone already."""

    rank: Rank
    name: str


@dataclass(frozen=True, slots=True)
class AskWhy:
    """Read the Events of a pod that was told to end, once: a probe's failure is told nowhere else."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Promote:
    """Pass a rank's Lease on, by CAS: the decision itself."""

    rank: Rank
    lease: LeaseRecord
    target: str
    cold: bool
    """The target does not exist yet: its incarnation is taken in the same write."""
    floor: CheckpointRef | None
    failures: int
    promotion: Promotion | None
    """None: nothing failed over. The job is resumed, or nobody has ever seen the holder."""
    suspect_node: str | None
    """Node of a holder that fell silent."""

    @property
    def term(self) -> Term:
        """Term that the target gets."""
        return Term(self.lease.term + 1)


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Put on a rank's Lease, by CAS, that it has failed too often: the job has failed."""

    rank: Rank
    lease: LeaseRecord
    given_up: GivenUp


@dataclass(frozen=True, slots=True)
class TakeSwitchover:
    """Put on a rank's Lease, by CAS, that its present term is to end by a switchover."""

    rank: Rank
    lease: LeaseRecord


@dataclass(frozen=True, slots=True)
class ClearSwitchover:
    """Take the request off the job, unless it is another one by now."""

    asked: str


@dataclass(frozen=True, slots=True)
class RaiseTerm:
    """Give a rank's holder a higher term, by CAS: the volume has seen the one that it holds, or a later one."""

    rank: Rank
    lease: LeaseRecord
    term: Term


@dataclass(frozen=True, slots=True)
class SetDuration:
    """Write into a Lease how long it lasts, by CAS."""

    rank: Rank
    lease: LeaseRecord


@dataclass(frozen=True, slots=True)
class Vacate:
    """Leave a Lease to nobody, by CAS; of a rank's, the term and the durable floor stay."""

    rank: Rank
    lease: LeaseRecord


@dataclass(frozen=True, slots=True)
class AssignSlot:
    """Take an incarnation, name its pod as the slot's holder; the pod itself is created next."""

    rank: Rank
    slot: int
    lease: LeaseRecord
    rank_lease: LeaseRecord
    failures: int
    """Pods that the slot has lost in a row, this one included."""
    loss: str
    """Why the slot's last pod is no longer of use; empty for a slot that had none, whose pod was promoted, or was never
    seen."""
    suspect_node: str | None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a pod may and would rather go."""

    together: bool
    """Required on the node of the job's other pods: the volume can be mounted on one node only."""
    avoid_nodes: tuple[tuple[str, int], ...]
    """Node names and weights (1 to 100) of a preference against them."""


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create the pod that a Lease already names."""

    name: str
    rank: Rank
    slot: int | None
    """None: created as primary."""
    term: Term
    placement: Placement


@dataclass(frozen=True, slots=True)
class Adopt:
    """Make the job the owner of a Lease or a pod that has none, by CAS."""

    rank: Rank
    kind: Literal["leases", "pods"]
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Relabel:
    """Make a pod's role label and term annotation say what the Leases say."""

    pod: Pod
    role: Role | None
    term: Term | None


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a pod by uid, with its own grace period."""

    pod: Pod
    why: str


END_POD_S: Final = 1
"""activeDeadlineSeconds of a pod that is to end: the least that the API admits, and it may only be lowered."""


@dataclass(frozen=True, slots=True)
class EndPod:
    """End what still runs of a pod, and keep it for its logs: the kubelet ends a pod at its activeDeadlineSeconds."""

    pod: Pod
    why: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the TrainingJob, and with it all but its checkpoints."""

    why: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Write the status subresource."""

    status: JobStatus


@dataclass(frozen=True, slots=True)
class Emit:
    """Post an Event, once per key."""

    key: str
    reason: EventReason
    message: str
    of_worker: bool = False
    """A worker's notice: how often one is posted is limited apart from the operator's own Events."""


Creation = Prepare | GrantRights | KeepBudgets | OpenRank | OpenSlot | CreatePod
"""Actions that make something, which a person may have to allow first."""
Action = (
    Creation
    | FindPod
    | AskWhy
    | Promote
    | GiveUp
    | TakeSwitchover
    | ClearSwitchover
    | RaiseTerm
    | SetDuration
    | Vacate
    | AssignSlot
    | Adopt
    | Relabel
    | DeletePod
    | EndPod
    | DeleteJob
    | WriteStatus
    | Emit
)


def aim(action: Action) -> Aim:
    """Name what an action is about, as problems do."""
    return type(action).__name__, rank_of(action)


def rank_of(action: Action) -> Rank | None:
    """Name the rank that an action is about; None for one about the whole job."""
    match action:
        case Relabel() | DeletePod() | EndPod():
            return action.pod.rank
        case (
            OpenRank()
            | OpenSlot()
            | Promote()
            | GiveUp()
            | TakeSwitchover()
            | RaiseTerm()
            | SetDuration()
            | Vacate()
            | AssignSlot()
            | CreatePod()
            | FindPod()
            | Adopt()
        ):
            return action.rank
        case _:
            return None
