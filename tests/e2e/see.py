"""What a test looks at besides pods, Leases and jobs: conditions, Events, endpoints, checkpoints on the volume."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3.exceptions
from understudy_contract.status import Condition, ConditionType, FailoverStatus, JobStatus

from testbed import Testbed, TestbedError
from testbed.kube import EVENTS, PODS, Object

WAIT_S = 180.0
"""Generous: a wait that comes true returns at once."""


def until(
    testbed: Testbed,
    path: str,
    holds: Callable[[list[Object]], bool],
    what: str,
    *,
    timeout_s: float = WAIT_S,
    **params: str,
) -> list[Object]:
    """Wait until the objects of a collection satisfy `holds`, looked at after each change of them."""
    deadline = time.monotonic() + timeout_s
    items: list[Object] = []
    while (left := deadline - time.monotonic()) > 0:
        listed = testbed.kube.get(path, **params)
        found = {item["metadata"]["uid"]: item for item in listed["items"]}
        if holds(items := list(found.values())):
            return items
        wanted = {**params, "watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        wanted["timeoutSeconds"] = str(int(left) + 1)
        try:
            for line in testbed.kube.lines(path, wanted, read_timeout_s=left + 5):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    break
                found[event["object"]["metadata"]["uid"]] = event["object"]
                if event["type"] == "DELETED":
                    del found[event["object"]["metadata"]["uid"]]
                if holds(items := list(found.values())):
                    return items
        except (urllib3.exceptions.HTTPError, OSError):
            continue
    raise TestbedError(f"waited {timeout_s:g} s in vain for {what}; last seen: {json.dumps(items)[:4000]}")


def run(argv: Sequence[str | Path]) -> str:
    """Run a program and return what it printed; fails with that."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stderr}{done.stdout}"
    return done.stdout


def kubectl(testbed: Testbed, *arguments: str) -> str:
    """Run kubectl in the namespace and return what it printed."""
    return run(testbed.kubectl(*arguments))


def condition(testbed: Testbed, job: str, kind: str) -> Condition:
    """Give a condition as last seen; one of status Unknown where there is none."""
    unknown = Condition(type=kind, status="Unknown", reason="", message="", last_transition_time="")
    return testbed.status(job).condition(ConditionType(kind)) or unknown


def wait_condition(testbed: Testbed, job: str, kind: str, *words: str, status: str = "False") -> str:
    """Wait until a condition has a status and all of these words in its message; give the message."""

    def look() -> bool:
        found = condition(testbed, job, kind)
        return found.status == status and all(word in found.message for word in words)

    try:
        testbed.wait_until(look, timeout_s=WAIT_S, what=f"{kind}={status} of {job} with {words}")
    except TestbedError as error:
        raise TestbedError(f"{error}; the conditions are {testbed.status(job).conditions}") from None
    return condition(testbed, job, kind).message


def on_one_node(testbed: Testbed, job: str) -> str:
    """Make sure that a job says that its volume is of one node, and that all its pods stand there; give the node."""
    wait_condition(testbed, job, "NodeFaultTolerant", "can be mounted on one node only")
    nodes = {pod.node for pod in testbed.world.pods.values() if pod.job == job and pod.node}
    assert len(nodes) == 1, f"the pods of {job} stand on {sorted(nodes)}"
    return nodes.pop()


def wait_phase(testbed: Testbed, job: str, phase: str, *, timeout_s: float = WAIT_S) -> JobStatus:
    """Wait until a job is in a phase; give its status."""
    try:
        testbed.wait_until(
            lambda: testbed.status(job).phase == phase, timeout_s=timeout_s, what=f"phase {phase} of {job}"
        )
    except TestbedError as error:
        raise TestbedError(f"{error}; {testbed.world.describe(job)}{testbed.recent_events(job)}") from None
    return testbed.status(job)


def told(testbed: Testbed, job: str) -> tuple[FailoverStatus, ...]:
    """Wait until the status tells of a failover; give all that it tells of, each with its first step."""

    def look() -> tuple[FailoverStatus, ...]:
        listed = testbed.status(job).failovers
        return listed if all(entry.first_step_at is not None for entry in listed) else ()

    return testbed.wait_until(look, timeout_s=WAIT_S, what=f"the failovers of {job} in its status, with first steps")


