"""The agent as a process, with a trainer of its own, against a real API server and with a worker's rights only."""

import os
import signal

import pytest
from understudy_contract.exits import ExitCode
from understudy_contract.names import Env
from understudy_contract.reports import Phase

from tests.integration.agent.world import World

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
