"""What goes wrong, and how often: each fault begins when it is called, and plans its own end.

A fault draws what it hits and for how long from the simulation's one source of chance. All of them have ended when
`heal` was called, but for a program that stands still before a call to the file system: that is how a writer which was
superseded long ago wakes up.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation import api_faults, machine_faults, trainer_faults
from tests.simulation.network import CALM

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Fault = Callable[["Simulation"], None]

WEIGHTS: dict[Fault, int] = {
    machine_faults.operator_crashes: 8,
    machine_faults.operator_is_cut_off: 4,
    machine_faults.operator_stands_still: 4,
    machine_faults.second_operator: 1,
    machine_faults.node_loses_power: 5,
    machine_faults.node_is_cut_off: 7,
    machine_faults.node_stands_still: 5,
    machine_faults.all_power_is_lost: 4,
    trainer_faults.container_stands_still: 6,
    trainer_faults.trainer_dies: 6,
    trainer_faults.trainer_is_held_between_two_calls: 14,
    trainer_faults.trainer_dies_between_two_calls: 6,
    trainer_faults.call_fails: 4,
    trainer_faults.requests_are_repeated: 2,
    api_faults.pod_is_deleted: 8,
    api_faults.server_is_down: 4,
    api_faults.weather_is_bad: 9,
    api_faults.watches_break: 3,
    api_faults.lease_is_deleted: 2,
    trainer_faults.checkpoint_is_damaged: 3,
    trainer_faults.newest_term_is_damaged: 4,
    trainer_faults.superseded_primary_goes_on: 6,
    api_faults.job_is_suspended: 3,
    api_faults.lease_duration_is_changed: 2,
    api_faults.switchover_is_asked_for: 4,
    machine_faults.wall_clock_jumps: 2,
    machine_faults.all_nodes_are_cut_off: 0,  # drawn with a job that is long enough: plan.py
    api_faults.etcd_is_restored: 3,
}
BY_NAME: dict[str, Fault] = {fault.__name__: fault for fault in WEIGHTS}


def heal(sim: "Simulation") -> None:
    """End every fault."""
    sim.say("fault", "no more faults from here on")
    sim.change_spec({"suspend": False})
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
