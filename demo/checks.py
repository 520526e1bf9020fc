"""What must come true of each failover, and of the result. Times are never checked."""

import re
from typing import Final

from testbed import Testbed, TestbedError
from testbed.faults import Fault
from testbed.kube import parse_time
from testbed.measure import Failover

ACCURACY_MIN: Final = 0.97
LOG_ENDS_WITHIN_S: Final = 30
SAME_MOMENT_S: Final = 1e-3
"""The status repeats the worker's own time stamp; it may round it."""
_ACCURACY: Final = re.compile(r"test accuracy (0?\.\d+|1\.0*)")


def check(found: Failover, fault: Fault, save_every: int) -> None:
    """Raise TestbedError when a failover is not what it must be."""
    who = f"after the fault ({fault.title}) {found.new} took rank {found.rank} over from {found.old}, but"
    if found.cause != fault.cause:
        raise TestbedError(f"{who} the recorded cause is {found.cause}, not {fault.cause}")
    if found.cold:
        raise TestbedError(f"{who} it had to be started first: its redundant pod was not used")
    most = 0 if fault.lossless else save_every
    if not 0 <= found.lost_steps <= most:
        raise TestbedError(f"{who} {found.lost_steps} steps were lost, where at most {most} may be")
    status = found.status
    said, first_step_at = status.lost_steps, status.first_step_at
    if said is None or first_step_at is None:
        raise TestbedError(f"{who} the status does not say when it took its first step, or how many steps were lost")
    bound = bool(status.lost_steps_is_lower_bound)
    if said > found.lost_steps or (said != found.lost_steps and not bound):
        raise TestbedError(f"{who} the status says that {said} steps were lost, and the logs say {found.lost_steps}")
    if (status.source, status.target) != (found.old, found.new):
        raise TestbedError(f"{who} the status says {status.target} from {status.source}")
    if abs(parse_time(first_step_at) - found.at - found.took_s) > SAME_MOMENT_S:
        raise TestbedError(f"{who} the first step was not at {first_step_at}, as the status says")


def said_seconds(found: Failover) -> str:
    """Say how long the failover took by the status alone: from the failure as the operator dates it."""
    return f"{_since_failure_s(found, found.status.first_step_at):.2f}"


def said_by_status(found: Failover) -> str:
    """Repeat the status in words."""
    status = found.status
    decided = _since_failure_s(found, status.promoted_at)
    lost = f"{'at least ' if status.lost_steps_is_lower_bound else ''}{status.lost_steps} lost"
    return (
        f"{status.cause}, {status.source} → {status.target} at term {status.term}; "
        f"failure → promotion {decided:.2f} s → first step {said_seconds(found)} s; {lost}"
    )


def _since_failure_s(found: Failover, moment: str | None) -> float:
    failed_at = found.status.failed_at
    if moment is None or failed_at is None:
        raise TestbedError(f"the status lacks a moment of the failover of rank {found.rank} to {found.new}")
    return parse_time(moment) - parse_time(failed_at)


def accuracy(testbed: Testbed, pod: str, rank: int) -> str:
    """Return the line in which a rank's last primary says how well its model does; it must do well."""
    log = testbed.logs.of(pod)
    line = testbed.wait_until(
        lambda: log.find("test accuracy"), timeout_s=LOG_ENDS_WITHIN_S, what=f"the test accuracy in the log of {pod}"
    )
    found = _ACCURACY.search(line.text)
    if found is None or float(found[1]) < ACCURACY_MIN:
        raise TestbedError(f"rank {rank} has learnt too little: {line.text!r}, where {ACCURACY_MIN} is needed")
    return line.text
