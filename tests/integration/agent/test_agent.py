"""The agent as a process, with a trainer of its own, against a real API server and with a worker's rights only."""

import os
import signal
import sys

import pytest
from understudy_contract.exits import ExitCode
from understudy_contract.names import Env
from understudy_contract.reports import Phase

from tests.integration.agent.world import TRAINER, World

pytestmark = pytest.mark.cluster
RANK, SLOT = "job-0", "job-0-s0"


async def test_a_primary_trains_reports_and_completes(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step 1 of term 1")
    record = await world.until(RANK, lambda lease: lease.floor_step >= 10)
    beat = record.current_heartbeat
    assert beat is not None and beat.phase is Phase.TRAINING and beat.first_step is not None
    assert (beat.first_step.step, beat.volume) == (1, "volume-1")
    assert "threads 2" in await agent.prints("pid ")
    agent.order("finish")
    assert await agent.exits() == 0
    record = await world.read(RANK)
    assert record.current_release is not None and record.current_release.reason == "Completed"
    assert record.heartbeat is not None
    assert (record.heartbeat.phase, record.heartbeat.model) == (Phase.FINISHING, "final/model.keras")


async def test_a_redundant_pod_follows_and_takes_over_from_the_floor(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    await world.lease(SLOT, "job-0-1")
    first = await world.agent("job-0-0")
    second = await world.agent("job-0-1", slot=0)
    await world.until(
        SLOT, lambda lease: lease.heartbeat and lease.heartbeat.loaded and lease.heartbeat.loaded.step >= 10
    )
    os.kill(await first.trainer_pid(), signal.SIGKILL)
    released = await world.until(RANK, lambda lease: lease.current_release)
    assert released.release is not None
    assert (released.release.reason, released.release.exit_code) == ("ProcessExited", 137)
    assert await first.exits() == 137
    await world.promote(RANK, "job-0-1", 2)
    await second.prints(f"first step {released.floor_step + 1} of term 2")
    record = await world.until(RANK, lambda lease: lease.current_heartbeat and lease.current_heartbeat.first_step)
    assert record.floor is not None and record.floor.term == 2
    slot = (await world.read(SLOT)).resource_version
    await world.until(RANK, lambda lease: lease.floor_step >= released.floor_step + 100)
    assert (await world.read(SLOT)).resource_version == slot, "a promoted pod renews its slot no more"


async def test_a_notice_of_300_kb_is_cut_and_cleaned_and_costs_no_renewal(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step 1 of term 1")
    agent.order("boast")
    noted = await world.until(RANK, lambda lease: lease.notice)
    assert noted.notice is not None
    assert noted.notice.message.startswith("no room no room ")
    await world.until(RANK, lambda lease: lease.floor_step >= noted.floor_step + 100)
    agent.order("finish")
    assert await agent.exits() == 0


async def test_sigterm_becomes_a_hand_over_without_a_lost_step(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step")
    agent.process.terminate()
    assert await agent.exits() == ExitCode.HANDED_OVER
    step = int((await agent.prints("handed over ")).rsplit(" ", 1)[1])
    record = await world.read(RANK)
    assert record.current_release is not None and record.current_release.reason == "HandedOver"
    assert record.heartbeat is not None and record.heartbeat.step == step == record.floor_step


async def test_after_the_hand_over_the_script_may_work_on_while_the_lease_is_free(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step")
    agent.order("linger")
    agent.process.terminate()
    await world.until(RANK, lambda lease: lease.current_release and lease.current_release.reason == "HandedOver")
    await agent.prints("uploaded part 40;")
    agent.order("end")
    assert await agent.exits() == ExitCode.HANDED_OVER


async def test_a_script_that_works_on_is_killed_at_the_end_of_the_grace_period(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0", UNDERSTUDY_HAND_OVER_S="1", UNDERSTUDY_GRACE_S="4")
    await agent.prints("first step")
    agent.order("linger")
    agent.process.terminate()
    assert await agent.exits() == ExitCode.HANDED_OVER
    await agent.prints("the trainer has not ended: killing it")


async def test_a_script_that_lives_on_after_its_training_is_ended_and_complete(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0", UNDERSTUDY_END_S="1")
    await agent.prints("first step")
    agent.order("outlive")
    assert await agent.exits() == 0
    record = await world.read(RANK)
    assert record.current_release is not None and record.current_release.reason == "Completed"
    assert "ended by the agent after 1 s (endDeadlineSeconds)" in record.current_release.message
    assert record.notice is not None and record.notice.reason == "ScriptEnded"


async def test_a_trainer_that_does_not_hand_over_in_time_is_killed(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0", UNDERSTUDY_HAND_OVER_S="0.5")
    await agent.prints("first step")
    agent.order("hang")
    agent.process.terminate()
    assert await agent.exits() == 137
    record = await world.read(RANK)
    assert record.current_release is not None and "no hand-over within 0.5 s" in record.current_release.message


async def test_pods_in_one_network_are_each_ready_by_their_own_state_and_serve_no_port(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    await world.lease(SLOT, "job-0-1")
    shared = {Env.SERVE_PROBES: "false"}
    spare = await world.agent("job-0-1", slot=0, **shared)
    await spare.prints("pid ")
    assert not spare.ready, "there is nothing to load yet"
    primary = await world.agent("job-0-0", **shared)
    await world.until(RANK, lambda lease: lease.current_heartbeat and lease.current_heartbeat.first_step)
    assert primary.ready
    await world.until(SLOT, lambda lease: lease.heartbeat and lease.heartbeat.phase is Phase.READY)
    assert [agent.ready for agent in (primary, spare)] == [True, True]
    assert [agent.listens for agent in (primary, spare)] == [False, False]
    primary.process.terminate()
    await primary.exits()
    assert [agent.ready for agent in (primary, spare)] == [False, True]


async def test_a_redundant_pod_ends_at_once_on_sigterm(world: World) -> None:
    await world.lease(RANK, "job-0-9")
    await world.lease(SLOT, "job-0-1")
    agent = await world.agent("job-0-1", slot=0)
    await world.until(SLOT, lambda lease: lease.heartbeat and lease.heartbeat.phase is Phase.READY)
    agent.process.terminate()
    assert await agent.exits() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(await agent.trainer_pid(), 0)


async def test_a_superseded_primary_stops(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step")
    await world.promote(RANK, "job-0-7", 2)
    assert await agent.exits() == ExitCode.SUPERSEDED
    assert "heard Supersede(term=2)" in agent.log
    assert (await world.read(RANK)).current_release is None


async def test_a_failing_trainer_leaves_its_last_words(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step")
    agent.order("fail")
    assert await agent.exits() == 1
    record = await world.read(RANK)
    assert record.current_release is not None
    assert record.current_release.message == "batch(step=7) raised ValueError"


async def test_a_trainer_that_fails_and_lives_on_is_ended_with_its_last_words(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step")
    agent.order("stay")
    assert await agent.exits() == 1
    record = await world.read(RANK)
    assert record.current_release is not None and record.current_release.reason == "ProcessExited"
    assert record.current_release.message.startswith("batch(step=7) raised ValueError; its process did not end")


async def test_a_failure_in_a_pipe_is_one_although_the_shell_exits_0(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0", command=("sh", "-c", f"{sys.executable} {TRAINER} | cat"))
    await agent.prints("first step")
    agent.order("fail")
    assert await agent.exits() == 1
    record = await world.read(RANK)
    assert record.current_release is not None
    assert record.current_release.message == "batch(step=7) raised ValueError"


async def test_a_trainer_that_a_launcher_starts_again_goes_on_and_each_failure_is_told(
    world: World,
) -> None:
    await world.lease(RANK, "job-0-0")
    loop = f"until {sys.executable} {TRAINER}; do echo again; done"
    agent = await world.agent("job-0-0", command=("sh", "-c", loop))
    before = await world.until(RANK, lambda lease: lease.floor_step >= 10)
    agent.order("fail")
    record = await world.until(RANK, lambda lease: lease.heartbeat and lease.heartbeat.failures >= 3)
    beat = record.current_heartbeat
    assert beat is not None and (record.term, beat.last_failure) == (1, "batch(step=7) raised ValueError")
    assert record.floor_step >= before.floor_step, "it stays while the trainer is started again"
    assert record.notice is not None and record.notice.reason == "TrainerRestarted"
    agent.order("none")
    await world.until(RANK, lambda lease: lease.floor_step > record.floor_step and lease.heartbeat.failures == 0)  # type: ignore[union-attr]
    os.kill(int(agent.log.split("pid ")[-1].split()[0]), signal.SIGKILL)
    record = await world.until(RANK, lambda lease: lease.heartbeat and lease.heartbeat.failures == 1)
    assert record.heartbeat is not None and "without a word" in str(record.heartbeat.last_failure)
    agent.order("finish")
    assert await agent.exits() == 0
    released = (await world.read(RANK)).current_release
    assert released is not None and released.reason == "Completed"


async def test_a_launcher_that_starts_a_failing_trainer_for_ever_is_ended_with_the_last_failure(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    loop = f"until {sys.executable} {TRAINER}; do echo again; done"
    agent = await world.agent("job-0-0", command=("sh", "-c", loop), UNDERSTUDY_MAX_FAILURES="3")
    await agent.prints("first step")
    agent.order("fail")
    assert await agent.exits() == 1
    record = await world.read(RANK)
    assert record.current_heartbeat is not None and record.current_heartbeat.failures == 2
    assert record.current_release is not None and record.current_release.message == (
        "batch(step=7) raised ValueError; its launcher started it again, after 3 failures without progress: killed by "
        "the agent"
    )


@pytest.mark.parametrize(("mode", "code"), [("exit:0", ExitCode.NOT_INTEGRATED), ("exit:3", 3)])
async def test_a_script_that_does_not_use_understudy_is_told_so(world: World, mode: str, code: int) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0", mode)
    assert await agent.exits() == code
    record = await world.read(RANK)
    assert record.current_release is not None and record.current_release.reason == "NotIntegrated"


async def test_a_primary_whose_lease_vanished_trains_on_until_it_is_back(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0")
    await agent.prints("first step")
    await world.api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{world.namespace}/leases/{RANK}")
    await agent.prints("could not be renewed")
    await world.lease(RANK, "job-0-0", term=5)
    await agent.prints("is renewed again")
    record = await world.until(RANK, lambda lease: lease.current_heartbeat)
    assert record.term == 5 and agent.process.returncode is None


async def test_the_environment_decides_before_anything_is_started(world: World) -> None:
    agent = await world.agent("job-0-0", UNDERSTUDY_RANK="")
    assert await agent.exits() == ExitCode.MISCONFIGURED
    assert "UNDERSTUDY_RANK not set" in agent.log


async def test_a_command_that_does_not_exist_is_named(world: World) -> None:
    await world.lease(RANK, "job-0-0")
    agent = await world.agent("job-0-0", command=("no-such-program",))
    assert await agent.exits() == 127
    record = await world.read(RANK)
    assert record.current_release is not None
    assert "no-such-program cannot be started: No such file or directory" in record.current_release.message
