"""An operator that dies between any two actions, or in the midst of one, leaves nothing that the next cannot repair."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from understudy_contract.exits import ReleaseReason
from understudy_operator.core.actions import CreatePod, Promote

from tests.unit.operator.builders import PRIMARY, a_job
from tests.unit.operator.cluster import Cluster, end_container, release, second
from tests.unit.operator.turn import Turn, take_turn
from tests.unit.operator.world import World, delete, restart, sync

Fault = Callable[[Cluster], Cluster]


def start() -> Cluster:
    """A job that was just created."""
    return Cluster(World(a_job(ranks=2, redundancy=1)))


def run(cluster: Cluster, seconds: int) -> Cluster:
    """Let time pass with the operator at work."""
    for _ in range(seconds):
        cluster = second(cluster)
        world = sync(cluster.world)
        if world.memory.woken or world.at >= world.memory.wake_at:
            world = take_turn(world).world
        cluster = replace(cluster, world=world)
    return cluster


def nothing(cluster: Cluster) -> Cluster:
    return cluster


def force_delete(cluster: Cluster) -> Cluster:
    return replace(cluster, world=cluster.world.drop_pod(PRIMARY))


def delete_politely(cluster: Cluster) -> Cluster:
    return second(replace(cluster, world=delete(cluster.world, PRIMARY)))


def kill_agent(cluster: Cluster) -> Cluster:
    return end_container(cluster, PRIMARY, 137)


def kill_trainer(cluster: Cluster) -> Cluster:
    record = cluster.world.rank_lease(0)
    assert record is not None
    return release(cluster, record, cluster.world.pods[PRIMARY], ReleaseReason.PROCESS_EXITED, 137)


def lose_both(cluster: Cluster) -> Cluster:
    return replace(cluster, world=cluster.world.drop_pod(PRIMARY).drop_pod("digits-0-1"))


def at_work() -> Cluster:
    """A job whose ranks train, each with a warm redundant pod."""
    return run(replace(start(), world=take_turn(start().world).world), 20)


@pytest.mark.parametrize("torn", [False, True], ids=["between two actions", "in the midst of one"])
@pytest.mark.parametrize("fault", [force_delete, delete_politely, kill_agent, kill_trainer, lose_both, nothing])
def test_whatever_the_operator_died_in(fault: Fault, torn: bool) -> None:
    before = fault(start() if fault is nothing else at_work())
    before = replace(before, world=sync(before.world))
    whole = take_turn(before.world)
    for cut in range(len(whole.done)):
        turn = take_turn(before.world, cut_after=cut, torn=torn)
        assert turn.cut
        after = run(replace(before, world=restart(turn.world)), 40)
        assert_whole(after, f"cut after {cut} of {[type(a).__name__ for a in whole.done]}")


def assert_whole(cluster: Cluster, when: str) -> None:
    world = cluster.world
    for rank in range(2):
        record = world.rank_lease(rank)
        assert record is not None, when
        own = world.leases[f"digits-{rank}-s0"]
        names = [record.holder, own.holder]
        assert [world.pods[name].role for name in names] == ["primary", "redundant"], when
        assert world.pods[record.holder].term == record.term, when
        assert all(cluster.hears(world.pods[name]) for name in names), when
        living = [p.name for p in world.pods.values() if p.rank == rank and not p.ended]
        assert sorted(living) == sorted(names), when


def test_a_promotion_is_the_first_thing_done() -> None:
    world = sync(force_delete(at_work()).world)
    assert isinstance(take_turn(world).done[0], Promote)


def test_a_lease_names_every_pod_before_it_is_created() -> None:
    turn: Turn = take_turn(start().world)
    for count, action in enumerate(turn.done):
        if isinstance(action, CreatePod):
            cut = take_turn(start().world, cut_after=count).world
            assert action.name in {record.holder for record in cut.leases.values()}


def test_a_completion_that_is_told_later_than_the_pods_end_is_not_undone() -> None:
    cluster = at_work()
    record = cluster.world.rank_lease(0)
    assert record is not None
    cluster = release(cluster, record, cluster.world.pods[record.holder], ReleaseReason.COMPLETED, 0)
    turn = take_turn(sync(cluster.world, leases=False))  # the container has ended; of the release nothing is known yet
    assert not any(isinstance(action, Promote) for action in turn.done)
    after = turn.world.rank_lease(0)
    assert after is not None
    assert (after.term, after.holder) == (record.term, record.holder)
