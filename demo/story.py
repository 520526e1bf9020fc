"""What happens in the demo, in order, and what must come true of it."""

import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml
from rich import box
from rich.table import Table
from understudy_contract.names import claim_name
from understudy_contract.status import ConditionType, JobPhase

from demo.checks import accuracy, check, said_by_status, said_seconds
from demo.screen import JOB, Screen
from demo.timeline import TITLES, draw
from localcluster import choice
from localcluster.paths import CHECKOUT
from testbed import Testbed, TestbedError, faults, jobs, measure, operator, placement
from testbed.faults import Fault
from testbed.kube import Object, wall
from testbed.measure import Failover

STEPS: Final = 6_000
"""Enough for three failovers, and for the start of three redundant pods between them, on a fast machine."""
COMPLETE_WITHIN_S: Final = 600
KUBECTL_WITHIN_S: Final = 60


def manifest(*, shared: bool) -> Object:
    """Return the job: the sample, on a volume that every node can mount where the cluster has such volumes."""
    body = jobs.digits(JOB, steps=STEPS, log_every=1)
    if shared:
        body["spec"]["checkpoint"]["volumeClaimTemplate"]["spec"]["accessModes"] = ["ReadWriteMany"]
    return body


def hindrance(modes: Iterable[str], *, shared: bool) -> str:
    """Say why a job whose volume has these access modes is not shown the loss of a node; empty when it is."""
    if "ReadWriteMany" in modes:
        return ""
    if shared:
        return (
            f"The job's volume is that of an earlier run, and of one node. `kubectl delete tj {JOB}` and "
            f"`kubectl delete pvc {claim_name(JOB)}` make room for one that every node can mount"
        )
    return (
        "The volumes of this cluster are of one node, so that all pods of a job run there and are lost with it. "
        "`python -m localcluster down`, then `make demo`, makes a cluster whose nodes share a folder"
    )


