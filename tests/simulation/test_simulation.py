"""Thousands of worlds, each from a seed: no schedule of faults breaks a promise, and each can be seen again."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.simulation import lockstep
from tests.simulation import simulate as command
from tests.simulation.faults import WEIGHTS
from tests.simulation.fixes import FIXES
from tests.simulation.plan import draw
from tests.simulation.simulation import Simulation, simulate

SEEDS = 2000
BATCH = 100
FOUND = (
    101772,  # two operators passed a rank on at once, and one gave a pod's number a second time
    105555,  # an operator that slept through the restore of an etcd: what it does then is not promised
    108830,  # two pods of one name after a restore: the volume chooses between them
    357673,  # a disk lost its power with another node than its own, and a writer that lived on had synced in vain
    407201,  # an operator made a pod of before a restore, whose number was then given again
    751015,  # a rank was given away and back while its primary heard of the first only
    807966,  # two operators labelled primaries of one term, one of before the restore of an etcd, and one of after
    530,  # etcd was restored amid an outage: who is seen to be lost when that ends is lost by the restore
    2055740,  # a pod was deleted because its rank was complete, and so was the Lease that had said so
    1007384,  # an operator whose clock stood still in an outage, which was short for it
    11103134,  # a pod was made, deleted by force, and made again by the same request, whose connection had died
    482830,  # an operator that was cut off during the restore of an etcd: what it does then is not promised
)
"""What was wrong of the simulation, or cannot be promised; what was wrong of the product is in fixes.py."""


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_no_seed_breaks_a_promise(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.search(first, BATCH, brief=False) == 0, capsys.readouterr().out


@pytest.mark.parametrize("seed", [*FOUND, *(fix.found_by for fix in FIXES)])
def test_a_seed_that_found_a_defect_finds_none_any_more(seed: int) -> None:
    assert not simulate(seed).violation


def test_every_fault_is_drawn() -> None:
    weights = {fault.__name__: weight for fault, weight in WEIGHTS.items()}
    drawn = {name for seed in range(SEEDS) for _, name in draw(seed, weights).faults}
    assert drawn == weights.keys()


def test_a_world_without_faults_needs_one_term() -> None:
    for seed in range(40):
        found = simulate(seed, faults={})
        assert not found.violation
        assert all(list(rank.holders) == [1] for rank in found.invariants.ranks)


def test_no_thread_of_a_program_outlives_its_run() -> None:
    def waiting() -> int:
        return sum(thread.name == "simulated" for thread in threading.enumerate()) - len(lockstep._idle)

    before = waiting()
    for seed in range(40):
        simulate(seed)
    assert waiting() == before


def test_a_seed_replays_exactly_whatever_python_hashes() -> None:
    seeds = range(0, 120, 3)
    here = [_transcript(simulate(seed)) for seed in seeds]
    gc.collect()
    assert here == [_transcript(simulate(seed)) for seed in seeds]
    code = f"from tests.simulation.test_simulation import print_transcripts; print_transcripts({list(seeds)})"
    for hashing in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == "".join(here)


def print_transcripts(seeds: list[int]) -> None:
    """Print what a run of these seeds was, for another process to compare."""
    for seed in seeds:
        sys.stdout.write(_transcript(simulate(seed)))


def _transcript(simulation: Simulation) -> str:
    return "".join(f"{at!r} {who} {text}\n" for at, who, text in simulation.transcript.lines)
