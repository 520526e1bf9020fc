"""Faults of trainers and of the volume that they write."""

import errno
import os
from typing import TYPE_CHECKING, Any

from tests.simulation.spans import span
from tests.simulation.worker import Container

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


def container_stands_still(sim: "Simulation") -> None:
    """A container, or its trainer alone, is stopped for a while."""
    if (container := _some_container(sim)) is None:
        return
    seconds, whole = span(sim), sim.random.random() < 0.6
    sim.say("fault", f"{container.name}: {'all of it' if whole else 'its trainer'} stands still for {seconds:.1f} s")
    stopped: Any = container if whole else container.program
    stopped.pause()
    sim.timeline.after(seconds, stopped.resume)


def trainer_dies(sim: "Simulation") -> None:
    """A trainer is killed, or its whole container."""
    if (container := _some_container(sim)) is not None:
        if sim.random.random() < 0.6:
            sim.say("fault", f"the trainer of {container.name} dies")
            container.kill_trainer(sim.random.choice((1, 137)))
        else:
            sim.say("fault", f"{container.name} dies")
            container.kill()


def trainer_is_held_between_two_calls(sim: "Simulation") -> None:
    """A trainer stands still before a call to the file system, for up to minutes: longer than its term may last."""

    def hold() -> float:
        seconds = sim.random.choice((0.5, 5.0, 20.0, 60.0, 120.0))
        sim.say("fault", f"{container.name} stands still for {seconds:g} s before {container.call}")
        sim.invariants.ledger.look_at_volume()
        return seconds

    if (container := _some_container(sim)) is not None:
        container.program.interrupt(sim.random.randint(1, 80), hold)


def trainer_dies_between_two_calls(sim: "Simulation") -> None:
    """A trainer is killed before a call to the file system."""

    def die() -> None:
        sim.say("fault", f"the trainer of {container.name} dies before {container.call}")

    if (container := _some_container(sim)) is not None:
        container.program.interrupt(sim.random.randint(1, 80), die)


def call_fails(sim: "Simulation") -> None:
    """A call to the file system fails, once."""

    def fail() -> float:
        number = sim.random.choice((errno.EIO, errno.ENOSPC, errno.ESTALE))
        sim.say("fault", f"{container.name}: {container.call} fails with {errno.errorcode[number]}")
        raise OSError(number, os.strerror(number))

    if (container := _some_container(sim)) is not None:
        container.program.interrupt(sim.random.randint(1, 80), fail)


def requests_are_repeated(sim: "Simulation") -> None:
    """For a while, folders are made by requests that the volume's clients send twice."""
    seconds = span(sim)
    sim.say("fault", f"mkdir is sent twice for {seconds:.1f} s")
    sim.sent_twice_until = sim.timeline.now + seconds


def checkpoint_is_damaged(sim: "Simulation") -> None:
    """Bytes of the newest checkpoint of a rank change behind everybody's back."""
    sim.damage(sim.random.randrange(sim.plan.ranks), whole_term=False)


def newest_term_is_damaged(sim: "Simulation") -> None:
    """All that the newest term of a rank holds is damaged, and then its primary dies."""
    damage_newest_term(sim, sim.random.randrange(sim.plan.ranks))


def damage_newest_term(sim: "Simulation", rank: int) -> None:
    """Damage the newest term of this rank."""
    sim.damage(rank, whole_term=True)
    for container in sim.containers():
        if container.context.rank == rank and container.is_primary:
            sim.say("fault", f"{container.name} dies")
            container.kill()


def superseded_primary_goes_on(sim: "Simulation") -> None:
    """A primary that only the API server has lost commits on; then the term of its successor is damaged."""
    rank = sim.random.randrange(sim.plan.ranks)
    for node in sim.nodes:
        primaries = [c for c in node.containers.values() if c.context.rank == rank and c.is_primary]
        if any(container.code is None for container in primaries):
            sim.say("fault", f"{node.name} is cut off for 45 s")
            node.link.cut()
            sim.cluster.silent(node)
            sim.timeline.after(45.0, node.link.mend)
            _damage_once_both_committed(sim, rank, sim.timeline.now + 45.0)
            return


def _damage_once_both_committed(sim: "Simulation", rank: int, until: float) -> None:
    known = sim.invariants.ledger.ranks[rank]
    term = max(known.counting, default=0)
    line = known.counting[term][1] if known.counting else ()
    beyond = bool(line) and any(ref.term == line[0].term and ref.step > line[0].step for ref in known.lines)
    if beyond and any(ref.term == term for ref in known.lines):
        damage_newest_term(sim, rank)
    elif sim.timeline.now < until:
        sim.timeline.after(0.25, _damage_once_both_committed, sim, rank, until)


def _some_container(sim: "Simulation") -> Container | None:
    found = sim.containers()
    return sim.random.choice(found) if found else None
