"""What one decision of the operator costs, by the number of ranks; and one renewal that says nothing new.

    python -m benchmarks.decide [--ranks 1,64,512] [--seconds 1] [--json FILE]

A job is fed into the operator's own caches as the watches would feed it: a TrainingJob, a claim, two nodes, and for
each rank its two Leases and its two pods, all of them well. No API server is asked. Then four things are timed:

- *renewal*: the text of a Lease that was renewed, decoded and taken in; nobody is woken by it.
- *observe*: the caches of the job made into an Observation, once for each cycle.
- *nothing to do*: a whole decision about a job that is well, status, conditions and Events included.
- *a promotion*: the decision about the same job with the first rank's primary gone, up to the promotion.

Times are CPU time of this thread, so that other work on the machine counts as little as it can, and without collections
of garbage. The median is shown, and the time that 95% of the runs stay below. Goals are shown and never asserted.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from understudy_contract.names import (
    API_VERSION,
    KIND,
    Annotation,
    Rank,
    Term,
    pod_name,
)
from understudy_kube.client import Api, Credentials
from understudy_kube.informer import Key
from understudy_operator import children
from understudy_operator.core.actions import CreatePod, OpenRank, Placement, WriteStatus
from understudy_operator.core.decide import decide
from understudy_operator.core.model import Job, Now, Observation
from understudy_operator.observe import observe
from understudy_operator.world import World

from benchmarks.stats import percentile

KEY: Final[Key] = ("default", "digits")
NODES: Final = ("node-a", "node-b")
GOALS_MS: Final = {1: 0.15, 64: 1.5, 512: 12.0}
"""Of a decision with a promotion, by the number of ranks."""
AT: Final = 1000.0
STAMP: Final = "2026-01-01T00:00:00.000000Z"
ROUNDS_MIN: Final = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """Times of one kind for one number of ranks, in milliseconds."""

    what: str
    ranks: int
    rounds: int
    p50_ms: float
    p95_ms: float


class Stage:
    """A job that is well, in the operator's caches."""

    def __init__(self, ranks: int) -> None:
        self.woken: list[Key] = []
        self.now = Now(AT, datetime(2026, 1, 1, tzinfo=UTC))
        api = Api(Credentials("http://127.0.0.1:1", None))
        self.world = World(api, self.woken.append, lambda: AT)
        self.ranks = ranks
        self._version = 0
        self._take_job({})
        self._put(
            self.world.claims, children.claim(self.job), status={"phase": "Bound", "accessModes": ["ReadWriteMany"]}
        )
        for name in NODES:
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            self._put(self.world.nodes, {"metadata": {"name": name}}, status=ready)
        for rank in range(ranks):
            self._add_rank(Rank(rank))
        memo = self.world.jobs.memo(self.job.uid)
        leases = [lease(Rank(rank)) for rank in range(ranks) for lease in (self._rank_lease, self._slot_lease)]
        memo.identity, memo.prepared_at, memo.prepared_generation = self.job.identity, AT, self.job.generation
        memo.granted, memo.budgets = frozenset((None, lease["metadata"]["name"]) for lease in leases), True
        memo.status_written_at = AT
        written = [a for a in decide(self.observe(), self.now).rest if isinstance(a, WriteStatus)]
        self._take_job(msgspec.to_builtins(written[0].status))

    @property
    def job(self) -> Job:
        """The job as it is known."""
        found = self.world.jobs.known(KEY)
        assert found is not None
        return found

    def observe(self) -> Observation:
        """Build the Observation."""
        found = observe(self.world, KEY, AT)
        assert found is not None
        return found

    def lose_primary(self, rank: int) -> None:
        """Let the pod of a primary be gone."""
        name = pod_name(self.job.name, rank, 0)
        self.world.pods.remove((self.job.namespace, name), f"uid-{name}")

    def renew(self, text: bytes) -> Callable[[], None]:
        """Return what takes in one renewal after the other of the last rank's Lease, each with a version of its own."""
        version = self._version

        def take_in() -> None:
            nonlocal version
            version += 1
            self.world.leases.upsert(text.replace(b'"VERSION"', b'"%d"' % version))

        return take_in

    def renewal(self) -> bytes:
        """Build the text of the last rank's Lease, with a place for its version and a new stamp."""
        body = self._rank_lease(Rank(self.ranks - 1))
        body["metadata"] |= {"uid": f"uid-{body['metadata']['name']}", "resourceVersion": "VERSION"}
        body["spec"]["renewTime"] = "2026-01-01T00:00:01.000000Z"
        return json.dumps(body).encode()

    def _take_job(self, status: Any) -> None:
        self._version += 1
        meta = {"namespace": "default", "name": "digits", "uid": "job-uid", "resourceVersion": str(self._version)}
        template = {"spec": {"containers": [{"name": "trainer", "command": ["python", "train.py"]}]}}
        body = {"metadata": {**meta, "generation": 1}, "spec": {"ranks": self.ranks, "template": template}}
        self.world.take_job(json.dumps({"apiVersion": API_VERSION, "kind": KIND, **body, "status": status}).encode())

    def _put(self, informer: Any, body: dict[str, Any], **fields: Any) -> None:
        self._version += 1
        meta = {**body["metadata"], "uid": f"uid-{body['metadata']['name']}", "resourceVersion": str(self._version)}
        informer.upsert(json.dumps({**body, "metadata": meta, **fields}).encode())

    def _add_rank(self, rank: Rank) -> None:
        self._put(self.world.leases, self._rank_lease(rank))
        self._put(self.world.leases, self._slot_lease(rank))
        for slot, node in ((None, NODES[0]), (0, NODES[1])):
            name = pod_name(self.job.name, rank, 0 if slot is None else 1)
            order = CreatePod(name, rank, slot, Term(1), Placement(False, ()))
            pod = children.pod(self.job, order)
            pod["spec"]["nodeName"] = node
            running = {"name": "trainer", "state": {"running": {"startedAt": STAMP}}}
            ready = {"type": "Ready", "status": "True"}
            status = {"phase": "Running", "conditions": [ready], "containerStatuses": [running]}
            self._put(self.world.pods, pod, status=status)

    def _rank_lease(self, rank: Rank) -> dict[str, Any]:
        name = pod_name(self.job.name, rank, 0)
        body = children.rank_lease(self.job, OpenRank(rank, Term(1), name, 2), self.now)
        beat = {"pod": name, "term": 1, "phase": "training", "step": 120, "checkpoint": _CHECKPOINT}
        body["metadata"]["annotations"][Annotation.HEARTBEAT] = json.dumps(beat)
        return body

    def _slot_lease(self, rank: Rank) -> dict[str, Any]:
        name = pod_name(self.job.name, rank, 1)
        body = children.slot_lease(self.job, rank, 0)
        beat = {"pod": name, "term": 1, "phase": "ready", "loaded": _CHECKPOINT}
        body["metadata"]["annotations"][Annotation.HEARTBEAT] = json.dumps(beat)
        body["spec"] |= {"holderIdentity": name, "leaseTransitions": 1, "renewTime": STAMP}
        return body


