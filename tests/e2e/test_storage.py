"""Storage that is slow, fails, goes away and returns, or is written to by a writer of an old term: no state is lost."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import Testbed, faults
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

JOB = "stored"
SAVE_EVERY = 20


@pytest.fixture
def stored(bed: Testbed) -> Testbed:
    """A job at work, with a lease of 4 s."""
    bed.apply(jobs.job(JOB, lease_s=4, hand_over_s=60, arguments={"save_every": SAVE_EVERY, "pace": 0.02}))
    bed.wait_settled(JOB)
    return bed


@pytest.fixture
def spoiled(stored: Testbed, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file at the root of the volume, named by the test's parameter, that spoils every fsync of the trainers."""
    flag = stored.cluster.volume_folder(stored.namespace, f"{JOB}-checkpoints") / str(request.param)
    flag.touch()
    yield flag
    flag.unlink(missing_ok=True)


def saved(bed: Testbed) -> int:
    """Step of the newest checkpoint on the volume."""
    found = see.checkpoints(see.rank_folder(bed, JOB))
    return int(found[0].name.removeprefix("step-"))


def wait_saved_above(bed: Testbed, step: int) -> None:
    """Wait until the primary reports a checkpoint above this step."""
    lease = f"{JOB}-0"
    bed.wait_until(
        lambda: bed.world.leases[lease].floor_step > step, timeout_s=see.WAIT_S, what=f"a save above step {step}"
    )


def ends_as_undisturbed(bed: Testbed) -> None:
    """End the training; its final state is that of a run to which nothing happened, bit for bit."""
    jobs.finish(bed, JOB)
    see.wait_phase(bed, JOB, "Succeeded")
    disturbed = see.newest(see.rank_folder(bed, JOB))
    bed.apply(jobs.job("calm", redundancy=0, arguments={"steps": disturbed.step, "pace": 0, "log_every": 1000}))
    see.wait_phase(bed, "calm", "Succeeded")
    calm = see.newest(see.rank_folder(bed, "calm"))
    assert (calm.step, calm.tensors) == (disturbed.step, disturbed.tensors)
    assert calm.state == disturbed.state


@pytest.mark.parametrize("spoiled", ["slow"], indirect=True)
def test_a_volume_that_takes_two_seconds_for_each_fsync_slows_saves_and_not_steps(
    stored: Testbed, spoiled: Path
) -> None:
    log = stored.logs.of(stored.primary(JOB, 0).name)
    floor = saved(stored)
    wait_saved_above(stored, floor)
    began = log.steps[-1].step
    wait_saved_above(stored, saved(stored))
    assert log.steps[-1].step > began + SAVE_EVERY, "it trains while it saves"
    (before,) = stored.wait_settled(JOB)
    stored.delete_pod(stored.primary(JOB, 0).name)
    (failover,) = see.told(stored, JOB)
    assert (failover.cause, failover.lost_steps, failover.term) == ("PodDeleted", 0, before.term + 1)
    spoiled.unlink()
    ends_as_undisturbed(stored)


@pytest.mark.parametrize("spoiled", ["failing"], indirect=True)
def test_a_storage_that_fails_stops_no_training_and_says_so(stored: Testbed, spoiled: Path) -> None:
    log = stored.logs.of(stored.primary(JOB, 0).name)
    message = see.wait_event(stored, JOB, "CheckpointFailed", log.pod)
    assert "the storage failed (Input/output error)" in message
    goal = log.steps[-1].step + 3 * SAVE_EVERY
    stored.wait_until(lambda: log.steps[-1].step >= goal, timeout_s=see.WAIT_S, what="steps on a failing storage")
    spoiled.unlink()
    wait_saved_above(stored, goal)
    assert stored.status(JOB).failover_count == 0
    ends_as_undisturbed(stored)


def test_checkpoints_that_vanish_and_return_are_waited_for_and_gone_on_from(stored: Testbed) -> None:
    wait_saved_above(stored, 3 * SAVE_EVERY)
    folder = see.rank_folder(stored, JOB)
    hidden = folder.with_name("hidden")
    old = stored.primary(JOB, 0)
    redundant = next(pod for pod in stored.world.pods.values() if pod.role == "redundant")
    floor = stored.world.leases[f"{JOB}-0"].floor_step
    folder.rename(hidden)
    for pod in (redundant, old):  # so that nobody has the state in memory
        stored.delete_pod(pod.name, grace_s=0)
    see.wait_condition(stored, JOB, "Training", "volume", status="False")
    see.wait_event(stored, JOB, "ColdStart")
    hidden.rename(folder)
    stored.wait_settled(JOB)
    assert saved(stored) >= floor
    log = stored.log_text(stored.primary(JOB, 0).name)
    assert int(log.partition("resuming from step ")[2].split()[0]) >= floor
    see.wait_phase(stored, JOB, "Running")
    ends_as_undisturbed(stored)


