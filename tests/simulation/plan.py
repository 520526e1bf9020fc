"""What a seed decides before anything happens: the job, the machines, and which faults come when."""

from dataclasses import dataclass, replace
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
    """How long a node believes what it read of a folder, at most."""
    operators: int
    elected: bool
    """One of the operators acts at a time."""
    faults: tuple[tuple[float, str], ...]
    """When, and the name of one in faults.py."""


def draw(seed: int, faults: dict[str, int]) -> Plan:
    """Draw a plan; `faults` are names with weights. One in sixteen is left undisturbed."""
    random = Random(seed)
    shared = random.random() < 0.85
    names, weights = list(faults) or ["none"], list(faults.values()) or [1]
    count = 0 if random.random() < 1 / 16 else random.choice((1, 1, 2, 2, 2, 3, 3, 4, 6))
    # Most faults come while the job trains; some while it starts or after it should have ended.
    span_s = random.choice((10.0, 20.0, 20.0, FAULTS_UNTIL_S))
    plan = Plan(
        seed=seed,
        ranks=2 if random.random() < 0.15 else 1,
        redundancy=random.choice((0, 1, 1, 1, 1, 1, 2)),
        keep=random.choice((1, 1, 2, 3)),
        lease_s=random.choice((4, 6, 9, 12)),
        hand_over_s=random.choice((2, 6)),
        progress_s=random.choice((15, 40)),
        script=Script(
            steps=random.randint(5, 14),
            save_every=random.choice((1, 2, 2, 3)),
            step_s=random.choice((0.5, 1.0, 2.0)),
            import_s=random.choice((0.5, 2.0, 5.0)),
        ),
        nodes=random.choice((2, 3)),
        shared=shared,
        links=random.random() < 0.7,
        cache_s=random.choice((0.0, 0.0, 3.0, 30.0, 60.0)) if shared else 0.0,
        operators=random.choices((1, 2), (9, 2))[0],
        elected=random.random() < 0.35,
        faults=tuple(sorted((random.uniform(0.5, span_s), random.choices(names, weights)[0]) for _ in range(count))),
    )
    if not faults:
        return replace(plan, faults=())
    if count and random.random() < 1 / 16:
        return _long(plan, random)
    return _dark(plan, random) if count and random.random() < 1 / 40 else plan


def _long(plan: Plan, random: Random) -> Plan:
    """Make it a job on which a superseded primary goes on for long: slow, often saved, with caches, without links."""
    return replace(
        plan,
        ranks=1,
        redundancy=1,
        keep=3,
        lease_s=4,
        script=Script(steps=14, save_every=1, step_s=2.0, import_s=0.5),
        shared=True,
        links=False,
        cache_s=60.0,
        faults=((random.uniform(3.0, 8.0), "superseded_primary_goes_on"), *plan.faults[:1]),
    )


def _dark(plan: Plan, random: Random) -> Plan:
    """Make it a job that still trains when all nodes have been cut off for long enough to be taken for lost."""
    return replace(
        plan,
        lease_s=4,
        script=Script(steps=30, save_every=3, step_s=3.0, import_s=0.5),
        shared=True,
        faults=((random.uniform(8.0, 14.0), "all_nodes_are_cut_off"), *plan.faults[:1]),
    )
