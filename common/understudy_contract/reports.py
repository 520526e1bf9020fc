"""What workers and operator write into the annotations of a Lease: heartbeats, releases, notices, promotions.

Times are wall-clock, RFC 3339, for display; who writes what is said in lease.py.
"""

from enum import StrEnum
from typing import Final

import msgspec

from understudy_contract.names import Term

LAST_WORDS_MAX_CHARS: Final = 1024
"""A message is cut here (bounds.py): annotations of one object share 256 KiB, and status repeats them."""
LAST_FAILURE_MAX_BYTES: Final = 300
"""A heartbeat's last_failure is cut here, where it is written and where it is read: every renewal carries it."""
FAILURES_MAX: Final = 1000
"""A heartbeat's counts of failures are cut here where they are read: a worker may write any number."""


class Phase(StrEnum):
    """What the process behind a heartbeat is doing."""

    STARTING = "starting"
    """Importing, building, warming up, restoring: it could not take a step at once."""
    READY = "ready"
    """Redundant: warm, with the newest known checkpoint loaded."""
    TRAINING = "training"
    FINISHING = "finishing"
    """The last step is committed; the script's code behind `train` runs."""


class Cause(StrEnum):
    """Why a rank's primary was replaced."""

    POD_DELETED = "PodDeleted"
    TERMINATED = "Terminated"
    """It was told to end by SIGTERM, and nothing says by whom; mostly for the second until its status does."""
    PROCESS_EXITED = "ProcessExited"
    CONTAINER_EXITED = "ContainerExited"
    LEASE_EXPIRED = "LeaseExpired"
    """No renewal was seen in time; or a redundant pod became ready before a new primary had started."""
    STALLED = "Stalled"
    VOLUME_TROUBLE = "VolumeTrouble"
    SWITCHOVER = "Switchover"
    NOT_INTEGRATED = "NotIntegrated"
    OOM_KILLED = "OOMKilled"
    """The kernel killed the trainer, or its whole container, for want of memory."""
    EVICTED = "Evicted"
    """By the kubelet: a volume or container over its limit, or a node that is short of memory or disk."""
    EVICTED_BY_API = "EvictedByAPI"
    """Through the Eviction API, as by `kubectl drain`."""
    PREEMPTED = "Preempted"
    """For a pod of a higher priority, by the scheduler or the kubelet."""
    NODE_TAINTED = "NodeTainted"
    """Its node got a NoExecute taint that the pod does not tolerate."""
    NODE_SHUTDOWN = "NodeShutdown"
    NODE_LOST = "NodeLost"
    """Kubernetes has given the node up, or it is deleted."""
    NODE_REFUSED = "NodeRefused"
    """The kubelet did not admit the pod."""
    POD_DEADLINE = "PodDeadlineExceeded"
    """activeDeadlineSeconds of the pod, not of the job."""
    LIVENESS_PROBE = "LivenessProbeFailed"
    STARTUP_PROBE = "StartupProbeFailed"


class CheckpointRef(msgspec.Struct, frozen=True, order=True):
    """Name of one committed checkpoint. Order: by term, then by step."""

    term: int
    step: int
    digest: str
    """SHA-256 of the manifest, in hexadecimal."""


class FirstStep(msgspec.Struct, frozen=True):
    """The first step that a primary completed in its term."""

    step: int
    """Steps completed, this one included: the term resumed from `step - 1`."""
    at: str
    """Wall-clock time of the worker, RFC 3339 with microseconds: for display."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a worker reports inside its renewal."""

    pod: str
    """The reporter; must equal holderIdentity to count."""
    term: int
    """The reporter's term of the Lease it renews (leaseTransitions); must be equal to count."""
    phase: Phase
    step: int = 0
    """Steps completed."""
    loaded: CheckpointRef | None = None
    """Redundant: the checkpoint that is verified and loaded."""
    checkpoint: CheckpointRef | None = None
    """Primary: newest commit of its own, or the one it started from: the durable floor."""
    first_step: FirstStep | None = None
    duration_s: int = 0
    """The Lease's duration as the reporter knows it; 0: it never learns of another (a release before this field)."""
    term_floor: int = 0
    """Primary: this term, not below its own, was held before, by itself or by another pod on the volume: it asks for a
    higher one. 0: none."""
    volume: str | None = None
    """Random id of the volume, as read from the volume."""
    model: str | None = None
    """Path of the finished model, relative to the volume's root."""
    failures: int = 0
    """Failures of the trainer that this pod has survived since its newest checkpoint, in the term that it reports: a
    launcher in the container started the trainer again. 0 as well from a release before this field."""
    restarts: int = 0
    """How often the trainer was started again in this pod, in the same term."""
    last_failure: str | None = None
    """Why it failed the last time; None: it never did."""


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sentence of a worker for the job's Events."""

    reason: str
    """An EventReason, or one that a later worker knows."""
    message: str
    at: str | None = None
    """When it was written into the Lease, by the worker's clock; None before, and of a release before this field."""


class Promotion(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Record of the last promotion of a rank, written in the same CAS that decides it."""

    term: int
    source: str
    """Pod that lost the rank."""
    target: str
    cause: str
    """A Cause, or one that a later release knows."""
    message: str
    failed_at: str
    detected_at: str
    promoted_at: str
    known_step: int
    """Last step that the old primary is known to have completed."""
    known_step_exact: bool
    """False: the old primary may have gone on after its last report, so lost steps are a lower bound."""
    cold: bool = False
    """No redundant pod could take over: the target was created for it."""
    checkpoint: CheckpointRef | None = None
    failovers: int = 1
    """Promotions of this rank so far, this one included."""
    restarts: int = 0
    """Cold ones among them."""
    failures: int = 0
    """Consecutive failures of the application up to this one, with no new checkpoint between them."""
    unreported: tuple["Promotion", ...] = msgspec.field(default=(), name="untold")
    """Those before that the status did not tell of when this one was decided, oldest first."""
    former: tuple[str, ...] = ()
    """Pods that a slot's Lease still named when this one was decided, although they had been given the rank."""


class GivenUp(msgspec.Struct, frozen=True):
    """A rank that failed too often, and is not tried again."""

    cause: str
    message: str
    at: str
    failures: int = 0
    """How often it had failed by then."""


class Release(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A holder's own statement that it gives the Lease up."""

    term: Term
    reason: str
    """A ReleaseReason, or one that a later release knows."""
    exit_code: int
    message: str = ""
    checkpoint: CheckpointRef | None = None
    """Newest commit, once more: a renewal that was overtaken may arrive later, and put an older heartbeat in place."""
