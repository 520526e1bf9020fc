"""Break four trainings for a while, then say what was lost.

    python -m chaos [--seed 7] [--minutes 30] [--nodes 3] [--only kill-trainer,power-cut] [--output chaos-output]

Needs the local cluster and its images (`make chaos` sees to both) and installs the chart. Prints a line per fault, then
the table and the verdict; the output folder gets both, and every fault as JSON. Exits with 1 if anything was lost, or
is not as the status says. The seed decides which faults come in which order, and nothing else.
"""

import argparse
import random
import signal
import sys
import time
import uuid
from pathlib import Path

from chaos.draw import draws, groups
from chaos.kinds import KINDS
from chaos.outcome import Outcome
from chaos.run import Run
from chaos.strike import combinable
from chaos.ward import Ward
from localcluster import Cluster, ClusterError
from localcluster.paths import CHECKOUT
from testbed import Testbed, TestbedError, operator
from testbed.console import console


def main() -> int:
    """Run it; return the exit code."""
    arguments = _arguments()
    screen = console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is broken is put right
    cluster = Cluster.up(nodes=arguments.nodes) if arguments.nodes else Cluster.connect()
    operator.install(cluster)
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes, {len(cluster.nodes)} nodes", flush=True)
    with Testbed(cluster, f"chaos-{uuid.uuid4().hex[:6]}") as testbed:
        ward = Ward(cluster, testbed)
        run = Run(ward, say, lambda: None)
        try:
            ward.prepare()
            ward.start_all()
            sequence = draws(arguments.seed, arguments.only, lambda a, b: combinable(KINDS[a], KINDS[b]))
            run.strike_until(time.monotonic() + 60 * arguments.minutes, groups(sequence))
        except (TestbedError, ClusterError) as error:
            screen.print(f"[red]stopped:[/red] {error}", highlight=False, soft_wrap=True)
            return 1
        finally:
            testbed.delete_namespace()
    return 0


def say(outcome: Outcome) -> None:
    """Print a line for a fault."""
    upon = f" (upon {outcome.after})" if outcome.after else ""
    print(f"{outcome.number:4} {outcome.kind}{upon}: {outcome.what}", flush=True)
    if outcome.void:
        print(f"       void: {outcome.void}", flush=True)
    for loss in outcome.losses:
        took = "?" if loss.recovered_s is None else f"{loss.recovered_s:.2f}"
        cold = ", cold" if loss.cold else ""
        print(
            f"       {loss.target} {loss.old} → {loss.new} (term {loss.term}, {loss.cause}{cold}): decided after "
            f"{loss.decided_s:.2f} s, first step after {took} s, {loss.lost_steps} steps lost",
            flush=True,
        )
    if outcome.whole_s is not None:
        print(f"       whole again after {outcome.whole_s:.1f} s", flush=True)
    for wrong in outcome.wrong:
        print(f"       WRONG: {wrong}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Break four trainings for a while.")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="default: drawn, and printed")  # noqa: S311
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults are sent (default: 30)")
    parser.add_argument("--nodes", type=int, default=0, help="remake the cluster with so many (default: as it runs)")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of faults (default: all)")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "chaos-output", help="where table and faults go")
    found = parser.parse_args()
    found.only = found.only.split(",")
    if unknown := set(found.only) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