class Story:
    """One run of the demo."""

    def __init__(self, testbed: Testbed, screen: Screen, output: Path) -> None:
        self._testbed = testbed
        self._screen = screen
        self._output = output
        self._failovers: list[Failover] = []
        self._manifest = manifest(shared=testbed.cluster.has_shared_volumes)
        self._save_every = jobs.argument(self._manifest, "save-every")

    @staticmethod
    def install(screen: Screen) -> None:
        """Install the operator."""
        screen.chapter("The operator")
        cluster = choice.connect()
        screen.say(choice.described())
        screen.command("helm upgrade --install understudy charts/understudy -n understudy-system --create-namespace")
        operator.install(cluster)
        screen.say("the operator is ready")

    def tell(self) -> None:
        """Run all of it."""
        began = self._start()
        first, second = self._plan()
        self._lose(first, faults.KUBECTL_DELETE, "kubectl delete pod of a primary: a drained node, an eviction")
        self._lose(second, faults.KILL_TRAINER, "SIGKILL of a trainer: out of memory, a crash")
        if hindrance := self._hindrance():
            self._screen.chapter("Left out: the power cut of a node")
            self._screen.say(hindrance)
        else:
            title = "Power cut of a node: everything on it is gone, without a word"
            self._lose(self._exposed(), faults.POWER_CUT, title)
        self._complete()
        self._conclude(began)

    def _start(self) -> float:
        self._screen.chapter("The job: two ranks learn to read handwritten digits, one redundant pod each")
        if self._testbed.kube.find(f"/apis/understudy.dev/v1alpha1/namespaces/default/trainingjobs/{JOB}") is not None:
            self._screen.say("deleting the job of an earlier run; its checkpoints stay on their volume")
        self._testbed.delete_job(JOB)
        self._output.mkdir(parents=True, exist_ok=True)
        file = self._output / "digits.yaml"
        file.write_text(yaml.safe_dump(self._manifest, sort_keys=False))
        began = wall()
        self._screen.command(f"kubectl apply -f {_short(file)}")
        self._screen.say(
            f"({_short(jobs.SAMPLE)} with {STEPS} steps, and a line of log for each, to count lost steps)", "dim"
        )
        self._screen.plain(self._kubectl("apply", "-f", str(file)))
        self._testbed.wait_settled(JOB)
        self._screen.say("every rank trains, and every redundant pod is warm", "bold")
        return began

    def _plan(self) -> tuple[int, int]:
        """Choose the ranks of the first two faults, so that a primary is left on the node without the operator.

        A failover moves a primary to the node of its redundant pod.
        """
        ranks = self._testbed.world.ranks(JOB)
        home = operator.node(self._testbed.kube)
        for first, second in [(a, b) for a in ranks for b in ranks if a != b] + [(a, a) for a in ranks]:
            nodes = {rank.rank: rank.primary.node for rank in ranks if rank.primary}
            for hit in (first, second):
                nodes[hit.rank] = hit.redundant[0].node if nodes[hit.rank] != hit.redundant[0].node else ""
            if any(node not in ("", home) for node in nodes.values()):
                return first.rank, second.rank
        return 0, len(ranks) - 1

    def _exposed(self) -> int:
        """Find a rank whose primary can be lost with its node; move one there if there is none."""
        self._testbed.wait_settled(JOB)
        home = operator.node(self._testbed.kube)
        ranks = self._testbed.world.ranks(JOB)
        for rank in ranks:
            if rank.primary and rank.primary.node != home and any(p.node != rank.primary.node for p in rank.redundant):
                return rank.rank
        self._screen.say("moving a primary off the operator's node first; this is not counted", "dim")
        placement.expose(self._testbed, JOB, 0)
        return 0

    def _lose(self, rank: int, fault: Fault, title: str) -> None:
        self._screen.chapter(title)
        self._testbed.wait_settled(JOB)
        pod = self._testbed.primary(JOB, rank)
        self._wait_for_a_checkpoint(pod.name)
        match fault:
            case faults.KUBECTL_DELETE:
                self._screen.command(f"kubectl delete pod {pod.name} --wait=false")
            case faults.KILL_TRAINER:
                trainer = faults.agent_and_trainer(self._testbed, pod)[1]
                kill = self._testbed.cluster.signal_command(trainer, signal.SIGKILL)
                self._screen.command(f"{kill}    # {' '.join(trainer.argv[:2])} … of {pod.name}")
            case _:
                self._screen.command(f"the power of {pod.node} is cut: it runs {self._who_runs_on(pod.node)}")
        found = measure.failover(self._testbed, JOB, rank, fault)
        self._failovers.append(found)
        self._screen.result(found, said=said_by_status(found))
        check(found, fault, self._save_every)
        if fault.node:
            self._screen.say(f"{pod.node} is switched on again")
            fault.undo(self._testbed, pod.node)
            self._screen.say(f"{pod.node} is Ready")

    def _hindrance(self) -> str:
        """Say why the loss of a node cannot be shown; empty when it can. The volume may be that of an earlier run."""
        claim = self._testbed.kube.get(f"/api/v1/namespaces/default/persistentvolumeclaims/{claim_name(JOB)}")
        modes = claim.get("status", {}).get("accessModes", ())
        return hindrance(modes, shared=self._testbed.cluster.has_shared_volumes)

    def _wait_for_a_checkpoint(self, pod: str) -> None:
        log = self._testbed.logs.of(pod)
        self._testbed.wait_until(
            lambda: log.steps and log.steps[-1].step > self._save_every,
            timeout_s=COMPLETE_WITHIN_S,
            what=f"step {self._save_every} of {pod}",
        )

    def _who_runs_on(self, node: str) -> str:
        pods = [p for p in self._testbed.world.pods.values() if p.job == JOB and p.node == node and p.running]
        return ", ".join(f"{pod.name} ({pod.role})" for pod in pods)

    def _complete(self) -> None:
        self._screen.chapter("The job completes")
        status = self._testbed.status
        try:
            self._testbed.wait_until(
                lambda: status(JOB).phase in (JobPhase.SUCCEEDED, JobPhase.FAILED),
                timeout_s=COMPLETE_WITHIN_S,
                what="the end of the job",
            )
        except TestbedError as error:
            raise TestbedError(f"{error}; {self._testbed.world.describe(JOB)}") from None
        if status(JOB).phase != JobPhase.SUCCEEDED:
            failed = status(JOB).condition(ConditionType.FAILED)
            raise TestbedError(f"the job failed: {failed.message if failed else 'its status does not say why'}")
        for rank in status(JOB).ranks:
            found = accuracy(self._testbed, rank.primary or "", rank.rank)
            self._screen.say(f"rank {rank.rank}: {found} on images that it never saw")
        self._screen.say("the job has succeeded", "bold green")

    def _conclude(self, began: float) -> None:
        table = Table(
            title="Seconds since the fault, measured from outside; beside them what the status says, since the failure",
            title_justify="left",
            box=box.SIMPLE_HEAD,  # with lines and wide gaps between the columns it is wider than a log
            collapse_padding=True,
            pad_edge=False,
        )
        for column in ("fault", "rank", "promoted", "term", "cause"):
            table.add_column(column, no_wrap=True)
        for column in ("decision", "first step", "status", "steps lost", "status"):
            table.add_column(column, justify="right", no_wrap=True)
        for f in self._failovers:
            bound = "≥ " if f.status.lost_steps_is_lower_bound else ""
            table.add_row(
                *(TITLES[f.fault], str(f.rank), f.new, str(f.term), f.cause),
                *(f"{f.decided_s:.2f}", f"{f.took_s:.2f}", said_seconds(f)),
                *(str(f.lost_steps), f"{bound}{f.status.lost_steps}"),
            )
        self._screen.table(table)
        self._screen.chapter("What is left")
        self._screen.command("kubectl get tj,pods,leases")
        self._screen.plain(self._kubectl("get", "tj,pods,leases"))
        timeline, small = draw(self._testbed, self._failovers, began, self._output)
        self._screen.say(f"the timeline is in {_short(timeline)}, a small one in {_short(small)}", "bold")

    def _kubectl(self, *arguments: str) -> str:
        done = subprocess.run(
            self._testbed.kubectl(*arguments), capture_output=True, text=True, timeout=KUBECTL_WITHIN_S, check=False
        )
        if done.returncode:
            raise TestbedError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def _short(path: Path) -> str:
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)
