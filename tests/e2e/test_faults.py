"""Every way to lose a primary, one after another, on one job; and then its final state, against an undisturbed run.

Each fault comes in the middle between two saves, so that a step can be lost and none from before the last checkpoint.
"""

from collections.abc import Iterator

import pytest
from understudy_contract.names import Annotation, Label

from testbed import Testbed, faults, measure, placement
from testbed.faults import Fault
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB, CALM = "ward", "calm"
SAVE_EVERY = 100
LEASE_S = 6
"""As short as a crowded machine allows: the two faults of a node are noticed by nothing else."""
FAULTS = (
    faults.DELETE,
    faults.FORCE_DELETE,
    faults.KILL_TRAINER,
    faults.KILL_AGENT,
    faults.POWER_CUT,
    faults.PARTITION,
)
KEPT = (faults.KILL_TRAINER, faults.KILL_AGENT)
"""The old pod has ended by itself: it is kept, so that its log can be read."""
TRAINING_GOES_ON_WITHIN_S = 180


@pytest.fixture(scope="module")
def ward(module_bed: Testbed) -> Testbed:
    """The job, at work: one rank, its redundant pod on the other node."""
    module_bed.apply(jobs.job(JOB, lease_s=LEASE_S, arguments={"save_every": SAVE_EVERY, "pace": 0.02}))
    module_bed.wait_settled(JOB)
    return module_bed


@pytest.fixture
def undo(ward: Testbed) -> Iterator[list[tuple[Fault, str]]]:
    """Faults that are to be undone, and on which node, whatever becomes of the test."""
    broken: list[tuple[Fault, str]] = []
    yield broken
    for fault, node in broken:
        fault.undo(ward, node)


def wait_mid_interval(testbed: Testbed) -> None:
    """Return at a step well after a save and well before the next, when the first is committed."""
    log = testbed.logs.of(testbed.primary(JOB, 0).name)
    folder = see.rank_folder(testbed, JOB)

    def amid() -> bool:
        past, after = divmod(log.steps[-1].step if log.steps else 0, SAVE_EVERY)
        return 20 <= after <= 60 and see.checkpoints(folder)[0].name == f"step-{past * SAVE_EVERY}"

    testbed.wait_until(amid, timeout_s=TRAINING_GOES_ON_WITHIN_S, what="a step amid two checkpoints")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_redundant_pod_trains_on_after(fault: Fault, ward: Testbed, undo: list[tuple[Fault, str]]) -> None:
    if fault.node:
        placement.expose(ward, JOB, 0)
    (before,) = ward.wait_settled(JOB)
    old = ward.primary(JOB, 0)
    wait_mid_interval(ward)
    if fault.node:
        undo.append((fault, old.node))
    seen = measure.failover(ward, JOB, 0, fault)

    assert (seen.cause, seen.status.cause, seen.cold) == (fault.cause, fault.cause, False)
    assert (seen.term, seen.old) == (before.term + 1, old.name)
    assert seen.new in {pod.name for pod in before.redundant}
    assert (seen.status.source, seen.status.target, seen.status.term) == (seen.old, seen.new, seen.term)
    steps_lost_are_told(fault, seen)
    message = see.wait_event(ward, JOB, "Promoted", f"Promoted {seen.new} (term {seen.term})")
    assert seen.old in message

    assert_labels(ward, seen)
    see.wait_endpoints(ward, JOB, {seen.new})
    if fault in KEPT:
        kept = see.pod(ward, old.name)
        assert "deletionTimestamp" not in kept["metadata"], "an ended pod is kept for its log"
        assert f"step {seen.last_step}/" in ward.log_text(old.name)
    elif fault.node:
        assert "deletionTimestamp" in see.pod(ward, old.name)["metadata"], "one that may still run is deleted"
        undo.pop()
        fault.undo(ward, old.node)
    if fault not in KEPT:
        gone = f"the end of pod {old.name}"
        ward.wait_until(lambda: old.uid in ward.world.pods_gone, timeout_s=see.WAIT_S, what=gone)
    (after,) = ward.wait_settled(JOB)
    assert (after.term, after.primary and after.primary.name) == (seen.term, seen.new), "one fault, one promotion"
    status = see.wait_phase(ward, JOB, "Running")
    assert (status.redundant, status.ranks[0].primary) == ("1/1", seen.new)


def steps_lost_are_told(fault: Fault, seen: measure.Failover) -> None:
    """Compare the status with the truth: what the old primary printed, and what the new one resumed from."""
    told, bound = seen.status.lost_steps, bool(seen.status.lost_steps_is_lower_bound)
    if fault.lossless:
        assert (seen.lost_steps, told, bound) == (0, 0, False)
        return
    assert seen.lost_steps <= SAVE_EVERY
    if fault.runs_on:
        # It may have saved, or even handed over, after the fault was sent and before it took effect.
        assert 0 <= told <= max(0, seen.lost_steps) + 1
        return
    assert seen.lost_steps > 0, "the fault came amid two saves"
    if fault is faults.KILL_TRAINER:
        assert not bound, "the agent outlived the trainer and knows its last step"
        # The step is counted before its line is printed: the trainer may have died in between.
        assert seen.lost_steps <= told <= seen.lost_steps + 1
    else:
        assert bound, "nobody knows what the old primary did after its last report"
        assert 0 <= told <= seen.lost_steps + 1


def assert_labels(testbed: Testbed, seen: measure.Failover) -> None:
    """One pod is labelled primary, with its term; the old one is labelled nothing."""
    testbed.wait_until(
        lambda: [p.name for p in testbed.world.pods.values() if p.job == JOB and p.role == "primary"] == [seen.new],
        timeout_s=see.WAIT_S,
        what="the role label to be on the new primary alone",
    )
    new = see.pod(testbed, seen.new)["metadata"]
    assert (new["labels"][Label.ROLE], new["annotations"][Annotation.TERM]) == ("primary", str(seen.term))


def test_after_all_these_the_final_state_is_that_of_an_undisturbed_run_bit_for_bit(ward: Testbed) -> None:
    jobs.finish(ward, JOB)
    done = see.wait_phase(ward, JOB, "Succeeded")
    assert done.failover_count >= len(FAULTS)
    disturbed = see.newest(see.rank_folder(ward, JOB))
    assert disturbed.term == done.ranks[0].term
    ward.apply(jobs.job(CALM, redundancy=0, arguments={"steps": disturbed.step, "pace": 0, "log_every": 1000}))
    assert see.wait_phase(ward, CALM, "Succeeded").failover_count == 0
    calm = see.newest(see.rank_folder(ward, CALM))
    assert calm.step == disturbed.step
    assert calm.tensors == disturbed.tensors
    assert calm.state == disturbed.state


def test_failovers_are_listed_in_their_order_each_with_its_cause(ward: Testbed) -> None:
    status = ward.status(JOB)
    listed = status.failovers
    assert [entry.term for entry in listed] == list(range(2, len(listed) + 2))
    assert status.failover_count == len(listed)
    # Pods that were moved to expose the primary of a node were deleted, too.
    others = [entry.cause for entry in listed if entry.cause != "PodDeleted"]
    assert others == [fault.cause for fault in FAULTS if fault.cause != "PodDeleted"]
    assert status.restarts == 0, "there was a warm pod each time"
