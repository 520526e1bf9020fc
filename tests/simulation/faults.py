"""What goes wrong: each fault begins when it is called, and plans its own end.

A fault draws what it hits and for how long from the simulation's one source of chance. All of them have ended when
`heal` was called, but for a program that stands still before a call to the file system: that is how a writer which was
superseded long ago wakes up.
"""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from understudy_contract.names import Annotation, rank_lease_name, slot_lease_name

from tests.simulation.network import CALM, Weather
from tests.simulation.worker import Container

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Fault = Callable[["Simulation"], None]

PODS = "/api/v1/namespaces/default/pods"


def operator_crashes(sim: "Simulation") -> None:
    """The operator dies between any two of its requests, and is started again."""
    name = sim.random.choice(list(sim.operators))
    operator = sim.operators[name]
    if operator is None:
        return

    def die() -> None:
        if sim.operators[name] is operator:
            sim.say("fault", f"{name} dies")
            operator.process.kill()
            sim.operators[name] = None
            sim.timeline.after(sim.random.choice((0.1, 2.0, 20.0)), sim.start_operator, name)

    operator.api.after_requests(sim.random.randint(1, 12), die)


def operator_is_cut_off(sim: "Simulation") -> None:
    """The operator's machine loses its way to the API server, or back."""
    name = sim.random.choice(list(sim.operator_links))
    _cut(sim, name, sim.operator_links[name])


def operator_stands_still(sim: "Simulation") -> None:
    """The operator is stopped for a while, its clock with it or not."""
    name = sim.random.choice(list(sim.operators))
    operator = sim.operators[name]
    if operator is not None:
        seconds, clock_too = _span(sim), sim.random.random() < 0.5
        sim.say("fault", f"{name} stands still for {seconds:.1f} s{', its clock too' if clock_too else ''}")
        operator.process.pause(clock_too=clock_too)
        sim.timeline.after(seconds, operator.process.resume)


def second_operator(sim: "Simulation") -> None:
    """One more replica acts at once."""
    sim.say("fault", "one more operator")
    sim.start_operator(f"operator-{len(sim.operators)}")


def node_loses_power(sim: "Simulation") -> None:
    """A node goes dark; with a disk of its own, whatever was not synced may be lost."""
    node = sim.random.choice(sim.nodes)
    seconds = _span(sim)
    sim.say("fault", f"{node.name} loses its power for {seconds:.1f} s")
    sim.cluster.cut_power(node)
    if not sim.plan.shared:
        sim.cut_volume_power()
    sim.timeline.after(seconds, sim.cluster.restore_power, node)


def node_is_cut_off(sim: "Simulation") -> None:
    """A node loses its way to the API server, or back; its volume it keeps."""
    node = sim.random.choice(sim.nodes)
    _cut(sim, node.name, node.link)
    sim.cluster.silent(node)


def node_stands_still(sim: "Simulation") -> None:
    """A node stops and goes on, as a virtual machine that is moved."""
    node = sim.random.choice(sim.nodes)
    seconds = _span(sim)
    sim.say("fault", f"{node.name} stands still for {seconds:.1f} s")
    sim.cluster.pause(node, clock_too=sim.random.random() < 0.5)
    sim.timeline.after(seconds, sim.cluster.resume, node)


def all_power_is_lost(sim: "Simulation") -> None:
    """Every node and the volume's own machine go dark at one moment."""
    seconds = sim.random.choice((1.0, 10.0))
    sim.say("fault", f"all power is lost for {seconds:g} s")
    for node in sim.nodes:
        sim.cluster.cut_power(node)
    sim.cut_volume_power()
    for node in sim.nodes:
        sim.timeline.after(seconds, sim.cluster.restore_power, node)


def container_stands_still(sim: "Simulation") -> None:
    """A container, or its trainer alone, is stopped for a while."""
    if (container := _some_container(sim)) is None:
        return
    seconds, whole = _span(sim), sim.random.random() < 0.6
    sim.say("fault", f"{container.name}: {'all of it' if whole else 'its trainer'} stands still for {seconds:.1f} s")
    stopped: Any = container if whole else container.program
    stopped.pause()
    sim.timeline.after(seconds, stopped.resume)


