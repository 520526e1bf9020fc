"""The product without one of its protections: the simulation finds out, each time.

That is what its clean seeds are worth. A mutant is tried first with the seed that was last known to find it; where a
change of the product has moved that, with all of those that `test_simulation` runs. What one seed in many thousands has
found has to be found by that very seed.
"""

import pytest

from tests.simulation.fixes import FIXES
from tests.simulation.mutants import MUTANTS, Mutant, applied
from tests.simulation.simulation import simulate
from tests.simulation.test_simulation import SEEDS


def broken(mutant: Mutant, seed: int) -> bool:
    return simulate(seed).violation.startswith(f"invariant {mutant.breaks}:")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_protection_taken_out_is_missed(mutant: Mutant) -> None:
    with applied(mutant):
        found = next((seed for seed in (mutant.found_by, *range(SEEDS)) if broken(mutant, seed)), None)
    assert found is not None, f"{SEEDS} seeds do not notice that {mutant.name}"
    assert not simulate(found).violation, "the product as it is passes"


@pytest.mark.parametrize("fix", FIXES, ids=lambda fix: fix.name)
def test_a_seed_finds_its_defect_again_when_the_fix_is_taken_out(fix: Mutant) -> None:
    with applied(fix):
        assert broken(fix, fix.found_by)


def test_there_are_many_mutants_and_each_has_a_name_of_its_own() -> None:
    assert len(MUTANTS) >= 14
    names = [mutant.name for mutant in (*MUTANTS, *FIXES)]
    assert len(set(names)) == len(names)