_CHECKPOINT: Final = {"term": 1, "step": 100, "digest": "sha-1-100"}


def measure(ranks: int, seconds: float) -> list[Cost]:
    """Time everything for one number of ranks."""
    stage = Stage(ranks)
    well = stage.observe()
    at_rest = decide(well, stage.now)
    assert not at_rest.promotions and not at_rest.rest and not at_rest.faults, "a job that is well needs nothing"
    stage.woken.clear()
    costs = [_timed("renewal", ranks, stage.renew(stage.renewal()), seconds)]
    assert not stage.woken, "a renewal that says nothing new wakes nobody"
    costs.append(_timed("observe", ranks, stage.observe, seconds))
    costs.append(_timed("nothing to do", ranks, lambda: decide(well, stage.now), seconds))
    stage.lose_primary(0)
    lost = stage.observe()
    assert len(decide(lost, stage.now).promotions) == 1
    costs.append(_timed("a promotion", ranks, lambda: decide(lost, stage.now), seconds))
    return costs


def _timed(what: str, ranks: int, work: Callable[[], object], seconds: float) -> Cost:
    """Run something again and again for so long, and at least ROUNDS_MIN times."""
    work()
    taken: list[float] = []
    gc.collect()
    gc.disable()
    try:
        until = time.monotonic() + seconds
        while len(taken) < ROUNDS_MIN or time.monotonic() < until:
            began = time.thread_time()
            work()
            taken.append(1000 * (time.thread_time() - began))
    finally:
        gc.enable()
    return Cost(what, ranks, len(taken), round(statistics.median(taken), 4), round(percentile(taken, 0.95), 4))


def show(costs: list[Cost]) -> None:
    """Print the table."""
    table = Table(title="One decision of the operator, by ranks")
    for column in ("what", "ranks", "rounds", "p50 ms", "p95 ms", "µs a rank", "goal ms"):
        table.add_column(column, justify="left" if column == "what" else "right", no_wrap=True)
    for cost in costs:
        goal = GOALS_MS.get(cost.ranks) if cost.what == "a promotion" else None
        a_rank = f"{1000 * cost.p50_ms / cost.ranks:.1f}" if cost.what != "renewal" else ""
        row = (cost.what, f"{cost.ranks}", f"{cost.rounds}", f"{cost.p50_ms:.3f}", f"{cost.p95_ms:.3f}", a_rank)
        table.add_row(*row, f"{goal}" if goal is not None else "")
    Console().print(table)


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="1,64,512", help="numbers of ranks, by commas (1,64,512)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each thing is timed (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    asked = parser.parse_args(argv)
    costs = [cost for ranks in asked.ranks.split(",") for cost in measure(int(ranks), asked.seconds)]
    show(sorted(costs, key=lambda cost: cost.what))
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