def trainer_dies(sim: "Simulation") -> None:
    """A trainer is killed, or its whole container."""
    if (container := _some_container(sim)) is not None:
        if sim.random.random() < 0.6:
            sim.say("fault", f"the trainer of {container.name} dies")
            container.kill_trainer(sim.random.choice((1, 137)))
        else:
            sim.say("fault", f"{container.name} dies")
            container.kill()


def trainer_is_held_between_two_calls(sim: "Simulation") -> None:
    """A trainer stands still before a call to the file system, for up to minutes: longer than its term may last."""

    def hold() -> float:
        seconds = sim.random.choice((0.5, 5.0, 20.0, 60.0, 120.0))
        sim.say("fault", f"{container.name} stands still for {seconds:g} s before {container.call}")
        sim.invariants.look_at_volume()
        return seconds

    if (container := _some_container(sim)) is not None:
        container.program.interrupt(sim.random.randint(1, 80), hold)


def trainer_dies_between_two_calls(sim: "Simulation") -> None:
    """A trainer is killed before a call to the file system."""

    def die() -> None:
        sim.say("fault", f"the trainer of {container.name} dies before {container.call}")

    if (container := _some_container(sim)) is not None:
        container.program.interrupt(sim.random.randint(1, 80), die)


def call_fails(sim: "Simulation") -> None:
    """A call to the file system fails, once."""

    def fail() -> float:
        number = sim.random.choice((errno.EIO, errno.ENOSPC, errno.ESTALE))
        sim.say("fault", f"{container.name}: {container.call} fails with {errno.errorcode[number]}")
        raise OSError(number, os.strerror(number))

    if (container := _some_container(sim)) is not None:
        container.program.interrupt(sim.random.randint(1, 80), fail)


def requests_are_repeated(sim: "Simulation") -> None:
    """For a while, folders are made by requests that the volume's clients send twice."""
    seconds = _span(sim)
    sim.say("fault", f"mkdir is sent twice for {seconds:.1f} s")
    sim.sent_twice_until = sim.timeline.now + seconds


def pod_is_deleted(sim: "Simulation") -> None:
    """Somebody deletes a pod, gently or not."""
    pods = [pod["metadata"]["name"] for pod in sim.server.all("pods")]
    if pods:
        name, forced = sim.random.choice(pods), sim.random.random() < 0.4
        sim.say("fault", f"pod {name} is deleted{' by force' if forced else ''}")
        options = {"gracePeriodSeconds": 0} if forced else {}
        sim.server.delete("user", f"{PODS}/{name}", msgspec.json.encode(options))


def server_is_down(sim: "Simulation") -> None:
    """The API server answers nobody."""
    seconds = _span(sim)
    sim.say("fault", f"the API server is down for {seconds:.1f} s")
    sim.set_down(True)
    sim.timeline.after(seconds, sim.set_down, False)


def weather_is_bad(sim: "Simulation") -> None:
    """Requests are refused, fail, get lost, are sent twice, are slow; watches break."""
    seconds, random = _span(sim), sim.random
    kinds = ("refused", "failed", "lost", "twice", "denied", "broken", "slow")
    chosen = {kind: random.choice((0.05, 0.2, 0.4)) for kind in random.sample(kinds, random.randint(1, 3))}
    weather = Weather(**chosen, latency_s=random.choice((0.01, 0.2)))
    sim.say("fault", f"for {seconds:.1f} s requests go wrong: {chosen}")
    sim.network.weather = weather

    def clear() -> None:
        if sim.network.weather is weather:
            sim.network.weather = CALM

    sim.timeline.after(seconds, clear)


def watches_break(sim: "Simulation") -> None:
    """Every watch ends, and perhaps its history is gone."""
    forgotten = sim.random.random() < 0.5
    sim.say("fault", f"all watches break{', and the history is compacted' if forgotten else ''}")
    if forgotten:
        sim.server.compact()
    for streams in list(sim.server.streams.values()):
        for stream in list(streams):
            stream.end()


