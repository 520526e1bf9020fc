"""How a case is staged: a script, delivered by a ConfigMap together with what it trains, and a job that runs it.

A test and its script talk by files on the job's volume, so that nothing depends on how fast either of them is.
"""

import textwrap
from pathlib import Path
from typing import Any, Final

from understudy_contract.names import budget_name

from testbed import Testbed
from testbed.kube import BUDGETS, Object
from testbed.pods import Pod
from tests.e2e import jobs, see

WORK: Final = Path(__file__).with_name("work.py")
LEASE_S: Final = 6
HAND_OVER_S: Final = 10


def job(
    bed: Testbed, name: str, script: str, *, launcher: str | None = None, failover: Object | None = None, **rest: Any
) -> Object:
    """Put a script into the namespace, and build a job that runs it; see tests.e2e.jobs.job for the rest.

    `launcher` is a shell's command that runs the script itself; `failover` amends spec.failover.
    """
    scripts = {"train.py": textwrap.dedent(script).lstrip(), WORK.name: WORK.read_text()}
    path = f"/api/v1/namespaces/{bed.namespace}/configmaps"
    bed.kube.create(path, {"metadata": {"name": name}, "data": scripts})
    body = jobs.job(name, config_map=name, **rest)
    body["spec"]["failover"] = {"leaseDurationSeconds": LEASE_S, "handOverSeconds": HAND_OVER_S, **(failover or {})}
    if launcher is not None:
        body["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", launcher]
    return body


def volume(bed: Testbed, job: str) -> Path:
    """Give the folder of a job's volume, on this machine."""
    return bed.cluster.volume_folder(bed.namespace, f"{job}-checkpoints")


def tell(bed: Testbed, job: str, name: str) -> Path:
    """Leave a file on a job's volume, for its script; return it."""
    file = volume(bed, job) / name
    file.touch()
    return file


def pods(bed: Testbed, job: str) -> dict[str, Pod]:
    """Give the pods of a job as last seen, by name."""
    return {name: pod for name, pod in tuple(bed.world.pods.items()) if pod.job == job}


def wait_ready(bed: Testbed, job: str) -> None:
    """Wait until a job is whole and the kubelet calls every pod of it Ready."""
    bed.wait_settled(job)
    bed.wait_until(
        lambda: all(pod.ready for pod in pods(bed, job).values() if not pod.terminated),
        timeout_s=see.WAIT_S,
        what=f"Ready pods of {job}",
    )


def wait_allowed(bed: Testbed, job: str, rank: int, wanted: int) -> None:
    """Wait until the disruption budget of a rank lets this many pods go."""
    name = budget_name(job, rank)

    def lets(budgets: list[Object]) -> bool:
        return any(b.get("status", {}).get("disruptionsAllowed") == wanted for b in budgets)

    what = f"{wanted} allowed disruptions of rank {rank} of {job}"
    see.until(bed, BUDGETS.format(bed.namespace), lets, what, fieldSelector=f"metadata.name={name}")
