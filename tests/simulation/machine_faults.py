"""Faults of machines: operators, nodes, power, clocks."""

from typing import TYPE_CHECKING, Any

from tests.simulation.spans import span

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


def operator_crashes(sim: "Simulation") -> None:
    """The operator dies between any two of its requests, and is started again."""
    name = sim.random.choice(list(sim.operators))
    operator = sim.operators[name]
    if operator is None:
        return

    def die() -> None:
        if sim.operators[name] is operator:
            sim.say("fault", f"{name} dies")
            sim.stop_operator(name)
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
        seconds, clock_too = span(sim), sim.random.random() < 0.5
        sim.say("fault", f"{name} stands still for {seconds:.1f} s{', its clock too' if clock_too else ''}")
        operator.process.pause(clock_too=clock_too)
        sim.timeline.after(seconds, operator.process.resume)


def second_operator(sim: "Simulation") -> None:
    """One more replica acts at once."""
    sim.say("fault", "one more operator")
    sim.start_operator(f"operator-{len(sim.operators)}")


def node_loses_power(sim: "Simulation") -> None:
    """A node goes dark; if the volume is its own disk, whatever was not synced may be lost."""
    node = sim.random.choice(sim.nodes)
    seconds = span(sim)
    sim.say("fault", f"{node.name} loses its power for {seconds:.1f} s")
    sim.cluster.cut_power(node)
    if not sim.plan.shared and node.name == sim.cluster.volume_node:
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
    seconds = span(sim)
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


def all_nodes_are_cut_off(sim: "Simulation") -> None:
    """No worker and no kubelet reaches the API server, for longer than the node controller waits."""
    sim.say("fault", "all nodes are cut off for 70 s")
    for node in sim.nodes:
        node.link.cut()
        sim.cluster.silent(node)
        sim.timeline.after(70.0, node.link.mend)


def wall_clock_jumps(sim: "Simulation") -> None:
    """A machine's wall clock is set, by up to hours."""
    processes = [container.agent for container in sim.containers()]
    processes += [operator.process for operator in sim.operators.values() if operator is not None]
    if processes:
        process, error_s = sim.random.choice(processes), sim.random.choice((-3600.0, -30.0, 30.0, 3600.0))
        sim.say("fault", f"the wall clock of {process.name} jumps by {error_s:g} s")
        process.wall_error_s += error_s


def _cut(sim: "Simulation", name: str, link: Any) -> None:
    seconds, kind = span(sim), sim.random.choice(("both", "both", "to", "from"))
    sim.say("fault", f"{name} is cut off for {seconds:.1f} s ({kind} the API server)")
    link.cut(to_server=kind != "from", from_server=kind != "to")
    sim.timeline.after(seconds, link.mend)