def lease_is_deleted(sim: "Simulation") -> None:
    """Somebody deletes a Lease."""
    rank = sim.random.randrange(sim.plan.ranks)
    names = [rank_lease_name(sim.job, rank)]
    names += [slot_lease_name(sim.job, rank, slot) for slot in range(sim.plan.redundancy)]
    name = sim.random.choice(names)
    if sim.server.find("leases", name) is not None:
        sim.say("fault", f"Lease {name} is deleted")
        sim.server.remove("user", "leases", name)


def checkpoint_is_damaged(sim: "Simulation") -> None:
    """Bytes of the newest checkpoint of a rank change behind everybody's back."""
    rank = sim.random.randrange(sim.plan.ranks)
    sim.damage_newest(rank)


def switchover_is_asked_for(sim: "Simulation") -> None:
    """Somebody asks for another primary."""
    rank = sim.random.randrange(sim.plan.ranks)
    sim.say("fault", f"rank {rank} is asked to switch over")
    sim.server.update(
        "user", "trainingjobs", sim.job, {"metadata": {"annotations": {Annotation.SWITCHOVER: str(rank)}}}
    )


def wall_clock_jumps(sim: "Simulation") -> None:
    """A machine's wall clock is set, by up to hours."""
    processes = [container.agent for container in sim.containers()]
    processes += [operator.process for operator in sim.operators.values() if operator is not None]
    if processes:
        process, error_s = sim.random.choice(processes), sim.random.choice((-3600.0, -30.0, 30.0, 3600.0))
        sim.say("fault", f"the wall clock of {process.name} jumps by {error_s:g} s")
        process.wall_error_s += error_s


WEIGHTS: dict[Fault, int] = {
    operator_crashes: 8,
    operator_is_cut_off: 4,
    operator_stands_still: 4,
    second_operator: 2,
    node_loses_power: 5,
    node_is_cut_off: 7,
    node_stands_still: 5,
    all_power_is_lost: 4,
    container_stands_still: 6,
    trainer_dies: 6,
    trainer_is_held_between_two_calls: 14,
    trainer_dies_between_two_calls: 6,
    call_fails: 4,
    requests_are_repeated: 2,
    pod_is_deleted: 8,
    server_is_down: 4,
    weather_is_bad: 9,
    watches_break: 3,
    lease_is_deleted: 2,
    checkpoint_is_damaged: 3,
    switchover_is_asked_for: 4,
    wall_clock_jumps: 2,
}
BY_NAME: dict[str, Fault] = {fault.__name__: fault for fault in WEIGHTS}


def heal(sim: "Simulation") -> None:
    """End every fault."""
    sim.say("fault", "no more faults from here on")
    sim.set_down(False)
    sim.network.weather = CALM
    sim.sent_twice_until = 0.0
    for node in sim.nodes:
        sim.cluster.restore_power(node)
        sim.cluster.resume(node)
        node.link.mend()
    for container in sim.containers():
        container.resume()
    for name, operator in sim.operators.items():
        sim.operator_links[name].mend()
        if operator is not None:
            operator.process.resume()
            operator.api.after_requests(0, None)


def _cut(sim: "Simulation", name: str, link: Any) -> None:
    seconds, kind = _span(sim), sim.random.choice(("both", "both", "to", "from"))
    sim.say("fault", f"{name} is cut off for {seconds:.1f} s ({kind} the API server)")
    link.cut(to_server=kind != "from", from_server=kind != "to")
    sim.timeline.after(seconds, link.mend)


def _span(sim: "Simulation") -> float:
    """Draw how long a fault lasts: often shorter than a lease, sometimes longer than everything."""
    return sim.random.choice((0.5, 2.0, 5.0, 10.0, 10.0, 20.0, 60.0)) * sim.random.uniform(0.5, 1.0)


def _some_container(sim: "Simulation") -> Container | None:
    found = sim.containers()
    return sim.random.choice(found) if found else None
