"""The operator as a release of the chart: installed, found, watched for its cost.

Of its replicas, the one that leads is meant wherever one is asked for: the others only know.
"""

import json
import subprocess
from typing import Final

from localcluster import Cluster, ClusterError, load
from localcluster.paths import CHECKOUT
from localcluster.shell import wait_until
from testbed.errors import TestbedError
from testbed.kube import LEASES, PODS, Kube, Object, wall

NAMESPACE: Final = "understudy-system"
RELEASE: Final = "understudy"
IMAGE: Final = "understudy-operator:dev"
SELECTOR: Final = "app.kubernetes.io/component=operator"
LEASE: Final = "understudy-operator"
INSTALLED_WITHIN_S: Final = 180
LEADS_WITHIN_S: Final = 60
"""A lease, and the start of a process on a crowded machine."""


def install_command(cluster: Cluster) -> list[str]:
    """Return the helm command that installs or upgrades the chart; a new pod starts if chart or image have changed."""
    return [
        str(cluster.helm),
        f"--kubeconfig={cluster.kubeconfig}",
        "upgrade",
        "--install",
        RELEASE,
        str(CHECKOUT / "charts" / "understudy"),
        f"--namespace={NAMESPACE}",
        "--create-namespace",
        f"--set-string=podAnnotations.image={_fingerprint()}",
        "--wait",
        f"--timeout={INSTALLED_WITHIN_S}s",
    ]


def _fingerprint() -> str:
    """Tell the image as it is now from what its name meant before; always new where images are not built here."""
    try:
        return load.digest(IMAGE)
    except ClusterError:
        return f"{wall():.0f}"


def install(cluster: Cluster) -> None:
    """Install the chart and wait until the operator is ready."""
    done = subprocess.run(install_command(cluster), capture_output=True, text=True, check=False)
    if done.returncode:
        raise TestbedError(f"helm could not install the chart: {done.stderr.strip() or done.stdout.strip()}")


def pods(kube: Kube) -> list[Object]:
    """Return the operator's pods that run, whoever of them leads."""
    items = kube.get(PODS.format(NAMESPACE), labelSelector=SELECTOR)["items"]
    return [item for item in items if item.get("status", {}).get("phase") == "Running"]


def is_ready(item: Object) -> bool:
    """Tell whether a pod is Ready, and is to stay."""
    conditions = item.get("status", {}).get("conditions", ())
    return "deletionTimestamp" not in item["metadata"] and any(
        (condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions
    )


def replace_crashed(kube: Kube) -> None:
    """Replace pods whose process has died, and wait until all are ready: each further death is restarted later."""
    replicas = kube.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/understudy-operator")["spec"]["replicas"]
    for item in pods(kube):
        if any(status["restartCount"] for status in item.get("status", {}).get("containerStatuses", ())):
            kube.delete(f"{PODS.format(NAMESPACE)}/{item['metadata']['name']}", gracePeriodSeconds=0)
    wait_until(
        lambda: sum(map(is_ready, pods(kube))) == replicas,
        timeout_s=INSTALLED_WITHIN_S,
        what="all operators to be ready",
    )


def pod(kube: Kube) -> tuple[str, str, str]:
    """Return the pod of the operator that leads: name, uid, node. Waits until one does."""
    path = LEASES.format(NAMESPACE)
    params = {"watch": "true", "fieldSelector": f"metadata.name={LEASE}", "timeoutSeconds": str(LEADS_WITHIN_S)}
    lines = kube.lines(path, params, read_timeout_s=LEADS_WITHIN_S + 5)
    try:
        for line in lines:  # the Lease as it is, and each renewal of it
            holder = str(json.loads(line)["object"].get("spec", {}).get("holderIdentity", "")).partition("_")[0]
            for item in pods(kube):
                if item["metadata"]["name"] == holder and "deletionTimestamp" not in item["metadata"]:
                    return holder, item["metadata"]["uid"], item["spec"]["nodeName"]
    finally:
        lines.close()
    raise TestbedError(f"no operator in namespace {NAMESPACE} has led for {LEADS_WITHIN_S} s: install the chart")


def node(kube: Kube) -> str:
    """Return the node that the operator that leads runs on."""
    return pod(kube)[2]


def logs(kube: Kube) -> dict[str, str]:
    """Read the logs of all operators, by pod."""
    names = [item["metadata"]["name"] for item in pods(kube)]
    return {name: kube.text(f"{PODS.format(NAMESPACE)}/{name}/log") for name in names}
