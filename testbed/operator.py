"""The operator as a release of the chart: installed, found, watched for its cost."""

import subprocess
from typing import Final

from localcluster import Cluster, ClusterError, load
from localcluster.paths import CHECKOUT
from testbed.errors import TestbedError
from testbed.kube import PODS, Kube, wall

NAMESPACE: Final = "understudy-system"
RELEASE: Final = "understudy"
IMAGE: Final = "understudy-operator:dev"
SELECTOR: Final = "app.kubernetes.io/component=operator"
INSTALLED_WITHIN_S: Final = 180


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


def pod(kube: Kube) -> tuple[str, str, str]:
    """Return the operator's pod: name, uid, node."""
    items = kube.get(PODS.format(NAMESPACE), labelSelector=SELECTOR)["items"]
    alive = [item for item in items if item.get("status", {}).get("phase") == "Running"]
    if len(alive) != 1:
        raise TestbedError(f"{len(alive)} operators run in namespace {NAMESPACE} instead of one: install the chart")
    return alive[0]["metadata"]["name"], alive[0]["metadata"]["uid"], alive[0]["spec"]["nodeName"]


def node(kube: Kube) -> str:
    """Return the node that the operator runs on."""
    return pod(kube)[2]


def log_text(kube: Kube) -> str:
    """Read the operator's log."""
    return kube.text(f"{PODS.format(NAMESPACE)}/{pod(kube)[0]}/log")
