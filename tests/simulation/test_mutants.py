"""The product without one of its protections: the simulation finds out, each time.

That is what its clean seeds are worth. A mutant is tried first with the seed that is known to find it; where that has
changed, with all of those that `test_simulation` runs.
"""

from collections.abc import Iterator

import pytest

from tests.simulation.fixes import FIXES
from tests.simulation.mutants import MUTANTS, Mutant, applied
from tests.simulation.simulation import simulate
from tests.simulation.test_simulation import SEEDS


def seeds_for(mutant: Mutant) -> Iterator[int]:
    yield mutant.found_by
    yield from range(SEEDS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_protection_taken_out_is_missed(mutant: Mutant) -> None:
    assert not simulate(mutant.found_by).violation, "the product as it is passes"
    with applied(mutant):
        found = next((seed for seed in seeds_for(mutant) if simulate(seed).violation), None)
    assert found is not None, f"{SEEDS} seeds do not notice that {mutant.name}"
    assert not simulate(found).violation, "the product is as it was"


def test_there_is_a_mutant_for_each_protection() -> None:
    assert len(MUTANTS) >= 14
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("fix", FIXES, ids=lambda fix: fix.name)
def test_a_seed_finds_its_defect_again_when_the_fix_is_taken_out(fix: Mutant) -> None:
    with applied(fix):
        assert simulate(fix.found_by).violation
