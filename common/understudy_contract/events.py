"""Reasons of the Events about a TrainingJob, of the operator's own and of workers' notices.

docs/reference/events.md explains what happened for each reason, and what to do; a unit test compares the two. Every
Event that is posted has one of these reasons, because alerts match reasons, and a worker can write any word into its
notice. A notice whose reason is not in NOTICES, such as one that only a later worker knows, becomes a WorkerNotice.
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
    CAUSE_FOUND = "CauseFound"
    REDUNDANT_LOST = "RedundantLost"
    SWITCHOVER_WAITS = "SwitchoverWaits"
    SWITCHOVER_REFUSED = "SwitchoverRefused"
    CONTROL_PLANE_DEGRADED = "ControlPlaneDegraded"
    ADOPTED = "Adopted"
    # What cannot be made
    INVALID_TEMPLATE = "InvalidTemplate"
    REFUSED = "Refused"
    NAME_TAKEN = "NameTaken"
    CLAIM_MISSING = "ClaimMissing"
    CLAIM_REFUSED = "ClaimRefused"
    POD_PENDING = "PodPending"
    POD_GATED = "PodGated"
    TEMPLATE_CHANGED = "TemplateChanged"
    NOT_NODE_FAULT_TOLERANT = "NotNodeFaultTolerant"
    UNREADABLE = "Unreadable"
    OPERATOR_ERROR = "OperatorError"
    # What workers notice
    INHERITED = "Inherited"
    NOT_INHERITED = "NotInherited"
    NOT_INTEGRATED_YET = "NotIntegratedYet"
    TRAINER_RESTARTED = "TrainerRestarted"
    SECOND_TRAINER = "SecondTrainer"
    CHECKPOINT_FAILED = "CheckpointFailed"
    CHECKPOINT_DAMAGED = "CheckpointDamaged"
    VOLUME_TROUBLE = "VolumeTrouble"
    VOLUME_MISMATCH = "VolumeMismatch"
    FOREIGN_ON_VOLUME = "ForeignOnVolume"
    NOT_EXACT = "NotExact"
    BATCH_SHAPE_CHANGED = "BatchShapeChanged"
    MODEL_NOT_EXPORTED = "ModelNotExported"
    WORKER_NOTICE = "WorkerNotice"
    SCRIPT_ENDED = "ScriptEnded"


NOTICES: Final = frozenset(
    {
        EventReason.INHERITED,
        EventReason.NOT_INHERITED,
        EventReason.NOT_INTEGRATED_YET,
        EventReason.CHECKPOINT_FAILED,
        EventReason.CHECKPOINT_DAMAGED,
        EventReason.VOLUME_TROUBLE,
        EventReason.VOLUME_MISMATCH,
        EventReason.FOREIGN_ON_VOLUME,
        EventReason.NOT_EXACT,
        EventReason.BATCH_SHAPE_CHANGED,
        EventReason.MODEL_NOT_EXPORTED,
        EventReason.TRAINER_RESTARTED,
        EventReason.SECOND_TRAINER,
        EventReason.SCRIPT_ENDED,
    }
)
"""Reasons that a worker may give; the others say what the operator itself knows or does."""

_NORMAL: Final = frozenset(
    {
        EventReason.COMPLETED,
        EventReason.RANK_COMPLETED,
        EventReason.ADOPTED,
        EventReason.SUSPENDED,
        EventReason.RESUMED,
        EventReason.SWITCHOVER_WAITS,
        EventReason.NOT_NODE_FAULT_TOLERANT,
        EventReason.POD_GATED,
        EventReason.TEMPLATE_CHANGED,
        EventReason.INHERITED,
        EventReason.NOT_INHERITED,
    }
)


def event_type(reason: str) -> EventType:
    """Tell the type of an Event with this reason."""
    return EventType.NORMAL if reason in _NORMAL else EventType.WARNING


def notice_reason(said: str) -> EventReason:
    """Give the reason with which a worker's notice is told."""
    return EventReason(said) if said in NOTICES else EventReason.WORKER_NOTICE
