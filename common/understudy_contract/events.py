"""Reasons of the Events about a TrainingJob, of the operator's own and of workers' notices.

docs/events.md says of each what has happened and what to do; a unit test compares the two. A reason that only a later
worker knows is forwarded as it is, as a Warning: better seen than missed.
"""

from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """Kubernetes' two types of Events."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventReason(StrEnum):
    """Why an Event was posted."""

    # What became of the job
    COMPLETED = "Completed"
    RANK_COMPLETED = "RankCompleted"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    # Who trains
    PROMOTED = "Promoted"
    COLD_START = "ColdStart"
    REDUNDANT_LOST = "RedundantLost"
    SWITCHOVER_WAITS = "SwitchoverWaits"
    SWITCHOVER_REFUSED = "SwitchoverRefused"
    CONTROL_PLANE_DEGRADED = "ControlPlaneDegraded"
    # What cannot be made
    INVALID_TEMPLATE = "InvalidTemplate"
    REFUSED = "Refused"
    NAME_TAKEN = "NameTaken"
    CLAIM_MISSING = "ClaimMissing"
    CLAIM_REFUSED = "ClaimRefused"
    POD_PENDING = "PodPending"
    NOT_NODE_FAULT_TOLERANT = "NotNodeFaultTolerant"
    UNREADABLE = "Unreadable"
    OPERATOR_ERROR = "OperatorError"
    # What workers notice
    INHERITED = "Inherited"
    NOT_INHERITED = "NotInherited"
    NOT_INTEGRATED_YET = "NotIntegratedYet"
    CHECKPOINT_FAILED = "CheckpointFailed"
    CHECKPOINT_DAMAGED = "CheckpointDamaged"
    VOLUME_TROUBLE = "VolumeTrouble"
    VOLUME_MISMATCH = "VolumeMismatch"
    NOT_EXACT = "NotExact"
    BATCH_SHAPE_CHANGED = "BatchShapeChanged"


_NORMAL: Final = frozenset(
    {
        EventReason.COMPLETED,
        EventReason.RANK_COMPLETED,
        EventReason.SUSPENDED,
        EventReason.RESUMED,
        EventReason.SWITCHOVER_WAITS,
        EventReason.NOT_NODE_FAULT_TOLERANT,
        EventReason.INHERITED,
        EventReason.NOT_INHERITED,
    }
)


def event_type(reason: str) -> EventType:
    """Tell the type of an Event with this reason."""
    return EventType.NORMAL if reason in _NORMAL else EventType.WARNING
