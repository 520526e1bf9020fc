"""The stories: a small job each, what befalls it, and what a reader is to notice.

Every job has one rank with one redundant pod, a lease of 4 s, and a step a second with a checkpoint every two. A fault
is aimed at the pod, node or Lease that the story is about; nothing else goes wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from tests.simulation import api_faults, trainer_faults
from tests.simulation.cluster import Node
from tests.simulation.plan import Plan
from tests.simulation.simulation import Simulation
from tests.simulation.worker import Container, Script

Fault = Callable[[Simulation], object]
PODS: Final = "/api/v1/namespaces/default/pods"
PLAN: Final = Plan(
    seed=0,
    ranks=1,
    redundancy=1,
    keep=2,
    lease_s=4,
    hand_over_s=6,
    progress_s=15,
    script=Script(steps=12, save_every=2, step_s=1.0, import_s=0.5),
    nodes=3,
    shared=True,
    links=True,
    cache_s=0.0,
    operators=1,
    elected=False,
    faults=(),
)


@dataclass(frozen=True, slots=True)
class Story:
    """One job, and what befalls it."""

    title: str
    notice: str
    """What a reader is to notice, in two or three sentences."""
    faults: tuple[tuple[float, Fault], ...] = ()
    """When, and what."""


def primary(sim: Simulation) -> tuple[Node, Container]:
    """Find the container that trains, and its node."""
    found = [(node, c) for node in sim.nodes for c in node.containers.values() if c.is_primary and not c.code]
    return found[0]


def delete(sim: Simulation, *, drained: bool = False) -> None:
    """Delete the primary's pod, as a person does, or as the Eviction API does for a drain."""
    _, container = primary(sim)
    if drained:
        sim.say("fault", f"the node of pod {container.name} is drained: the pod is evicted")
        said = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
        sim.server.update("eviction", "pods", container.name, {"status": {"conditions": [said]}})
    else:
        sim.say("fault", f"pod {container.name} is deleted")
    sim.server.delete("eviction" if drained else "user", f"{PODS}/{container.name}", msgspec.json.encode({}))


def kill_trainer(sim: Simulation) -> None:
    """Kill the primary's trainer; its agent lives."""
    _, container = primary(sim)
    sim.say("fault", f"the trainer of {container.name} is killed")
    container.kill_trainer(137)


def freeze_trainer(sim: Simulation) -> None:
    """Stop the primary's trainer for good; its agent lives."""
    _, container = primary(sim)
    sim.say("fault", f"the trainer of {container.name} stands still")
    container.program.pause()


def cut_power(sim: Simulation) -> None:
    """Cut the power of the primary's node."""
    node, container = primary(sim)
    sim.say("fault", f"{node.name}, where {container.name} runs, loses its power for 60 s")
    sim.cluster.cut_power(node)
    sim.timeline.after(60.0, sim.cluster.restore_power, node)


def partition(sim: Simulation) -> None:
    """Cut the primary's node off from the API server; it keeps the volume."""
    node, container = primary(sim)
    sim.say("fault", f"{node.name}, where {container.name} runs, is cut off from the API server for 20 s")
    node.link.cut()
    sim.cluster.silent(node)

    def mend() -> None:
        sim.say("fault", f"{node.name} is heard again")
        node.link.mend()

    sim.timeline.after(20.0, mend)


def cut_all_off(sim: Simulation) -> None:
    """Cut all nodes off from the API server."""
    sim.say("fault", "all nodes are cut off from the API server for 12 s")
    for node in sim.nodes:
        node.link.cut()
        sim.cluster.silent(node)
        sim.timeline.after(12.0, node.link.mend)


def back_up(sim: Simulation, *, restored_after_s: float) -> None:
    """Back etcd up now, and restore that later."""
    backup = sim.server.backup()
    sim.say("fault", "etcd is backed up")

    def restore() -> None:
        sim.say("fault", "etcd is restored from the backup")
        sim.server.restore(backup)
        sim.forget_reports()
        sim.cluster.look_everywhere()

    sim.timeline.after(restored_after_s, restore)


def suspend(sim: Simulation) -> None:
    """Suspend the job for some seconds."""
    sim.say("fault", "the job is suspended")
    sim.change_spec({"suspend": True})

    def resume() -> None:
        sim.say("fault", "the job is resumed")
        sim.change_spec({"suspend": False})

    sim.timeline.after(8.0, resume)


def stop_operator(sim: Simulation) -> None:
    """Kill the operator, and start it again later."""
    sim.say("fault", "the operator dies; it is started again after 6 s")
    sim.stop_operator("operator-0")
    sim.timeline.after(6.0, sim.start_operator, "operator-0")


