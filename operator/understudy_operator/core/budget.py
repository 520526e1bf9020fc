"""Consecutive failures of the application, and how long to wait after them.

A failure with a new checkpoint since the last one starts the count again; a pod taken away (deleted, evicted, its
node lost) does not count, unless it was so before its first report: else one that every kubelet refuses, or that
somebody deletes on sight, would be made anew as fast as the API answers. Trouble with the volume delays what comes
next, and ends no job: somebody will mend it. The counts live in the Leases, written by the
same CAS that acts on the failure.

A failure that a pod survives, since a launcher in its container starts the trainer again, is told in its heartbeat. It
counts like one that ends the pod, and is added to those: the worker begins its count anew with each checkpoint and each
term, and a promotion takes over what was told. A worker may write any number there. It is cut, never below zero, and
makes nothing but its own job fail.
"""

from typing import Final

from understudy_contract.lease import LeaseRecord
from understudy_contract.reports import FAILURES_MAX, LAST_FAILURE_MAX_CHARS, Cause, Phase

from understudy_operator.core.detection import Failure

BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0
"""A script that cannot run is tried once a minute: seldom enough to cost nothing, often enough to notice the repair."""


def progressed(record: LeaseRecord) -> bool:
    """Tell whether a checkpoint has been committed since the rank was passed on last."""
    since = record.promotion.checkpoint if record.promotion else None
    floor = record.floor
    if floor is None or floor.step == 0:
        return False
    return since is None or (floor.term, floor.step) > (since.term, since.step)


def standing(record: LeaseRecord) -> int:
    """Count a rank's consecutive failures without progress: none once a newer checkpoint is committed."""
    return survived(record) + (0 if progressed(record) else record.failures)


def survived(record: LeaseRecord) -> int:
    """Count the failures without progress that the holder of a Lease has survived in its present term."""
    beat = record.current_heartbeat
    return min(max(beat.failures, 0), FAILURES_MAX) if beat is not None else 0


def restarts(record: LeaseRecord) -> int:
    """Count how often the trainer of a Lease's holder was started again inside its pod, in the present term."""
    beat = record.current_heartbeat
    return min(max(beat.restarts, 0), FAILURES_MAX) if beat is not None else 0


def last_survived(record: LeaseRecord) -> str:
    """Say why the last failure happened that the holder has survived, on one line; empty: there was none."""
    beat = record.current_heartbeat
    words = " ".join((beat.last_failure or "").split()) if beat is not None else ""
    return "".join(character for character in words if character.isprintable())[:LAST_FAILURE_MAX_CHARS]


def application_failures_after(record: LeaseRecord, failure: Failure) -> int:
    """Count what the program itself did wrong without progress between, `failure` included: what ends a job.

    Unlike the back-off's count it leaves out every pod that was taken away, reported or not.
    """
    return application_failures(record) + int(failure.application)


def application_failures(record: LeaseRecord) -> int:
    """Count what the program itself did wrong since its last checkpoint, as far as it has been acted on."""
    if record.given_up is not None:
        return record.given_up.failures
    before = record.promotion.failures if record.promotion is not None and not progressed(record) else 0
    return before + survived(record)


def failures_after(record: LeaseRecord, failure: Failure) -> int:
    """Count a rank's consecutive failures without progress, `failure` included."""
    return standing(record) + int(_delays(failure) or record.current_heartbeat is None)


def slot_standing(record: LeaseRecord) -> int:
    """Count a slot's consecutive failures, as far as they have been acted on: none once its pod was ready."""
    beat = record.current_heartbeat
    return 0 if beat is not None and beat.phase is Phase.READY else record.failures + survived(record)


def slot_failures_after(record: LeaseRecord, failure: Failure) -> int:
    """Count a slot's consecutive failures without ever having been ready, `failure` included."""
    return slot_standing(record) + int(_delays(failure) or record.current_heartbeat is None)


def _delays(failure: Failure) -> bool:
    return failure.application or failure.cause is Cause.VOLUME_TROUBLE


def backoff_s(failures: int) -> float:
    """Return how long to wait after this many failures: 0, 1, 2, 4 … 60 s."""
    if failures <= 0:
        return 0.0
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 16)))
