"""Search for schedules that break a promise.

    python -m tests.simulation.simulate --seeds 100000 [--first 0]      run so many seeds
    python -m tests.simulation.simulate --replay SEED                   run one and print its transcript

Prints each seed that fails with what it broke, its transcript, and the command that replays it; ends with 1 if any did.
"""

import argparse
import gc
import sys
import time

from tests.simulation.simulation import Simulation, simulate

COLLECT_EVERY = 100
"""Seeds between two collections of garbage: what a seed leaves behind is all garbage, and is quickest taken at once."""
TOLD_EVERY_S = 10.0


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this one alone and print its transcript")
    parser.add_argument("--brief", action="store_true", help="print no transcripts of seeds that fail")
    asked = parser.parse_args(argv)
    if asked.replay is not None:
        found = simulate(asked.replay)
        show(found)
        return int(bool(found.violation))
    return search(asked.first, asked.seeds, brief=asked.brief)


def search(first: int, count: int, *, brief: bool) -> int:
    """Run seeds one after the other."""
    began = told_at = time.monotonic()
    failed = 0
    gc.disable()
    for done, seed in enumerate(range(first, first + count), 1):
        found = simulate(seed)
        if found.violation:
            failed += 1
            if brief:
                print(f"seed {seed}: {found.violation}", flush=True)
            else:
                show(found)
        if done % COLLECT_EVERY == 0:
            del found
            gc.collect()
        now = time.monotonic()
        if now >= told_at + TOLD_EVERY_S or done == count:
            told_at = now
            rate = done / (now - began)
            print(f"{done}/{count} seeds, {rate:.1f} a second ({1e3 / rate:.1f} ms each), {failed} failed", flush=True)
    gc.enable()
    return int(failed > 0)


def show(simulation: Simulation) -> None:
    """Print a transcript, what was broken, and how to see it again."""
    print(simulation.transcript, end="")
    print(f"plan: {simulation.plan}")
    if simulation.violation:
        print(f"seed {simulation.plan.seed} fails at {simulation.timeline.now:.3f} s: {simulation.violation}")
        print(f"replay: .venv/bin/python -m tests.simulation.simulate --replay {simulation.plan.seed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
