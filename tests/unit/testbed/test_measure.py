"""A failover is measured on the job that was broken, whatever an earlier job of its name has printed."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from understudy_contract.reports import Cause, Promotion
from understudy_contract.status import FailoverStatus, JobStatus

from testbed import measure
from testbed.faults import Fault
from testbed.logs import PodLog
from testbed.pods import Pod
from testbed.testbed import Testbed

FAULT_AT = 1767323045.0  # 03:04:05
PRIMARY = Pod("digits-0-0", "new", "node-1", "digits", 0, "primary", "Running", True, False, None, True, False, "")
PROMOTION = Promotion(
    term=2,
    source="digits-0-0",
    target="digits-0-1",
    cause=Cause.POD_DELETED,
    message="",
    failed_at="2026-01-02T03:04:05.100000Z",
    detected_at="2026-01-02T03:04:05.100000Z",
    promoted_at="2026-01-02T03:04:05.200000Z",
    known_step=7,
    known_step_exact=True,
)


def log(pod: str, uid: str, *lines: str) -> PodLog:
    found = PodLog(pod, uid, 0)
    for line in lines:
        found.add(f"2026-01-02T{line}", 0.0)
    found.ended = True
    return found


def test_steps_of_an_earlier_job_of_the_same_name_are_not_taken_for_the_failover() -> None:
    earlier = log("digits-0-2", "old", "02:00:00.0Z step 6000/6000 3.0 ms/step term 3")
    old = log("digits-0-0", "new", "03:04:04.9Z step 7/6000 3.0 ms/step term 1")
    new = log(
        "digits-0-1",
        "newer",
        "03:04:05.3Z resuming from step 7 of term 1 as primary of term 2",
        "03:04:05.5Z step 8/6000 3.0 ms/step term 2",
    )

    def wait_until(look: Callable[[], Any], *, timeout_s: float, what: str) -> Any:
        found = look()
        assert found, f"waited in vain for {what}"
        return found

    testbed = SimpleNamespace(
        world=SimpleNamespace(
            rank=lambda job, rank: SimpleNamespace(term=1),
            leases={"digits-0": SimpleNamespace(promotion=PROMOTION)},
            lease_change=lambda *_, **__: None,
        ),
        logs=SimpleNamespace(all=lambda: (earlier, old, new), of=lambda pod: old),
        primary=lambda job, rank: PRIMARY,
        status=lambda job: JobStatus(
            failovers=(FailoverStatus(rank=0, term=2, promoted_at=PROMOTION.promoted_at, first_step_at=""),)
        ),
        wait_until=wait_until,
    )
    fault = Fault("any", "a fault", Cause.POD_DELETED, lambda testbed, pod: lambda: FAULT_AT, 1.0)
    found = measure.failover(cast(Testbed, testbed), "digits", 0, fault)
    assert (found.new, found.term, found.lost_steps, round(found.took_s, 1)) == ("digits-0-1", 2, 0, 0.5)
