"""The true cause of a loss, as kubelet and scheduler write it, at once or after the rank was passed on."""

from typing import Any

import pytest
from understudy_contract import names
from understudy_kube.client import Api

from tests.integration.operator.rank import Rank, failover, promoted
from tests.integration.operator.stage import Json, Stage, now

pytestmark = pytest.mark.cluster

VOLUME = 'Usage of EmptyDir volume "scratch" exceeds the limit "16Mi". '


async def event(stage: Stage, reason: str) -> Json:
    return await stage.until("events", None, lambda e: e["reason"] == reason, f"an Event {reason}")


async def kubelet_says(stage: Stage, pod: Json, reason: str, message: str) -> None:
    """Post an Event as a kubelet does about the container `trainer`."""
    meta = pod["metadata"]
    about = {"kind": "Pod", "namespace": stage.namespace, "name": meta["name"], "uid": meta["uid"]}
    body: Json = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{reason.lower()}"},
        "involvedObject": {**about, "apiVersion": "v1", "fieldPath": "spec.containers{trainer}"},
        "reason": reason,
        "message": message,
        "type": "Warning",
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "count": 1,
        "source": {"component": "kubelet"},
    }
    await stage.create("events", body)


async def cause_of(stage: Stage, cause: str) -> Json:
    """Wait until the first failover has this cause."""

    def has(job: Json) -> bool:
        entries: list[dict[str, Any]] = job.get("status", {}).get("failovers") or [{}]
        return entries[0].get("cause") == cause

    return dict((await stage.until(names.PLURAL, "job", has, cause))["status"]["failovers"][0])


async def test_an_eviction_that_is_told_after_the_hand_over_becomes_the_cause(rank: Rank, stage: Stage) -> None:
    await rank.primary.hand_over(15)
    await promoted(rank)
    await rank.successor.train(16, 15)
    first = await failover(rank)
    assert (first["cause"], first["message"]) == (
        "Terminated",
        "pod job-0-0 was told to end and handed over after step 15",
    )
    await stage.end_pod(rank.primary.pod, 82, verdict={"reason": "Evicted", "message": VOLUME})
    entry = await cause_of(stage, "Evicted")
    sentence = 'Usage of EmptyDir volume "scratch" exceeds the limit "16Mi"; raise sizeLimit of that volume'
    assert sentence in entry["message"]
    assert {k: v for k, v in entry.items() if k not in ("cause", "message")} == {
        k: v for k, v in first.items() if k not in ("cause", "message")
    }, "what else is known of it stays"
    assert sentence in (await event(stage, "CauseFound"))["message"]


async def test_a_preemption_is_the_cause_at_once(rank: Rank, stage: Stage, api: Api) -> None:
    target = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": now()}
    said = {"reason": "PreemptionByScheduler", "message": "default-scheduler: preempting to accommodate a pod"}
    pod = await stage.get("pods", rank.primary.pod)
    conditions = [*pod["status"]["conditions"], {**target, **said}]
    await stage.patch("pods", rank.primary.pod, {"status": {"conditions": conditions}}, status=True)
    await stage.delete("pods", rank.primary.pod)
    await rank.primary.hand_over(15)
    await promoted(rank)
    await rank.successor.train(16, 15)
    entry = await failover(rank)
    assert entry["cause"] == "Preempted"
    assert "preempting to accommodate a pod; give the pods a priorityClassName" in entry["message"]


async def test_a_redundant_pod_that_a_liveness_probe_killed_is_lost_by_that_name(rank: Rank, stage: Stage) -> None:
    """Its container exits 0, as after any SIGTERM: only the kubelet's Events name the probe."""
    pod = await stage.get("pods", rank.redundant.pod)
    await kubelet_says(stage, pod, "Unhealthy", "Liveness probe failed: /tmp/alive is too old")
    await kubelet_says(stage, pod, "Killing", "Stopping container trainer")
    await stage.end_pod(rank.redundant.pod, 0)
    message = (await event(stage, "RedundantLost"))["message"]
    assert message.startswith(
        "Rank 0, redundant: pod job-0-1 was killed by the liveness probe of container `trainer`: "
        "Liveness probe failed: /tmp/alive is too old; take that probe out of the template"
    )
