"""A pod of a job, as the API server shows it."""

from dataclasses import dataclass
from typing import Any, Final

from understudy_contract.names import TRAINER_CONTAINER, Label

from testbed.kube import Object

_STARTING: Final = (None, "ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as last seen."""

    name: str
    uid: str
    node: str
    job: str
    rank: int
    role: str
    phase: str
    running: bool
    terminated: bool
    exit_code: int | None
    ready: bool
    deleting: bool
    trouble: str
    """Why its container does not start, as far as the API tells."""


def read_pod(body: Object) -> Pod:
    """Interpret a Pod."""
    meta, status = body["metadata"], body.get("status", {})
    labels = meta.get("labels", {})
    found: list[dict[str, Any]] = status.get("containerStatuses", [])
    container = next((c for c in found if c["name"] == TRAINER_CONTAINER), {})
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    unscheduled: Object = next(
        (c for c in status.get("conditions", ()) if c["type"] == "PodScheduled" and c["status"] == "False"), {}
    )
    trouble = unscheduled.get("message", "")
    if waiting.get("reason") not in _STARTING:
        trouble = f"{waiting['reason']}: {waiting.get('message', '')}"
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        node=body["spec"].get("nodeName", ""),
        job=labels.get(Label.JOB, ""),
        rank=int(labels.get(Label.RANK, -1)),
        role=labels.get(Label.ROLE, ""),
        phase=status.get("phase", "Pending"),
        running="running" in state,
        terminated="terminated" in state or status.get("phase") in ("Succeeded", "Failed"),
        exit_code=state.get("terminated", {}).get("exitCode"),
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ())),
        deleting="deletionTimestamp" in meta,
        trouble=trouble,
    )
