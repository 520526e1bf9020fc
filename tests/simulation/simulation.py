"""One simulated world, made and run from a seed: the same seed gives the same world and the same run, to the last line.

The product's code is real wherever it decides or writes: decide and all around it, the informers, the agent's machine
and requests, the Session, the checkpoint store. seams.py lists what is not.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from logging import LogRecord
from random import Random
from typing import Any, NoReturn

import msgspec
from understudy import protocol
from understudy.checkpoint.format import STATE
from understudy.errors import CheckpointDamaged
from understudy_contract.lease import decode_lease
from understudy_contract.names import Env, rank_lease_name

from tests.simulation.client import Api
from tests.simulation.cluster import Cluster, Node
from tests.simulation.controller import Operator
from tests.simulation.faults import BY_NAME, WEIGHTS, heal
from tests.simulation.invariants import Invariants
from tests.simulation.network import Link, Network
from tests.simulation.plan import CALM_AFTER_S, Plan, draw
from tests.simulation.seams import installed
from tests.simulation.server import Json, Server, merged
from tests.simulation.timeline import EPOCH, Process, Timeline, ViolationError
from tests.simulation.transcript import Transcript, brief
from tests.simulation.volume import Mount, Volume
from tests.simulation.worker import Container, Machinery

JOBS = "/apis/understudy.dev/v1alpha1/namespaces/default/trainingjobs"
REACHED_WITHIN_S = 600.0
"""After the last fault every job is through by then: what is left of it, a back-off of a minute and a wait for the
floor of a minute, each several times over."""
SETTLED_WITHIN_S = 60.0
"""From the end of the job, and of all faults, until every label is right."""


@dataclass(slots=True)
class Outage:
    """The last time in which the API server answered nobody."""

    began_at: float = 0.0
    clocks: list[tuple[Process, float]] = field(default_factory=list)
    """Operators that lived when it began, and what their clocks showed then."""
    ended_at: float = 0.0
    length_s: float = 0.0
    """As the operator saw it whose clock stood still for the longest."""

    def end(self, at: float) -> None:
        """Let it be over."""
        self.ended_at = at
        self.length_s = min((process.time() - then for process, then in self.clocks if process.alive), default=math.inf)


class Simulation:
    """A cluster with one TrainingJob, from its making to its end."""

    job = "digits"

    def __init__(self, plan: Plan, random: Random | None = None) -> None:
        self.plan = plan
        self.random = random or Random(plan.seed)
        self.timeline = Timeline()
        self.transcript = Transcript(self.timeline)
        self.violation = ""
        self.outage = Outage()
        self.sent_twice_until = 0.0
        self.server = Server(lambda: EPOCH + timedelta(seconds=self.timeline.now))
        self.network = Network(self.server, self.timeline, self.random)
        self.volume = Volume(links=plan.links)
        self.nodes = [self._node(number) for number in range(plan.nodes)]
        modes = ["ReadWriteMany" if plan.shared else "ReadWriteOnce"]
        self.cluster = Cluster(self.network, self.random, self.nodes, modes, self._start)
        self.operators: dict[str, Operator | None] = {}
        self.operator_links: dict[str, Link] = {}
        self.server.observers.append(self.transcript.note)
        self.invariants = Invariants(self)

    def run(self) -> None:
        """Live through it all; raises ViolationError."""
        with installed(self.random, self._hear):
            try:
                self._begin()
                while not self.is_over():
                    if self.timeline.now > CALM_AFTER_S + REACHED_WITHIN_S:
                        phase = self.transcript.phase or "not begun"
                        self.violate(f"invariant 14: the job is {phase}, {REACHED_WITHIN_S:.0f} s after the last fault")
                    self._go_on()
                until = max(self.timeline.now, CALM_AFTER_S) + SETTLED_WITHIN_S
                while (mislabelled := self.invariants.mislabelled()) and self.timeline.now < until:
                    self._go_on()
                for name in list(self.operators):
                    self.stop_operator(name)
                self.invariants.at_end(mislabelled)
            finally:
                self._end()

    def is_over(self) -> bool:
        """Tell whether the job has succeeded."""
        return self.transcript.phase == "Succeeded"

    def say(self, who: str, text: str) -> None:
        """Write a line of the transcript."""
        self.transcript.say(who, text)

    def violate(self, what: str) -> NoReturn:
        """Take note of a promise that was broken, and stop here."""
        self.violation = self.violation or what
        raise ViolationError(what)

    # What faults and invariants ask for

    @property
    def max_failures(self) -> int:
        """Each fault may end the program once; whatever else ends it must not count."""
        return len(self.plan.faults) + 1

    @property
    def job_uid(self) -> str:
        """The job's uid."""
        job = self.server.find("trainingjobs", self.job)
        assert job is not None
        uid: str = job["metadata"]["uid"]
        return uid

    def containers(self) -> list[Container]:
        """Give the containers that run."""
        return [c for node in self.nodes for c in node.containers.values() if c.code is None]

    def complete(self, rank: int) -> bool:
        """Tell whether a rank, or the job, is complete."""
        if self.is_over() or self.server.find("leases", rank_lease_name(self.job, rank)) is None:
            return self.is_over()
        release = decode_lease(self.server.raw("leases", rank_lease_name(self.job, rank))).current_release
        return release is not None and release.reason == "Completed"

    def start_operator(self, name: str) -> None:
        """Start a replica of the operator, unless it runs."""
        if self.operators.get(name) is not None:
            return
        link = self.operator_links.setdefault(name, Link(self.timeline))
        rate, error_s = self._clock()
        process = Process(self.timeline, name, rate=rate, wall_error_s=error_s)
        self.operators[name] = Operator(Api(self.network, process, link), elected=self.plan.elected)
        self.say(name, "starts")

    def stop_operator(self, name: str) -> None:
        """Kill a replica of the operator."""
        operator, self.operators[name] = self.operators[name], None
        if operator is not None:
            operator.process.kill()
            for text in operator.process.trouble:
                self.violate(f"invariant 11: {name}: {text}")

    def set_down(self, down: bool) -> None:
        """Let the API server answer nobody, or again."""
        if down and not self.network.down:
            operators = [operator.process for operator in self.operators.values() if operator is not None]
            self.outage = Outage(self.timeline.now, [(process, process.time()) for process in operators])
        elif not down and self.network.down:
            self.outage.end(self.timeline.now)
            self.invariants.hear_again(self.outage.began_at)
        self.network.down = down

    def cut_volume_power(self) -> None:
        """Let the volume keep what is durable, and of the rest what chance keeps."""
        self.volume.power_cut(self.random)
        self.invariants.ledger.look_at_volume()

    def change_spec(self, change: Json) -> None:
        """Change the job, as a person does."""
        job = self.server.find("trainingjobs", self.job)
        assert job is not None
        patch = {"metadata": {"generation": job["metadata"]["generation"] + 1}, "spec": change}
        if merged(job["spec"], change) != job["spec"]:
            self.server.update("user", "trainingjobs", self.job, patch)

    def forget_reports(self) -> None:
        """Take note that the API server has lost what was reported to it since a backup."""
        self.transcript.phase = (self.server.find("trainingjobs", self.job) or {}).get("status", {}).get("phase", "")
        self.invariants.forget_reports()

    def damage(self, rank: int, *, whole_term: bool) -> None:
        """Change a byte of the newest checkpoint of a rank, or of all in its folder, if a whole one is left then."""
        store = self.invariants.ledger.store(rank)
        try:
            newest = store.newest(None, wait_s=0.0)
        except CheckpointDamaged as error:
            self.violate(f"invariant 3: of rank {rank}, nothing whole is left: {error}")
        if newest is None or newest.location.name == "step-0":
            return
        folder = newest.location.parent
        steps = self.volume.names(folder) if whole_term else [newest.location.name]
        hit = [folder / s / STATE for s in steps if s.startswith("step-") and STATE in self.volume.names(folder / s)]
        for path in hit:
            self.volume.damage(path, _flip)
        try:
            store.newest(None, wait_s=0.0)
        except CheckpointDamaged:
            for path in hit:
                self.volume.damage(path, _flip)
        else:
            self.say(
                "fault", f"rank {rank}: {', '.join(f'{p.parent.parent.name}/{p.parent.name}' for p in hit)} damaged"
            )
            self.invariants.ranks[rank].damaged = True

    # Making, and the end

    def _begin(self) -> None:
        self.server.post("user", JOBS, _job(self.job, self.plan, self.max_failures))
        self.invariants.ledger.open(self.job_uid)
        for number in range(self.plan.operators):
            self.start_operator(f"operator-{number}")
        for at, name in self.plan.faults:
            self.timeline.at(at, BY_NAME[name], self)
        self.timeline.at(CALM_AFTER_S, heal, self)

    def _go_on(self) -> None:
        self.timeline.next()
        if self.violation:
            raise ViolationError(self.violation)

    def _end(self) -> None:
        for operator in self.operators.values():
            if operator is not None:
                operator.process.kill()
        for container in self.containers():
            container.kill()

    def _node(self, number: int) -> Node:
        cache_s = self.plan.cache_s * self.random.choice((0.0, 0.5, 1.0, 1.0))
        mount = Mount(self.volume, lambda: self.timeline.now, cache_s, self._sent_twice)
        return Node(f"node-{number}", Link(self.timeline), mount, *self._clock())

    def _clock(self) -> tuple[float, float]:
        """Draw how fast a machine's clocks run, and by how much its wall clock is wrong."""
        return self.random.choice((1.0, 1.0, 0.97, 1.03)), self.random.choice((0.0, 0.0, 0.3, -20.0, 90.0))

    def _sent_twice(self) -> bool:
        return self.timeline.now < self.sent_twice_until and self.random.random() < 0.3

    def _start(self, node: Node, pod: Json) -> Container:
        trainer = next(c for c in pod["spec"]["containers"] if c["name"] == "trainer")
        environment = {entry["name"]: entry.get("value", "") for entry in trainer["env"]}
        environment[Env.POD_UID] = pod["metadata"]["uid"]
        around = Machinery(
            network=self.network,
            link=node.link,
            mount=node.mount,
            rate=node.rate,
            wall_error_s=node.wall_error_s,
            script=self.plan.script,
            say=self.say,
            heard=self._heard,
            failed=self.invariants.on_failure,
            exited=partial(self._exited, node),
        )
        return Container(around, pod["metadata"]["name"], pod["metadata"]["uid"], environment)

    # What is heard

    def _heard(self, container: Container, message: protocol.FromTrainer) -> None:
        self.say(container.name, f"trainer: {brief(message)}")
        self.invariants.on_message(container, message)

    def _exited(self, node: Node, container: Container) -> None:
        self.say(container.name, f"its container ends with {container.code} {container.message}")
        self.invariants.on_exit(container)
        self.cluster.ended(node, container)

    def _hear(self, record: LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            self.violate(f"invariant 11: {text} {record.exc_info[1]!r}")
        self.say("operator", text)


def simulate(seed: int, faults: Mapping[Callable[..., None], int] = WEIGHTS) -> Simulation:
    """Run a seed to its end; its `violation` says which promise was broken, if one was."""
    simulation = Simulation(draw(seed, {fault.__name__: weight for fault, weight in faults.items()}))
    try:
        simulation.run()
    except ViolationError as violation:
        simulation.violation = simulation.violation or str(violation)
    return simulation


def _flip(data: bytearray) -> None:
    data[-1] ^= 1


def _job(name: str, plan: Plan, max_failures: int) -> bytes:
    body: dict[str, Any] = {
        "metadata": {"name": name, "generation": 1},
        "spec": {
            "ranks": plan.ranks,
            "redundancy": plan.redundancy,
            "template": {"spec": {"containers": [{"name": "trainer", "command": ["train"]}]}},
            "checkpoint": {"keep": plan.keep},
            "failover": {
                "leaseDurationSeconds": plan.lease_s,
                "handOverSeconds": plan.hand_over_s,
                "progressDeadlineSeconds": plan.progress_s,
                "startupDeadlineSeconds": 100,
                "maxFailuresWithoutProgress": max_failures,
            },
        },
    }
    return msgspec.json.encode(body)
