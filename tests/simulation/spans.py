"""How long faults last."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


def span(sim: "Simulation") -> float:
    """Draw how long a fault lasts: often shorter than a lease, sometimes longer than everything."""
    return sim.random.choice((0.5, 2.0, 5.0, 10.0, 10.0, 20.0, 60.0)) * sim.random.uniform(0.5, 1.0)
