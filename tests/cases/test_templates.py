"""What a pod template says of accounts, networks and queues is done, or refused with the reason."""

import pytest

from testbed import Testbed
from testbed.kube import EVENTS, PODS, Object
from testbed.pods import Pod
from tests.cases import stage
from tests.cases.conftest import Note
from tests.e2e import jobs, see

pytestmark = pytest.mark.cluster

STEPS = """
    from understudy import Session
    from work import Sum

    state = Sum()
    for _ in Session(state, state.step).steps(100_000, save_every=50, log_every=10):
        pass
    """
HELD_AT_ITS_START = f"""
    import time
    from work import ROOT

    while (ROOT / "hold").exists():
        time.sleep(0.1)
    {STEPS}"""
"""A script that takes long to import and load: as long as a file lies on the volume."""
HOST_NETWORK: Object = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
GATE = "queue.example/admission"
PULL_SECRET = "registry"


@pytest.mark.case(
    staged="A template names its account by the old field `serviceAccount`. Another names none, and an image that "
    "cannot be pulled, where the namespace's default account has a pull secret.",
    expected="The old field is honoured; the pull secret is used, and the failed pull hints at it.",
)
def test_account(bed: Testbed, seen: Note) -> None:
    core = f"/api/v1/namespaces/{bed.namespace}"
    bed.kube.create(f"{core}/serviceaccounts", {"metadata": {"name": "cloud-reader"}})
    secret = {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": '{"auths": {}}'}}
    bed.kube.create(f"{core}/secrets", {"metadata": {"name": PULL_SECRET}, **secret})
    default = "metadata.name=default"
    see.until(bed, f"{core}/serviceaccounts", bool, "the namespace's default account", fieldSelector=default)
    bed.kube.patch(f"{core}/serviceaccounts/default", {"imagePullSecrets": [{"name": PULL_SECRET}]})

    cloud = stage.job(bed, "cloud", STEPS)
    cloud["spec"]["template"]["spec"]["serviceAccount"] = "cloud-reader"
    bed.apply(cloud)
    bed.apply(stage.job(bed, "plain", STEPS, image="registry.invalid/team/train:1", redundancy=0))
    bed.wait_settled("cloud")
    hint = see.wait_condition(bed, "plain", "Training", "registry.invalid", "imagePullSecrets")
    specs = {name: see.pod(bed, name)["spec"] for job in ("cloud", "plain") for name in stage.pods(bed, job)}
    accounts = {spec["serviceAccountName"] for name, spec in specs.items() if name.startswith("cloud-")}
    (plain,) = [spec for name, spec in specs.items() if name.startswith("plain-")]
    seen(
        f"the pods of the first run as {', '.join(sorted(accounts))}; those of the second have the pull secrets "
        f"{plain.get('imagePullSecrets')}, and the condition says “{hint}”"
    )
    assert accounts == {"cloud-reader"}
    assert plain["imagePullSecrets"] == [{"name": PULL_SECRET}]


def wait_unready(bed: Testbed, job: str, known: set[str]) -> Pod:
    """Wait until the kubelet has asked the pod that is new whether it is ready, and heard that it is not."""

    def asked(events: list[Object]) -> bool:
        about = {e["involvedObject"]["name"] for e in events if e["reason"] == "Unhealthy"}
        return bool(about & (set(stage.pods(bed, job)) - known))

    see.until(bed, EVENTS.format(bed.namespace), asked, f"a new pod of {job} that is asked and not ready")
    (new,) = set(stage.pods(bed, job)) - known
    return stage.pods(bed, job)[new]


@pytest.mark.case(
    staged="Two pods of a job with hostNetwork on one node; then the primary is deleted, and the next redundant pod is "
    "held at its start.",
    expected="Each pod is Ready by its own state, or the template is refused with a clear word.",
)
def test_hostnet(bed: Testbed, seen: Note) -> None:
    body = stage.job(bed, "fabric", HELD_AT_ITS_START, checkpoint=jobs.PINNED)
    body["spec"]["template"]["spec"].update(HOST_NETWORK)
    bed.apply(body)
    stage.wait_ready(bed, "fabric")
    see.on_one_node(bed, "fabric")
    known = set(stage.pods(bed, "fabric"))
    hold = stage.tell(bed, "fabric", "hold")
    bed.delete_pod(bed.primary("fabric", 0).name)
    see.wait_failover(bed, "fabric", 2)
    new = wait_unready(bed, "fabric", known)
    states = {name: pod.ready for name, pod in stage.pods(bed, "fabric").items() if not pod.terminated}
    assert states == {new.name: False, bed.primary("fabric", 0).name: True}
    hold.unlink()
    stage.wait_ready(bed, "fabric")
    seen(
        "both pods became Ready on one node; after the deletion the new primary was Ready and the pod that was still "
        "starting was not, until it was warm"
    )


@pytest.mark.case(
    staged="The same with two ranks on two nodes: four pods, of which one is held at its start.",
    expected="Readiness is each pod's own, and drains go by it.",
)
def test_hostnet_ranks(bed: Testbed, seen: Note) -> None:
    body = stage.job(bed, "cable", HELD_AT_ITS_START, ranks=2)
    body["spec"]["template"]["spec"].update(HOST_NETWORK)
    bed.apply(body)
    stage.wait_ready(bed, "cable")
    known = set(stage.pods(bed, "cable"))
    hold = stage.tell(bed, "cable", "hold")
    bed.delete_pod(bed.primary("cable", 0).name)
    see.wait_failover(bed, "cable", 2)
    new = wait_unready(bed, "cable", known)
    stage.wait_allowed(bed, "cable", 0, 0)
    stage.wait_allowed(bed, "cable", 1, 1)
    unready = {name for name, pod in stage.pods(bed, "cable").items() if not pod.terminated and not pod.ready}
    assert unready == {new.name}, "the pods of the other rank, and the new primary, are Ready"
    hold.unlink()
    stage.wait_ready(bed, "cable")
    stage.wait_allowed(bed, "cable", 0, 1)
    seen(
        "with one pod starting, the other three were Ready; the budget of its rank let no pod go, that of the other "
        "rank one, until all were Ready again"
    )


@pytest.mark.case(
    staged="The template has a scheduling gate, which a queue takes off each pod later.",
    expected="The message names the gate, and does not advise to free resources; it goes on when admitted.",
)
def test_gated(bed: Testbed, seen: Note) -> None:
    body = stage.job(bed, "queued", STEPS)
    body["spec"]["template"]["spec"]["schedulingGates"] = [{"name": GATE}]
    bed.apply(body)
    event = see.wait_event(bed, "queued", "PodGated", GATE)
    message = see.wait_condition(bed, "queued", "Training", GATE)
    admitted: set[str] = set()

    def gated(pods: list[Object]) -> bool:
        return any(pod["spec"].get("schedulingGates") for pod in pods)

    for _ in range(2):  # the primary, and the redundant pod
        path = PODS.format(bed.namespace)
        for pod in see.until(bed, path, gated, "a pod that is gated"):
            if pod["spec"].get("schedulingGates"):
                bed.kube.patch(f"{path}/{pod['metadata']['name']}", {"spec": {"schedulingGates": None}})
                admitted.add(pod["metadata"]["name"])
        if len(admitted) > 1:
            break
    bed.wait_settled("queued")
    seen(f"Event PodGated and condition Training: “{message}”; it trained once the queue had admitted its pods")
    for text in (event, message):
        assert "Free resources" not in text
        assert "no node" not in text
