"""What Understudy costs a training that loses nothing.

    python -m benchmarks.overhead [--pairs 20] [--seconds 60] [--jobs 10] [--json FILE]

1. Speed of the loop: the digits example under Understudy (a warm redundant pod beside it, a save every 100 steps),
   the same with a line of log per step, and the same example with a plain loop over Keras' `train_function`, without
   agent and without checkpoints. All three are pinned to the same core and run in turns, the others stopped; the
   redundant pods are pinned to another core, as they would be on another machine. Each round gives a ratio; the median
   is shown with its bootstrap interval (95%). Single runs on a shared machine differ by more than what is looked for.
2. The agent: memory, and CPU at one renewal a second.
3. The checkpoint store: commit and load of the example's state, on its volume.
4. The operator that leads: memory and CPU, alone and with ten jobs.

Goals are shown and never asserted.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import machine, scripts
from benchmarks.processes import pin, usage
from benchmarks.stats import median_interval, percentile
from localcluster import ClusterError, choice
from localcluster.processes import Identity
from testbed import Testbed, TestbedError, faults, jobs, operator
from testbed.console import console
from testbed.kube import PODS, wall
from testbed.lines import Step
from testbed.logs import PodLog

NAMESPACE: Final = "bench-overhead"
STEPS: Final = 10_000_000
SAVE_EVERY: Final = 100
LOG_EVERY: Final = 100
WINDOW_STEPS: Final = 500
"""Five checkpoints a window."""
WINDOW_WITHIN_S: Final = 300
EXEC_WITHIN_S: Final = 300
STORE_ROUNDS: Final = 50
PLAIN, WITH, VERBOSE = "plain loop", "understudy", "understudy, a line per step"

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """A training that takes its turn."""

    name: str
    log: PodLog
    trainer: Identity
    agent: int | None


def main() -> int:
    """Run the benchmark."""
    arguments = _arguments()
    screen = console()
    report: Report = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no training is left to run for ever
    try:
        cluster = choice.connect()
        if not arguments.keep_operator:
            operator.install(cluster)  # first: without the chart there are no TrainingJobs to watch
        with Testbed(cluster, NAMESPACE) as testbed, ExitStack() as cleaning:
            cleaning.callback(testbed.delete_namespace)
            report["machine"], began = machine.facts(testbed.kube), machine.cpu_ticks()
            report["operator"] = {"alone": _operator(testbed, arguments.seconds)}
            with _contenders(testbed) as contenders:
                report["loop"] = _loop(testbed, contenders, arguments.pairs, screen)
                report["agent"] = _agents(testbed, arguments.seconds)
                report["store"] = _store(testbed)
            report["operator"][f"with {arguments.jobs} jobs"] = _many_jobs(testbed, arguments.jobs, arguments.seconds)
            report["machine"]["cpu_stolen_percent"] = machine.stolen_percent(began)
    except (ClusterError, TestbedError) as error:
        screen.print(f"[red]stopped:[/red] {error}", highlight=False, soft_wrap=True)
        return 1
    finally:
        screen.print(_table(report))
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


@contextmanager
def _contenders(testbed: Testbed) -> Iterator[list[Contender]]:
    """Start the three trainings, all stopped."""
    cores = sorted(os.sched_getaffinity(0))
    own, other = cores[-1], cores[0]
    found = [_plain(testbed)]
    for name, label, log_every in ((WITH, "with", LOG_EVERY), (VERBOSE, "verbose", 1)):
        options = {"steps": STEPS, "save_every": SAVE_EVERY, "log_every": log_every, "validate_every": STEPS}
        job = testbed.apply(jobs.digits(label, ranks=1, **options))
        testbed.wait_settled(job)
        state = testbed.world.rank(job, 0)
        pod = testbed.primary(job, 0)
        agent, trainer = faults.agent_and_trainer(testbed, pod)
        pin(agent.pid, own)
        for redundant in state.redundant:
            for process in testbed.cluster.processes(testbed.namespace, redundant.name):
                pin(process.pid, other)
        found.append(Contender(name, testbed.logs.of(pod.name), _identity(trainer.pid), agent.pid))
    for contender in found:
        pin(contender.trainer.pid, own)
        contender.trainer.send(signal.SIGSTOP)
    try:
        yield found
    finally:
        for contender in found:
            contender.trainer.send(signal.SIGCONT)
        for job in ("with", "verbose"):
            testbed.delete_job(job)
        testbed.delete_pod("plain", grace_s=0)


def _plain(testbed: Testbed) -> Contender:
    """Start the training without Understudy, in a pod of the same image, resources and environment."""
    body = jobs.digits("plain", steps=STEPS, log_every=LOG_EVERY, validate_every=STEPS)
    container = jobs.container(body)
    container["command"], container["args"] = ["python", "-c", scripts.PLAIN], container["args"]
    pods = PODS.format(testbed.namespace)
    testbed.kube.delete(f"{pods}/plain", gracePeriodSeconds=0)
    created = testbed.kube.create(
        pods, {"metadata": {"name": "plain"}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    )
    testbed.wait_until(
        lambda: (pod := testbed.world.pods.get("plain")) and pod.running, timeout_s=WINDOW_WITHIN_S, what="pod plain"
    )
    testbed.logs.follow("plain", created["metadata"]["uid"], -1)
    log = testbed.logs.of("plain")
    testbed.wait_until(lambda: log.steps, timeout_s=WINDOW_WITHIN_S, what="the first steps of the plain loop")
    (process, *_) = testbed.cluster.processes(testbed.namespace, "plain")
    return Contender(PLAIN, log, _identity(process.pid), None)


def _loop(testbed: Testbed, contenders: list[Contender], pairs: int, screen: Console) -> Report:
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(pairs):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            times[contender.name].append(_window(testbed, contender))
        shown = ", ".join(f"{name} {values[-1]:.3f} ms/step" for name, values in times.items())
        screen.print(f"round {number + 1:3}: {shown}", highlight=False, soft_wrap=True)
    found: Report = {"ms_per_step": times, "relative_speed": {}}
    for name in (WITH, VERBOSE):
        ratios = [plain / mine for plain, mine in zip(times[PLAIN], times[name], strict=True)]
        middle, low, high = median_interval(ratios)
        found["relative_speed"][name] = {"median": middle, "low": low, "high": high, "ratios": ratios}
    return found


def _window(testbed: Testbed, contender: Contender) -> float:
    """Let one training run for WINDOW_STEPS steps; return the mean milliseconds per step."""
    began = wall()
    contender.trainer.send(signal.SIGCONT)

    def look() -> tuple[Step, Step] | None:
        fresh = [step for step in contender.log.steps[-2 * WINDOW_STEPS :] if step.at > began]
        # The first line that is due was partly earned before the stop: it is the start, not a sample.
        if len(fresh) > 1 and fresh[-1].step - fresh[0].step >= WINDOW_STEPS:
            return fresh[0], fresh[-1]
        return None

    first, last = testbed.wait_until(
        look, timeout_s=WINDOW_WITHIN_S, what=f"{WINDOW_STEPS} steps of {contender.log.pod} ({contender.name})"
    )
    contender.trainer.send(signal.SIGSTOP)
    return 1e3 * (last.at - first.at) / (last.step - first.step)


def _agents(testbed: Testbed, seconds: float) -> Report:
    """Watch both agents of a job whose trainer runs."""
    state = testbed.world.rank("with", 0)
    primary, trainer = faults.agent_and_trainer(testbed, testbed.primary("with", 0))
    redundant = faults.agent_and_trainer(testbed, state.redundant[0])[0]
    _identity(trainer.pid).send(signal.SIGCONT)
    used = usage([primary.pid, redundant.pid], seconds)
    _identity(trainer.pid).send(signal.SIGSTOP)
    return {name: asdict(found) for name, found in zip(("primary's", "redundant's"), used, strict=True)}


def _store(testbed: Testbed) -> Report:
    """Time the store in a redundant pod: nothing trains meanwhile."""
    pod = testbed.world.rank("with", 0).redundant[0].name
    command = testbed.kubectl("exec", pod, "--", "python", "-c", scripts.STORE, str(STORE_ROUNDS))
    done = subprocess.run(command, capture_output=True, text=True, timeout=EXEC_WITHIN_S, check=False)
    if done.returncode:
        raise TestbedError(f"the store could not be timed in {pod}: {done.stderr.strip()[-500:]}")
    found: Report = json.loads(done.stdout)
    return found


def _operator(testbed: Testbed, seconds: float) -> Report:
    name = operator.pod(testbed.kube)[0]
    (process, *_) = testbed.cluster.processes(operator.NAMESPACE, name)
    return asdict(usage([process.pid], seconds)[0])


def _many_jobs(testbed: Testbed, count: int, seconds: float) -> Report:
    names = [f"many-{index}" for index in range(count)]
    for name in names:
        testbed.apply(jobs.counting(name))
    for name in names:
        testbed.wait_settled(name)
    found = _operator(testbed, seconds)
    for name in names:
        testbed.delete_job(name)
    return found


def _identity(pid: int) -> Identity:
    found = Identity.of(pid)
    if found is None:
        raise TestbedError(f"process {pid} has ended")
    return found


def _table(report: Report) -> Table:
    table = Table(title="What Understudy costs", title_justify="left")
    for column in ("what", "measured", "goal"):
        table.add_column(column)
    for name, found in report.get("loop", {}).get("relative_speed", {}).items():
        interval = f"{found['median']:.2%}  (95%: {found['low']:.2%} … {found['high']:.2%})"
        table.add_row(f"speed of the loop, {name}", interval, "≥ 98%" if name == WITH else "")
    for name, times in report.get("loop", {}).get("ms_per_step", {}).items():
        table.add_row(f"step, {name}", f"{statistics.median(times):.3f} ms", "")
    for name, used in report.get("agent", {}).items():
        table.add_row(f"{name} agent, memory", f"{used['rss_mb']:.1f} MB (peak {used['peak_rss_mb']:.1f})", "≤ 64 MB")
        table.add_row(f"{name} agent, CPU", f"{used['cpu_percent']:.2f}% of a core", "≤ 1%")
    store = report.get("store")
    if store:
        for name in ("commit", "load", "peek"):
            times = store[f"{name}_ms"]
            shown = f"p50 {percentile(times, 0.5):.2f} ms, p95 {percentile(times, 0.95):.2f} ms"
            table.add_row(f"{name} of {store['bytes'] / 1e6:.2f} MB in {store['tensors']} tensors", shown, "")
    for name, used in report.get("operator", {}).items():
        memory = f"{used['rss_mb']:.1f} MB (peak {used['peak_rss_mb']:.1f})"
        table.add_row(f"operator {name}, memory", memory, "≤ 120 MB" if "jobs" in name else "")
        table.add_row(f"operator {name}, CPU", f"{used['cpu_percent']:.2f}% of a core", "")
    table.add_row("CPU taken by the host meanwhile", f"{report.get('machine', {}).get('cpu_stolen_percent', '–')}%", "")
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description="Measure what Understudy costs.")
    parser.add_argument("--pairs", type=int, default=20, help="rounds of the three loops (default: 20)")
    parser.add_argument("--seconds", type=float, default=60, help="watch processes for this long (default: 60)")
    parser.add_argument("--jobs", type=int, default=10, help="jobs for the operator (default: 10)")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write everything")
    parser.add_argument("--keep-operator", action="store_true", help="use the operator that runs, as it is")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
