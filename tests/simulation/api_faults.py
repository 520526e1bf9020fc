"""Faults of the API server, and what people do to objects."""

from typing import TYPE_CHECKING

import msgspec
from understudy_contract.names import Annotation, rank_lease_name, slot_lease_name

from tests.simulation.network import CALM, Weather
from tests.simulation.spans import span

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

PODS = "/api/v1/namespaces/default/pods"


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
    seconds = span(sim)
    sim.say("fault", f"the API server is down for {seconds:.1f} s")
    sim.set_down(True)
    sim.timeline.after(seconds, sim.set_down, False)


def weather_is_bad(sim: "Simulation") -> None:
    """Requests are refused, fail, get lost, are sent twice, are slow; watches break."""
    seconds, random = span(sim), sim.random
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


def etcd_is_restored(sim: "Simulation") -> None:
    """Everything that the API server knows goes back to what it was seconds ago, and nobody is told."""
    backup, seconds = sim.server.backup(), sim.random.uniform(1.0, 25.0)

    def restore() -> None:
        sim.say("fault", f"etcd is restored to what it was {seconds:.1f} s ago")
        sim.server.restore(backup)
        sim.forget_reports()
        sim.cluster.look_everywhere()

    sim.timeline.after(seconds, restore)


def job_is_suspended(sim: "Simulation") -> None:
    """Somebody suspends the job, and resumes it."""
    seconds = span(sim)
    sim.say("fault", f"the job is suspended for {seconds:.1f} s")
    sim.change_spec({"suspend": True})
    sim.timeline.after(seconds, sim.change_spec, {"suspend": False})


def lease_duration_is_changed(sim: "Simulation") -> None:
    """Somebody asks for longer or shorter leases."""
    seconds = sim.random.choice((3, 6, 15))
    sim.say("fault", f"leases are to last {seconds} s")
    sim.change_spec({"failover": {"leaseDurationSeconds": seconds}})


def switchover_is_asked_for(sim: "Simulation") -> None:
    """Somebody asks for another primary."""
    rank = sim.random.randrange(sim.plan.ranks)
    sim.say("fault", f"rank {rank} is asked to switch over")
    sim.server.update(
        "user", "trainingjobs", sim.job, {"metadata": {"annotations": {Annotation.SWITCHOVER: str(rank)}}}
    )
