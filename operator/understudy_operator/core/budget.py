"""Consecutive failures of the application, and how long to wait after them.

A failure with a new checkpoint since the last one starts the count again; a pod taken away (deleted, evicted, its
node lost) does not count, unless it was so before its first report: else one that every kubelet refuses, or that
somebody deletes on sight, would be made anew as fast as the API answers. Trouble with the volume delays what comes
next, and ends no job: somebody will mend it; so does an eviction, a failed probe, or whatever else Kubernetes does
again and again to the same template. The counts live in the Leases, written by the same CAS that acts on the failure.

A failure that a pod survives, since a launcher in its container starts the trainer again, is told in its heartbeat. It
counts like one that ends the pod, and is added to those: the worker begins its count anew with each checkpoint and each
term, and a promotion takes over what was told. A worker may write any number there. It is cut, never below zero, and
makes nothing but its own job fail.

A redundant slot counts every loss of its pod, whatever ended it, and although it was ready in between. The count ends
with a pod that was ready and lived for LONG_LIFE_S, by the operator's monotonic clock from its first sight of the pod:
a restart of the operator makes lives look shorter, and so costs a longer pause at most. What somebody or a lost node
takes away is replaced at once the first FREE_LOSSES times in a row: a person may delete pods, and drain nodes.

A primary that is evicted each time soon after it has begun saves as it is told to end, so each loss comes with a new
checkpoint. Those are counted in `status.failovers` (`repeated`), by the wall clocks of the operators that wrote them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Rank
from understudy_contract.reports import FAILURES_MAX, LAST_FAILURE_MAX_BYTES, Cause, Phase
from understudy_contract.text import clean

from understudy_operator.core.detection import Failure
from understudy_operator.core.model import Now, Pod

BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MAX_S: Final = 60.0
"""A script that cannot run is tried once a minute: seldom enough to cost nothing, often enough to notice the repair."""
LONG_LIFE_S: Final = 600.0
"""After as long a life the kubelet, too, forgets how often a container has crashed."""
FREE_LOSSES: Final = 3
"""Redundant pods in a row that are replaced at once after a deletion, a drain or the loss of a node."""
_DELAYING: Final = frozenset(
    {
        Cause.VOLUME_TROUBLE,
        Cause.OOM_KILLED,
        Cause.EVICTED,
        Cause.PREEMPTED,
        Cause.NODE_REFUSED,
        Cause.POD_DEADLINE,
        Cause.LIVENESS_PROBE,
        Cause.STARTUP_PROBE,
    }
)
"""Causes that come again at once with the next pod of the same template."""
_REPEATING: Final = frozenset({Cause.EVICTED, Cause.POD_DEADLINE, Cause.LIVENESS_PROBE, Cause.STARTUP_PROBE})
"""Those of them before which a primary is told to end, so that it saves: progress is no sign of health then."""


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
    return clean(beat.last_failure or "", LAST_FAILURE_MAX_BYTES) if beat is not None else ""


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


def slot_losses(record: LeaseRecord, pod: Pod | None, at: float) -> int:
    """Count the pods that a slot lost in a row, as far as that has been acted on: none once one lived long."""
    beat = record.current_heartbeat
    was_ready = beat is not None and beat.phase is Phase.READY
    return 0 if was_ready and _lived_s(pod, at) >= LONG_LIFE_S else record.failures + survived(record)


def slot_pause_s(record: LeaseRecord, losses: int, failure: Failure | None) -> float:
    """Return how long a slot waits for its next pod after that many losses; None: its pod was promoted."""
    harsh = failure is not None and (_delays(failure) or record.current_heartbeat is None)
    return backoff_s(losses if harsh else losses - FREE_LOSSES)


def repeated(failovers: Sequence[Mapping[str, Any]], rank: Rank, now: Now) -> int:
    """Count the rank's last primaries that were ended for such a cause, each soon after the one before.

    The kubelet gives its reason a second or two after the pod has handed over. A pod that was told to end for no
    known reason is therefore counted with those before it, until its reason is known: else the next pod would be made
    without a pause each time, before the count is right.
    """
    count, unknown, since = 0, 0, now.wall.timestamp()
    for entry in reversed([entry for entry in failovers if entry.get("rank") == rank]):
        try:
            at = datetime.fromisoformat(str(entry.get("promotedAt"))).timestamp()
        except ValueError:
            break
        cause = entry.get("cause")
        if (cause not in _REPEATING and cause != Cause.TERMINATED) or since - at >= LONG_LIFE_S:
            break
        if cause == Cause.TERMINATED:
            unknown += 1
        else:
            count, unknown = count + unknown + 1, 0
        since = at
    return count


def _lived_s(pod: Pod | None, at: float) -> float:
    """Return for how long a pod is known to have been there; 0 for one that is gone."""
    if pod is None:
        return 0.0
    ended_at = min(at if end is None else end for end in (pod.ending_since, pod.deleting_since))
    return ended_at - pod.seen_since


def _delays(failure: Failure) -> bool:
    return failure.application or failure.cause in _DELAYING


def backoff_s(failures: int) -> float:
    """Return how long to wait after this many failures: 0, 1, 2, 4 … 60 s."""
    if failures <= 0:
        return 0.0
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 16)))
