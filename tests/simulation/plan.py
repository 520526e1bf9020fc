"""What a seed decides before anything happens: the job, the machines, and which faults come when."""

from dataclasses import dataclass
from random import Random

from tests.simulation.worker import Script

FAULTS_UNTIL_S = 60.0
"""Faults begin before this moment."""
CALM_AFTER_S = 130.0
"""From here on nothing is out of order any more: the job has to reach its last step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One seed's world."""

    seed: int
    ranks: int
    redundancy: int
    keep: int
    lease_s: int
    hand_over_s: int
    progress_s: int
    script: Script
    nodes: int
    shared: bool
    """ReadWriteMany; else all pods run on one node, whose disk it is."""
    links: bool
    """The volume makes hard links."""
    cache_s: float
    """How long a node believes what it read of a folder."""
    operators: int
    faults: tuple[tuple[float, str], ...]
    """When, and the name of one in faults.py."""


def draw(seed: int, faults: dict[str, int]) -> Plan:
    """Draw a plan; `faults` are names with weights. One in sixteen is left undisturbed."""
    random = Random(seed)
    shared = random.random() < 0.85
    names, weights = list(faults), list(faults.values())
    count = 0 if random.random() < 1 / 16 else random.choice((1, 1, 2, 2, 2, 3, 3, 4, 6))
    steps = random.randint(5, 14)
    # Most faults come while the job trains; some while it starts or after it should have ended.
    span_s = random.choice((10.0, 20.0, 20.0, FAULTS_UNTIL_S))
    return Plan(
        seed=seed,
        ranks=2 if random.random() < 0.15 else 1,
        redundancy=random.choice((0, 1, 1, 1, 1, 1, 2)),
        keep=random.choice((1, 1, 2, 3)),
        lease_s=random.choice((4, 6, 9, 12)),
        hand_over_s=random.choice((2, 6)),
        progress_s=random.choice((15, 40)),
        script=Script(
            steps=steps,
            save_every=random.choice((1, 2, 2, 3)),
            step_s=random.choice((0.5, 1.0, 2.0)),
            import_s=random.choice((0.5, 2.0, 5.0)),
        ),
        nodes=random.choice((2, 3)),
        shared=shared,
        links=random.random() < 0.7,
        cache_s=random.choice((0.0, 0.0, 3.0, 30.0, 55.0)) if shared else 0.0,
        operators=1 if random.random() < 0.8 else 2,
        faults=tuple(sorted((random.uniform(0.5, span_s), random.choices(names, weights)[0]) for _ in range(count))),
    )
