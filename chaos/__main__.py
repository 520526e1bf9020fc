"""Break four trainings for a while, then say what was lost.

    python -m chaos [--seed 7] [--minutes 30] [--only kill-trainer,power-cut] [--output chaos-output]

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
from contextlib import ExitStack
from pathlib import Path
from subprocess import SubprocessError

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from benchmarks import machine
from chaos import report
from chaos.draw import draws, groups
from chaos.kinds import KINDS
from chaos.nodes import THREE_NODES
from chaos.run import Run
from chaos.strike import combinable
from chaos.verdict import judge
from chaos.ward import Ward
from localcluster import ClusterError, choice
from localcluster.paths import CHECKOUT
from testbed import Testbed, TestbedError, operator
from testbed.kube import Kube


def main() -> int:
    """Run it; return the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what is broken is put right
    cluster = choice.connect()
    operator.install(cluster)
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes, {len(cluster.nodes)} nodes", flush=True)
    facts, began = machine.facts(Kube(cluster.kubeconfig)), machine.cpu_ticks()
    with Testbed(cluster, f"chaos-{uuid.uuid4().hex[:6]}") as testbed, ExitStack() as cleaning:
        ward = Ward(cluster, testbed)
        cleaning.callback(ward.remove)
        run = Run(ward, lambda outcome: print(report.line(outcome), flush=True))
        broken = _break(run, arguments)
        verdict: report.Verdict = {"the run came to its end": broken, **judge(run)}
        facts |= {"seed": arguments.seed, "minutes": arguments.minutes}
        facts["cpu_stolen_percent"] = machine.stolen_percent(began)
        report.write(arguments.output, f"seed-{arguments.seed}", run, facts, verdict)
    print(f"\n{report.table(run.outcomes)}\n{report.verdict_text(verdict)}", flush=True)
    return 1 if report.wrong(verdict) else 0


def _break(run: Run, arguments: argparse.Namespace) -> list[str]:
    """Start the jobs and send faults; return a sentence if that had to be stopped."""
    try:
        run.ward.prepare()
        run.ward.start_all()
        kinds = [kind for kind in arguments.only if kind != "two-nodes" or len(run.ward.cluster.nodes) >= THREE_NODES]
        if not kinds:
            return [f"none of {', '.join(arguments.only)} can be sent to so few nodes"]
        together = {kind for kind in kinds if KINDS[kind].ends_operators}
        sequence = draws(arguments.seed, kinds, lambda one, two: combinable(KINDS[one], KINDS[two]), together)
        run.strike_until(time.monotonic() + 60 * arguments.minutes, groups(sequence))
    except (TestbedError, ClusterError, ApiException, HTTPError, SubprocessError, OSError) as error:
        return [f"{type(error).__name__}: {error}"]
    return [] if any(not outcome.void for outcome in run.outcomes) else ["no fault was sent"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Break four trainings for a while.")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="default: drawn, and printed")  # noqa: S311
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults are sent (default: 30)")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of faults (default: all)")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "chaos-output", help="where table and faults go")
    found = parser.parse_args()
    found.only = found.only.split(",")
    if unknown := set(found.only) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
