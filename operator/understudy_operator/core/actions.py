"""What the operator can do about a job.

Each action is idempotent, and refused if what it was decided on has changed since (uid or resourceVersion).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from understudy_contract.events import EventReason
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Annotation, Rank, Role, Term
from understudy_contract.reports import CheckpointRef, Promotion
from understudy_contract.status import JobStatus

from understudy_operator.core.model import Aim, Pod


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make sure of the claim, the Service and the workers' account."""

    trial: bool
    """Try the template in a dry run as well. It proves nothing once pods of the job exist, which may fill a quota."""


@dataclass(frozen=True, slots=True)
class GrantRights:
    """Make sure that the workers may renew all Leases of the job."""

    leases: tuple[str, ...]
    """Their names, in order."""


@dataclass(frozen=True, slots=True)
class KeepBudgets:
    """Make sure that every rank has a PodDisruptionBudget, or that none has one."""

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
    """The rank was complete: its holder is the pod that completed it, and no pod has to train."""
    promotion: Promotion | None = None
    """What is still known of the last promotion, so that no count starts again."""


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """Create the Lease of a redundant slot, with no holder."""

    rank: Rank
    slot: int


@dataclass(frozen=True, slots=True)
class FindPod:
    """Ask for a pod that has reported and was never seen: the watch of pods is late, or the pod is already gone."""

    rank: Rank
    name: str


@dataclass(frozen=True, slots=True)
class AskWhy:
    """Read the Events of a pod that was told to end, once: only they tell of a failed probe."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Promote:
    """Give a rank's Lease to another pod, by compare-and-set. This write is the promotion."""

    rank: Rank
    lease: LeaseRecord
    target: str
    cold: bool
    """The target does not exist yet: its incarnation is taken in the same write."""
    floor: CheckpointRef | None
    failures: int
    promotion: Promotion | None
    """None: this is no failover. The job is resumed, or the holder may never have existed."""
    suspect_node: str | None
    """Node of a holder that fell silent."""

    @property
    def term(self) -> Term:
        """Term that the target gets."""
        return Term(self.lease.term + 1)


class Guard(Enum):
    """What must be unchanged in a Lease since it was decided on; otherwise the write is refused."""

    VERSION = "anything"
    HOLDER = "its holder and its term"


@dataclass(frozen=True, slots=True)
class PatchLease:
    """Change a Lease otherwise than by a new holder; patches.py lists the changes."""

    rank: Rank
    record: LeaseRecord
    """The Lease as it was decided on."""
    guard: Guard
    annotations: Mapping[Annotation, str | None]
    """None: taken off, which needs the guard VERSION."""
    spec: Mapping[str, Any]
    log: str = ""
    """What the log says once it is written; empty for nothing."""


@dataclass(frozen=True, slots=True)
class ClearSwitchover:
    """Remove the request for a switchover from the job, unless another one stands there by now."""

    asked: str


@dataclass(frozen=True, slots=True)
class AssignSlot:
    """Take the next incarnation of the rank and name its pod as the slot's holder; the pod is created afterwards."""

    rank: Rank
    slot: int
    lease: LeaseRecord
    rank_lease: LeaseRecord
    failures: int
    """Pods that the slot has lost in a row, this one included."""
    loss: str
    """Why the slot lost its last pod; empty if it had none, or its pod was promoted, or was never seen."""
    suspect_node: str | None


@dataclass(frozen=True, slots=True)
class Placement:
    """On which nodes a pod may run, and which it should avoid."""

    together: bool
    """It must run on the node of the job's other pods: the volume can be mounted on one node only."""
    avoid_nodes: tuple[tuple[str, int], ...]
    """Nodes to avoid if possible, with weights (1 to 100)."""


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
    """Make the job the owner of a Lease or a pod that has no owner, by compare-and-set."""

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
    """It is a worker's notice. These have a limit of their own, apart from the operator's Events."""


Creation = Prepare | GrantRights | KeepBudgets | OpenRank | OpenSlot | CreatePod
"""Actions that create something: a quota, a policy or the template may forbid it until a person acts."""
Action = (
    Creation
    | FindPod
    | AskWhy
    | Promote
    | PatchLease
    | ClearSwitchover
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
    """Return the key under which a problem with this action is kept."""
    return type(action).__name__, rank_of(action)


def rank_of(action: Action) -> Rank | None:
    """Name the rank that an action is about; None for one about the whole job."""
    match action:
        case Relabel() | DeletePod() | EndPod():
            return action.pod.rank
        case OpenRank() | OpenSlot() | Promote() | PatchLease() | AssignSlot() | CreatePod() | FindPod() | Adopt():
            return action.rank
        case _:
            return None
