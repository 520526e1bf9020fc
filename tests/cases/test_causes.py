"""The cause that is told of a loss is the true one, in Kubernetes' words and with what to raise or change."""

import pytest
from kubernetes.client.exceptions import ApiException
from understudy_contract.names import Label

from testbed import Testbed
from testbed.jobs import container
from testbed.kube import JOBS, PODS, Object, parse_time
from tests.cases import stage
from tests.cases.conftest import Note
from tests.e2e import see

pytestmark = pytest.mark.cluster

EVICTIONS = 4
PAUSE_S = 8.0
"""Before the redundant pod that follows the fourth eviction in a row."""


@pytest.mark.case(
    staged="The script needs more memory with each step from the 60th on, and is killed at the limit of its container.",
    expected="The cause says OOM and what to raise; Failed in the end.",
)
def test_oom(bed: Testbed, seen: Note) -> None:
    script = """
    import numpy as np
    from understudy import Session
    from work import Sum

    state, leak = Sum(), []

    def step(index):
        if index >= 60:
            leak.append(np.ones(1 << 20))
        state.step(index)

    for _ in Session(state, step).steps(100_000, save_every=50, log_every=10):
        pass
    """
    body = stage.job(bed, "leaky", script, failover={"maxFailuresWithoutProgress": 3})
    container(body)["resources"]["limits"]["memory"] = "192Mi"
    bed.apply(body)
    status = see.wait_phase(bed, "leaky", "Failed")
    failed = see.condition(bed, "leaky", "Failed").message
    first = status.failovers[0]
    seen(f"{first.cause}, “{first.message}”; then Failed: “{failed}”")
    assert {entry.cause for entry in status.failovers} == {"OOMKilled"}
    for message in (first.message, failed):
        assert "memory" in message
        assert "raise" in message


@pytest.mark.case(
    staged="The script fills a scratch volume (emptyDir, sizeLimit 16Mi), and the kubelet evicts its pod, four times.",
    expected="Status and Event name the volume and its limit; pauses grow, so that the job does not go round for ever.",
)
def test_evicted(bed: Testbed, seen: Note) -> None:
    script = """
    import os
    from understudy import Session
    from work import Sum

    state = Sum()

    def step(index):
        with open(f"/scratch/{index}", "wb") as file:
            file.write(os.urandom(1 << 18))
        state.step(index)

    for _ in Session(state, step).steps(100_000, save_every=5000, log_every=10):
        pass
    """
    body = stage.job(bed, "cached", script)
    body["spec"]["template"]["spec"]["volumes"].append({"name": "scratch", "emptyDir": {"sizeLimit": "16Mi"}})
    container(body)["volumeMounts"].append({"name": "scratch", "mountPath": "/scratch"})
    bed.apply(body)
    promoted = [see.wait_failover(bed, "cached", term) for term in range(2, 2 + EVICTIONS)]
    bed.wait_until(
        lambda: all(e.cause == "Evicted" for e in bed.status("cached").failovers[:EVICTIONS]),
        timeout_s=see.WAIT_S,
        what=f"{EVICTIONS} failovers whose cause is Evicted; they are {promoted}",
    )
    entry, last = bed.status("cached").failovers[0], promoted[-1]
    events = [*see.events(bed, "cached", "Promoted"), *see.events(bed, "cached", "CauseFound")]

    def replaced(pods: list[Object]) -> bool:
        return len(pods) == 1 and pods[0]["metadata"]["name"] != last.target

    selector = f"{Label.JOB}=cached,{Label.ROLE}=redundant"
    what = "the redundant pod that follows the last eviction"
    (made,) = see.until(bed, PODS.format(bed.namespace), replaced, what, labelSelector=selector)
    pause_s = parse_time(made["metadata"]["creationTimestamp"]) - parse_time(last.promoted_at)
    seen(
        f"{entry.cause}, “{entry.message}”; {entry.lost_steps} steps lost; {pause_s:.0f} s passed between the "
        "fourth promotion and the next redundant pod"
    )
    for word in ("scratch", "16Mi", "sizeLimit"):
        assert word in entry.message
    assert any("scratch" in event["message"] for event in events), "an Event names the volume"
    assert {e.lost_steps for e in promoted} == {0}
    # A pause begins with the slot's last heartbeat, which may be a third of a lease before the promotion, and
    # creationTimestamp has whole seconds. What is left is longer than the pause before the third redundant pod.
    assert pause_s >= PAUSE_S - stage.LEASE_S / 3 - 1


@pytest.mark.case(
    staged="The template has a liveness probe that looks at the age of a file which each step touches.",
    expected="Refused, ignored, or named as the reason: a redundant pod takes no steps and could never pass it.",
)
def test_liveness(bed: Testbed, seen: Note) -> None:
    body = stage.job(bed, "probed", "")
    probe = {"exec": {"command": ["find", "/tmp/alive", "-mmin", "-1"]}, "periodSeconds": 5}
    container(body)["livenessProbe"] = probe
    body["metadata"]["namespace"] = bed.namespace
    with pytest.raises(ApiException) as refused:
        bed.kube.create(JOBS.format(bed.namespace), body)
    message = str(refused.value.reason)
    seen(f"refused by the API server: “{message.partition(': ')[2]}”")
    assert "livenessProbe" in message
    assert "redundant" in message
