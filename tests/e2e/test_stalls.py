"""A trainer that lives and does nothing, while its agent renews: it is replaced as one that died is."""

import pytest
from understudy_contract.reports import Cause

from testbed import Testbed, faults, measure
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

SAVE_EVERY = 50
DEADLINES = {"leaseDurationSeconds": 15, "progressDeadlineSeconds": 5, "startupDeadlineSeconds": 120}


def test_a_trainer_that_was_stopped_is_replaced_after_its_deadline(bed: Testbed) -> None:
    bed.apply(jobs.job("frozen", failover=DEADLINES, arguments={"save_every": SAVE_EVERY, "pace": 0.02}))
    bed.wait_settled("frozen")
    found = measure.failover(bed, "frozen", 0, faults.FREEZE_TRAINER)
    assert (found.cause, found.cold) == (Cause.STALLED, False)
    assert 0 <= found.lost_steps <= SAVE_EVERY
    assert "no progress for 5 s (progressDeadlineSeconds) after step" in found.status.message
    assert found.status.lost_steps == found.lost_steps and found.status.lost_steps_is_lower_bound is None
    bed.wait_settled("frozen")
    jobs.finish(bed, "frozen")
    see.wait_phase(bed, "frozen", "Succeeded")


def test_a_deadlock_within_a_batch_is_a_stall_and_training_goes_on_after_it(bed: Testbed) -> None:
    arguments = {"save_every": SAVE_EVERY, "pace": 0.02, "hang_at": 170, "steps": 400}
    bed.apply(jobs.job("locked", failover=DEADLINES, arguments=arguments))
    status = see.wait_phase(bed, "locked", "Succeeded")
    (failover,) = status.failovers
    assert (failover.cause, failover.lost_steps) == ("Stalled", 20)
    assert "after step 170" in failover.message
    assert status.ranks[0].step == 400
