"""What happens to the job of a `Stage` in many tests: its workers come up, its user changes it, a pod vanishes."""

from typing import Any

from tests.unit.operator.stage import JOB, PODS, Stage


async def both_at_work(stage: Stage) -> None:
    """Let the primary train, and the redundant pod be ready, on nodes of their own."""
    await stage.run(1)
    for pod, node in ("digits-0-0", "a"), ("digits-0-1", "b"):
        stage.runs(pod, node)
    stage.reports("digits-0-0", "digits-0", "training")
    stage.reports("digits-0-1", "digits-0-s0", "ready")
    await stage.run(1)


def wants(stage: Stage, *, generation: int = 1, **spec: Any) -> None:
    """Let the user want something else of the job; nobody hears of it yet."""
    job = stage.server.objects[JOB]
    meta = {**job["metadata"], "generation": generation}
    stage.server._put(JOB, {**job, "metadata": meta, "spec": {**job["spec"], **spec}})


def vanishes(stage: Stage, pod: str) -> None:
    """Let a pod be gone, and the watch tell of it."""
    gone = stage.server.objects.pop(f"{PODS}/{pod}")
    stage.world.pods.remove(("default", pod), gone["metadata"]["uid"])
