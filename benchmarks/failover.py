"""How long a rank stands still when it loses its primary, for every cause, and how many steps that costs.

    python -m benchmarks.failover [--runs 20] [--causes delete,power-cut] [--json FILE]

Installs the chart, starts the digits sample with a line per step and no end, and then, for each cause, sends the fault
to the primary of one rank after the other and follows the workers' logs. Before each run the job is whole: every rank
trains and has a warm redundant pod; before the loss or drain of a node the primary has been brought to a node without
the operator that leads, and its redundant pod to another: what is timed is the job's failover, not the operator's. What
that takes is not counted.

t0 is the wall clock just before the fault is sent; the end is the first step of the new primary, stamped by that worker
after the step's result was there. Goals are shown beside the numbers and never asserted: a busy machine misses them.
A run in which the fault led to something else than expected (a cold start, another cause) is counted and marked.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.markup import escape
from rich.table import Table

from benchmarks import machine
from benchmarks.processes import resident_mb
from benchmarks.stats import percentile
from localcluster import ClusterError, choice
from testbed import Testbed, TestbedError, faults, jobs, measure, operator, placement
from testbed.console import console
from testbed.faults import Fault
from testbed.measure import LEGS, Failover

NAMESPACE: Final = "bench-failover"
JOB: Final = "digits"
STEPS: Final = 1_000_000
SAVE_EVERY: Final = 100
PROGRESS_DEADLINE_S: Final = 5
"""Short, so that a stall is noticed while somebody waits for the result; a step takes 10 ms."""
BUSY_STEP_S: Final = 0.1
BUSY_LEASE_S: Final = 10
EVERY: Final = (*faults.ALL, *faults.MORE)
FAILED_RUNS_MAX: Final = 3
"""A run that could not be measured is reported and left out. With more such runs than this, something is broken."""

Results = dict[str, list[Failover]]


def main() -> int:
    """Run the benchmark."""
    arguments = _arguments()
    causes = [fault for fault in EVERY if fault.name in arguments.causes]
    screen = console()
    results: Results = {fault.name: [] for fault in causes}
    facts: dict[str, Any] = {}
    failed: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the job is not left to run for ever
    try:
        cluster = choice.connect()
        if not arguments.keep_operator:
            operator.install(cluster)  # first: without the chart there are no TrainingJobs to watch
        with Testbed(cluster, NAMESPACE) as testbed, ExitStack() as cleaning:
            facts, began = machine.facts(testbed.kube), machine.cpu_ticks()
            cleaning.callback(testbed.delete_namespace)
            body = jobs.digits(JOB, steps=STEPS, save_every=SAVE_EVERY, log_every=1)
            body["spec"].setdefault("failover", {})["progressDeadlineSeconds"] = PROGRESS_DEADLINE_S
            job = testbed.apply(body)
            for index in range(arguments.beside):
                testbed.apply(
                    jobs.counting(f"beside-{index}", step_s=BUSY_STEP_S, log_every=1000, lease_s=BUSY_LEASE_S)
                )
            facts["busy_jobs_beside"] = arguments.beside
            facts["operator_mb"] = {}  # of each that led, after each failover
            for fault, run in ((fault, run) for fault in causes for run in range(arguments.runs)):
                try:
                    result = one(testbed, job, run % len(testbed.world.ranks(job)), fault)
                except TestbedError as error:
                    failed.append(f"{fault.name} {run + 1}: {error}")
                    screen.print(f"[red]failed:[/red] {escape(failed[-1])}", highlight=False, soft_wrap=True)
                    if len(failed) > FAILED_RUNS_MAX:
                        raise
                    continue
                results[fault.name].append(result)
                leader = operator.pod(testbed.kube)[0]
                facts["operator_mb"].setdefault(leader, []).append(_resident_mb(testbed, leader))
                screen.print(_line(fault, run, result), highlight=False, soft_wrap=True)
                facts["cpu_stolen_percent"] = machine.stolen_percent(began)
                if arguments.json:
                    _write(arguments.json, facts, results, failed)
    except (ClusterError, TestbedError) as error:
        screen.print(f"[red]stopped:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1
    finally:
        if any(results.values()):
            screen.print(summary(causes, results), legs(causes, results), *_asides(facts), sep="\n", highlight=False)
    return 1 if failed else 0


def one(testbed: Testbed, job: str, rank: int, fault: Fault) -> Failover:
    """Measure one failover, and leave nodes as they were."""
    testbed.wait_settled(job)
    if fault.node or fault is faults.DRAIN:  # while all pods are on one node a drain waits, and training continues
        placement.expose(testbed, job, rank)
    _wait_for_steps(testbed, job, rank)
    node = testbed.primary(job, rank).node
    try:
        return measure.failover(testbed, job, rank, fault)
    finally:
        fault.undo(testbed, node)


def _resident_mb(testbed: Testbed, leader: str) -> float:
    (process, *_) = testbed.cluster.processes(operator.NAMESPACE, leader)
    return round(resident_mb(process.pid), 1)


def _asides(facts: dict[str, Any]) -> list[str]:
    said = [
        f"{pod} led for {len(held)} failovers and held {held[0]} MB after the first, {held[-1]} MB after the last."
        for pod, held in facts["operator_mb"].items()
    ]
    return [*said, f"The host took {facts['cpu_stolen_percent']}% of the CPU meanwhile."]


def _wait_for_steps(testbed: Testbed, job: str, rank: int) -> None:
    """Wait until the primary has logged a step of its term: before that there is nothing to lose."""
    state = testbed.world.rank(job, rank)
    log = testbed.logs.of(testbed.primary(job, rank).name)
    testbed.wait_until(
        lambda: log.last_step(state.term) is not None,
        timeout_s=measure.FIRST_STEP_WITHIN_S,
        what=f"a step of {log.pod} in term {state.term}",
    )


def summary(causes: Sequence[Fault], results: Results) -> Table:
    """Tabulate what the goals speak of."""
    table = Table(title="fault → first new step", title_justify="left")
    table.add_column("fault")
    for name in ("runs", "p50", "p95", "worst", "goal p50", "lost p50", "lost worst", "goal", "decided p50", "odd"):
        table.add_column(name, justify="right")
    for fault in causes:
        found = results[fault.name]
        if not found:
            continue
        took = [f.took_s for f in found]
        lost = [f.lost_steps for f in found]
        odd = sum(f.cold or f.cause != fault.cause for f in found)
        table.add_row(
            fault.title,
            str(len(found)),
            *(f"{percentile(took, share):.3f} s" for share in (0.5, 0.95, 1)),
            f"≤ {fault.goal_s:g} s",
            str(percentile(lost, 0.5)),
            str(max(lost)),
            "0" if fault.lossless else f"≤ {SAVE_EVERY}",
            f"{percentile([f.decided_s for f in found], 0.5):.3f} s",
            str(odd) if odd else "",
        )
    return table


def legs(causes: Sequence[Fault], results: Results) -> Table:
    """Tabulate the median of each leg."""
    table = Table(title="p50 of each leg: seconds since the moment before it", title_justify="left")
    table.add_column("fault")
    for name in LEGS:
        table.add_column(name, justify="right")
    for fault in causes:
        row = []
        for name in LEGS:
            known = _known(results[fault.name], name)
            row.append(f"{percentile(known, 0.5):.3f}" if known else "–")
        if results[fault.name]:
            table.add_row(fault.title, *row)
    return table


def _known(found: Sequence[Failover], leg: str) -> list[float]:
    return [seconds for f in found if (seconds := f.legs()[leg]) is not None]


def _line(fault: Fault, run: int, found: Failover) -> str:
    known = (f"{name} {leg:.3f}" for name, leg in found.legs().items() if leg is not None)
    odd = "  [yellow]COLD[/yellow]" if found.cold else ""
    if found.cause != fault.cause:
        odd += f"  [yellow]cause {found.cause} instead of {fault.cause}[/yellow]"
    return (
        f"{fault.name:14} {run + 1:3}  rank {found.rank} {found.old} → {found.new} (term {found.term})  "
        f"[bold]{found.took_s:.3f} s[/bold]  lost {found.lost_steps}  ({', '.join(known)}){odd}"
    )


def _write(path: Path, facts: dict[str, Any], results: Results, failed: list[str]) -> None:
    """Write all that was measured so far: an interrupted benchmark keeps its runs."""
    digest = {
        name: {
            "runs": len(found),
            "p50_s": percentile([f.took_s for f in found], 0.5),
            "p95_s": percentile([f.took_s for f in found], 0.95),
            "worst_s": max(f.took_s for f in found),
            "goal_p50_s": next(f.goal_s for f in EVERY if f.name == name),
            "lost_steps_p50": percentile([f.lost_steps for f in found], 0.5),
            "lost_steps_worst": max(f.lost_steps for f in found),
            "legs_p50_s": {leg: percentile(known, 0.5) for leg in LEGS if (known := _known(found, leg))},
        }
        for name, found in results.items()
        if found
    }
    runs = [
        {**asdict(f), "status": msgspec.to_builtins(f.status), "legs_s": f.legs(), "lost_steps": f.lost_steps}
        for found in results.values()
        for f in found
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": facts, "summary": digest, "failed": failed, "runs": runs}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    names = [fault.name for fault in EVERY]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.failover", description="Time failovers, cause by cause."
    )
    parser.add_argument("--runs", type=int, default=20, help="runs for each cause (default: 20)")
    parser.add_argument("--causes", default=",".join(names), help=f"which ones (default: {','.join(names)})")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write all runs and the machine")
    parser.add_argument("--beside", type=int, default=0, metavar="JOBS", help="busy jobs that train beside it")
    parser.add_argument("--keep-operator", action="store_true", help="use the operator that runs, as it is")
    found = parser.parse_args()
    found.causes = found.causes.split(",")
    if unknown := set(found.causes) - set(names):
        parser.error(f"no such cause: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