def wait_failover(testbed: Testbed, job: str, term: int) -> FailoverStatus:
    """Wait for the failover to a term in the status, with its first step."""

    def look() -> FailoverStatus | None:
        listed = testbed.status(job).failovers
        return next((e for e in listed if e.term == term and e.first_step_at is not None), None)

    return testbed.wait_until(look, timeout_s=WAIT_S, what=f"the failover of {job} to term {term} in its status")


def steps_on(testbed: Testbed, job: str, *, rank: int = 0, more: int = 50) -> None:
    """Wait until a rank's present primary has taken more steps than now."""
    log = testbed.logs.of(testbed.primary(job, rank).name)
    goal = (log.steps[-1].step if log.steps else 0) + more
    testbed.wait_until(
        lambda: log.steps and log.steps[-1].step >= goal, timeout_s=WAIT_S, what=f"step {goal} of {log.pod}"
    )


def events(testbed: Testbed, job: str, reason: str | None = None) -> list[Object]:
    """Give the Events about a job itself."""
    found = testbed.kube.get(EVENTS.format(testbed.namespace), fieldSelector=f"involvedObject.name={job}")["items"]
    ours = [e for e in found if e["involvedObject"]["kind"] == "TrainingJob"]
    return [e for e in ours if reason in (None, e["reason"])]


def wait_event(testbed: Testbed, job: str, reason: str, *words: str, timeout_s: float = WAIT_S) -> str:
    """Wait for an Event about a job with a reason and these words; give its message."""

    def fits(event: Object) -> bool:
        about = event["involvedObject"]["kind"] == "TrainingJob" and event["involvedObject"]["name"] == job
        return about and event["reason"] == reason and all(word in event["message"] for word in words)

    selector = {"fieldSelector": f"involvedObject.name={job}"}
    what = f"an Event {reason} about {job} with {words}"
    path = EVENTS.format(testbed.namespace)
    found = until(testbed, path, lambda items: any(map(fits, items)), what, timeout_s=timeout_s, **selector)
    return str(next(e["message"] for e in found if fits(e)))


def pod(testbed: Testbed, name: str) -> Object:
    """Read a pod."""
    return testbed.kube.get(f"{PODS.format(testbed.namespace)}/{name}")


def wait_endpoints(testbed: Testbed, job: str, pods: set[str]) -> None:
    """Wait until the job's Service leads to exactly these pods, ready."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{testbed.namespace}/endpointslices"

    def leads(slices: list[Object]) -> bool:
        found = [end for piece in slices for end in piece.get("endpoints") or ()]
        return {end["targetRef"]["name"] for end in found if end["conditions"].get("ready")} == pods

    what = f"endpoints {sorted(pods)} of Service {job}"
    until(testbed, path, leads, what, labelSelector=f"kubernetes.io/service-name={job}")


@dataclass(frozen=True, slots=True)
class Committed:
    """A checkpoint as it lies on the volume."""

    term: int
    step: int
    tensors: Any
    """Type, shape and checksum of each."""
    state: bytes


def rank_folder(testbed: Testbed, job: str, rank: int = 0, *, claim: str | None = None) -> Path:
    """Give the folder of a rank's checkpoints, on this machine."""
    uid = testbed.world.jobs[job]["metadata"]["uid"]
    return testbed.cluster.volume_folder(testbed.namespace, claim or f"{job}-checkpoints") / uid / f"rank-{rank}"


def checkpoints(folder: Path) -> list[Path]:
    """List the committed checkpoints below a rank's folder, newest first."""

    def key(path: Path) -> tuple[int, int]:
        return int(path.parent.name.split("-")[1]), int(path.name.split("-")[1])

    return sorted((path.parent for path in folder.glob("term-*/step-*/manifest.json")), key=key, reverse=True)


def newest(folder: Path) -> Committed:
    """Read the newest checkpoint below a rank's folder."""
    path = checkpoints(folder)[0]
    manifest = json.loads((path / "manifest.json").read_text())
    return Committed(manifest["term"], manifest["step"], manifest["tensors"], (path / "state.safetensors").read_bytes())