def test_a_stale_writer_that_wakes_up_and_commits_after_its_successor_has_saved_changes_nothing(bed: Testbed) -> None:
    """It stood still between its last look at the volume and the rename that makes a checkpoint visible."""
    checkpoint = {**jobs.SHARED, "keep": 100}  # or its folder might be gone by then
    arguments = {"save_every": SAVE_EVERY, "pace": 0.02}
    bed.apply(jobs.job(JOB, lease_s=4, checkpoint=checkpoint, arguments=arguments))
    (before,) = bed.wait_settled(JOB)
    old = bed.primary(JOB, 0)
    stale = see.rank_folder(bed, JOB) / f"term-{before.term}-{old.uid}"
    held = bed.cluster.volume_folder(bed.namespace, f"{JOB}-checkpoints") / f"held-{old.name}"
    agent, trainer = faults.agent_and_trainer(bed, old)
    held.touch()
    held.chmod(0o666)  # the trainer is another user
    name = bed.wait_until(held.read_text, timeout_s=see.WAIT_S, what="a save that is complete but for its rename")
    for process in (agent, trainer):
        bed.cluster.send_signal(process, signal.SIGSTOP)
    bed.wait_until(
        lambda: bed.world.rank(JOB, 0).term == before.term + 1 and bed.world.rank(JOB, 0).training,
        timeout_s=see.WAIT_S,
        what="the promotion",
    )
    wait_saved_above(bed, int(name.removeprefix("step-")))
    assert not (stale / name).exists()
    held.unlink()
    bed.cluster.send_signal(trainer, signal.SIGCONT)
    bed.wait_until((stale / name).exists, timeout_s=see.WAIT_S, what=f"the stale commit of {name}")
    bed.cluster.send_signal(agent, signal.SIGCONT)
    bed.wait_until(lambda: old.uid in bed.world.pods_gone, timeout_s=see.WAIT_S, what="the end of the old pod")
    see.wait_event(bed, JOB, "Promoted", old.name, "did not renew its Lease for 4 s")
    (after,) = bed.wait_settled(JOB)
    assert after.term == before.term + 1
    bed.delete_pod(bed.primary(JOB, 0).name, grace_s=0)  # its successor chooses what to go on from
    bed.wait_until(lambda: bed.world.rank(JOB, 0).term == after.term + 1, timeout_s=see.WAIT_S, what="the next")
    ends_as_undisturbed(bed)


def test_a_redundant_pod_that_sees_another_volume_says_so_and_is_warm_once_it_sees_the_right_one(
    stored: Testbed,
) -> None:
    label = see.rank_folder(stored, JOB) / "VOLUME"
    right = label.read_text()
    log = stored.logs.of(stored.primary(JOB, 0).name)
    redundant = next(pod for pod in stored.world.pods.values() if pod.role == "redundant")
    label.write_text(right.strip()[::-1] + "\n")
    stored.delete_pod(redundant.name, grace_s=0)
    message = see.wait_event(stored, JOB, "VolumeMismatch")
    assert f"the primary trains on volume {right.strip()}, this pod sees volume {right.strip()[::-1]}" in message
    see.wait_condition(stored, JOB, "Redundant", "0 of 1")
    goal = log.steps[-1].step + 3 * SAVE_EVERY
    stored.wait_until(lambda: log.steps[-1].step >= goal, timeout_s=see.WAIT_S, what="steps of the primary")
    assert not stored.world.rank(JOB, 0).redundant
    label.write_text(right)
    stored.wait_settled(JOB)
    faults.KILL_TRAINER.aim(stored, stored.primary(JOB, 0))()
    see.told(stored, JOB)
    stored.wait_settled(JOB)
    assert [(e.cause, e.cold) for e in stored.status(JOB).failovers] == [("ProcessExited", False)]
    ends_as_undisturbed(stored)
