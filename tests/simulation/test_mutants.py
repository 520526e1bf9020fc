"""The product without one of its protections: the simulation finds out, each time.

That is what its clean seeds are worth. Each mutant has a seed, of those that `test_simulation` runs, and the invariant
that it breaks there; where a change of the product, or of what seeds draw, has moved it, the seed is to be renewed.
"""

import pytest

from tests.simulation.fixes import FIXES
from tests.simulation.mutants import MUTANTS, Mutant, applied
from tests.simulation.simulation import simulate
from tests.simulation.test_simulation import SEEDS


@pytest.mark.parametrize("mutant", [*MUTANTS, *FIXES], ids=lambda mutant: mutant.name)
def test_a_protection_taken_out_is_missed(mutant: Mutant) -> None:
    assert not simulate(mutant.found_by).violation, "the product as it is passes"
    with applied(mutant):
        found = simulate(mutant.found_by).violation
    assert found.startswith(f"invariant {mutant.breaks}:"), (
        f"seed {mutant.found_by} does not find that {mutant.name}, but: {found or 'nothing'}; "
        "`.venv/bin/python -m tests.simulation.mutants` tells which does"
    )
    assert not simulate(mutant.found_by).violation, "the product is as it was"


def test_every_mutant_is_found_by_the_seeds_of_each_run() -> None:
    assert all(mutant.found_by < SEEDS for mutant in MUTANTS)
    assert len({mutant.name for mutant in (*MUTANTS, *FIXES)}) == len(MUTANTS) + len(FIXES)