def delete_lease(sim: Simulation) -> None:
    """Delete the Lease of the rank."""
    sim.say("fault", "Lease digits-0 is deleted")
    sim.server.remove("user", "leases", "digits-0")


def damage(sim: Simulation) -> None:
    """Damage the newest checkpoint, and kill the primary."""
    trainer_faults.checkpoint_is_damaged(sim)
    _, container = primary(sim)
    sim.say("fault", f"{container.name} is killed")
    container.kill()


AT_S: Final = 7.3
"""When the story's fault comes: the primary trains, the redundant pod is ready, and a checkpoint is some steps old."""

STORIES: Final[dict[str, Story]] = {
    "start": Story(
        "A job starts, trains and completes.",
        "Only one pod is made at first. It becomes primary of term 1 and commits step 0, from which the redundant pod "
        "gets ready. The redundant pod loads each checkpoint that the primary commits.",
    ),
    "delete": Story(
        "The primary's pod is deleted.",
        "It saves at the step that it has reached, and releases its Lease: the successor goes on from there, and no "
        "step is taken twice. The Lease is passed on in term 2 before the old pod has ended.",
        ((AT_S, delete),),
    ),
    "drain": Story(
        "The primary's node is drained.",
        "An eviction is a deletion that says by whom. The primary hands over as it does for any deletion.",
        ((AT_S, partial(delete, drained=True)),),
    ),
    "switchover": Story(
        "Somebody asks for another primary.",
        "The operator notes in the Lease that this term is to end by a switchover, and deletes the pod. All else is "
        "as for any deletion, but for the cause that is told.",
        ((AT_S, api_faults.switchover_is_asked_for),),
    ),
    "trainer-dies": Story(
        "The primary's trainer is killed.",
        "Its agent says so at once with the release of the Lease. Steps since the last commit are taken again.",
        ((AT_S, kill_trainer),),
    ),
    "trainer-hangs": Story(
        "The primary's trainer stands still.",
        "The agent goes on renewing, so the Lease does not run out. After progressDeadlineSeconds without a step the "
        "agent ends the trainer itself, and releases the Lease.",
        ((AT_S, freeze_trainer),),
    ),
    "power-cut": Story(
        "The primary's node loses its power.",
        "Nobody says anything. The operator waits until it has seen the Lease stand still for a whole lease of 4 s, "
        "while the redundant pod is heard, and passes the rank on then.",
        ((AT_S, cut_power),),
    ),
    "partition": Story(
        "The primary's node is cut off from the API server, but not from the volume.",
        "To the operator this looks like a power cut. The old primary trains on and commits in term 1, until it finds "
        "term 2 on the volume: then it ends by itself. The successor begins from the last commit that it finds, so "
        "that only the steps after that are taken by both.",
        ((AT_S, partition),),
    ),
    "all-cut-off": Story(
        "All nodes are cut off from the API server.",
        "No worker is heard, so that nothing tells a dead primary from one that is cut off: none is replaced, and the "
        "training goes on meanwhile. The status says Degraded.",
        ((AT_S, cut_all_off),),
    ),
    "restore": Story(
        "The primary is deleted, and then etcd is restored from a backup of before.",
        "The restored Lease names a pod that is gone, so the rank is passed on to digits-0-1 once more, in term 2 as "
        "before: that pod trains on all the while. digits-0-3 is not known to the restored state, and ends.",
        ((5.0, partial(back_up, restored_after_s=6.0)), (AT_S, delete)),
    ),
    "lease-deleted": Story(
        "Somebody deletes the Lease of the rank.",
        "It is made anew with the pod that trains as its holder, in a term above every one that the status or a pod "
        "remembers. The pod takes the new term, and trains on.",
        ((AT_S, delete_lease),),
    ),
    "suspend": Story(
        "The job is suspended and resumed.",
        "The primary saves and ends, as for a deletion, and no pod runs. After that a new pod goes on from the very "
        "step.",
        ((AT_S, suspend),),
    ),
    "damage": Story(
        "The newest checkpoint is damaged, and then the primary is killed.",
        "The redundant pod has that checkpoint in memory, as it was before the damage, and goes on from it. A pod that "
        "is made later finds the damage, reports it, and loads the checkpoint before.",
        ((AT_S, damage),),
    ),
    "operator-dies": Story(
        "The operator dies, and so does the primary's trainer while it is away.",
        "The training does not need the operator, but a failure waits for it. The new operator finds the release in "
        "the Lease, and passes the rank on at once.",
        ((AT_S, stop_operator), (AT_S + 1.0, kill_trainer)),
    ),
}
