"""The operator's turn in the tiny world: observe, decide, act until nothing is left to do, as the reconciler does."""

from dataclasses import dataclass

from understudy_contract.reports import Phase
from understudy_operator.core.actions import Action, Emit, Promote
from understudy_operator.core.decide import decide

from tests.unit.operator.apply import ConflictError, apply
from tests.unit.operator.world import World, observe, sync


@dataclass(frozen=True)
class Turn:
    """What came of a turn."""

    world: World
    done: tuple[Action, ...]
    """Actions that succeeded, in order; for a turn cut short, those before the cut."""
    cut: bool


class HotLoopError(AssertionError):
    """The operator does not come to rest although nothing happens."""


def bound(world: World) -> int:
    """Cycles in which the operator must come to rest while nothing else happens."""
    return 8 + 4 * world.job.policy.ranks * (world.job.policy.redundancy + 1)


def take_turn(world: World, *, cut_after: int | None = None, torn: bool = False) -> Turn:
    """Act until at rest, or until the process dies after `cut_after` actions (`torn`: in the midst of the next)."""
    done: list[Action] = []
    for _ in range(bound(world)):
        observation = observe(world)
        decision = decide(observation, world.now)
        assert decision == decide(observation, world.now), "equal observations must give equal decisions"
        emitted = world.memory.emitted
        todo: list[Action] = list(decision.promotions) or [
            a for a in decision.rest if not (isinstance(a, Emit) and a.key in emitted)
        ]
        if not todo:
            assert decision.wake_at > world.at, f"nothing to do, and yet awake at {decision.wake_at} of {world.at}"
            return Turn(world.remember(woken=False, wake_at=decision.wake_at), tuple(done), cut=False)
        for action in todo:
            if cut_after is not None and len(done) >= cut_after:
                return Turn(apply_torn(world, action) if torn else world, tuple(done), cut=True)
            try:
                check(world, action)
                world = apply(world, action)
            except ConflictError:
                world = sync(world)
                break
            done.append(action)
    raise HotLoopError(f"still busy after {bound(world)} cycles; last: {[type(a).__name__ for a in done[-12:]]}")


def apply_torn(world: World, action: Action) -> World:
    """Die in the midst of an action."""
    try:
        return apply(world, action, torn=True)
    except ConflictError:
        return world


def check(world: World, action: Action) -> None:
    """Refuse a promotion of a rank whose primary is plainly at work: it runs, renews, nobody deleted it."""
    if not isinstance(action, Promote):
        return
    record = world.leases.get(action.lease.name)
    if record is None or record.resource_version != action.lease.resource_version:
        return  # refused by the API
    assert action.term == record.term + 1, "a promotion raises the term by one"
    pod = world.pods.get(record.holder)
    silent_s = world.at - world.memory.renewed_at[record.name]
    at_work = record.current_heartbeat is not None and record.current_heartbeat.phase is Phase.TRAINING
    if pod is None or pod.ended or pod.deleting_since is not None or record.release is not None:
        return
    assert not (at_work and silent_s < record.duration_s), (
        f"{record.holder} renewed {silent_s} s ago and was replaced: {action.promotion}"
    )
