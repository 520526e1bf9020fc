"""What these tests ask of a cluster, and what they wait for."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localcluster.embedded import EmbeddedCluster
from localcluster.paths import CHECKOUT
from localcluster.pause import IMAGE

PATIENCE_S = 120
Manifest = dict[str, Any]


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's first true value; the test fails with `what` when none comes."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)
    return value


def pod(name: str, **spec: Any) -> Manifest:
    """A pod that sleeps for ever, of no image but the cluster's own, in a process that can be told from its pause."""
    container = {"name": "sleeper", "image": IMAGE, "command": ["/catatonit", "--", "/catatonit", "-P"]}
    grace = {"terminationGracePeriodSeconds": 0}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container | spec.pop("container", {})], **grace, **spec},
    }


def claim(name: str, storage_class: str, **metadata: Any) -> Manifest:
    """A claim for one node's use."""
    request = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name, **metadata}, "spec": {"storageClassName": storage_class, **request}}


def create(cluster: EmbeddedCluster, namespace: str, kind: str, manifest: Manifest) -> Manifest:
    return cluster.api.request("POST", f"/api/v1/namespaces/{namespace}/{kind}", manifest)


def get(cluster: EmbeddedCluster, namespace: str, kind: str, name: str) -> Manifest:
    return cluster.api.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")


def is_ready(found: Manifest) -> bool:
    conditions = found.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def start_pod(cluster: EmbeddedCluster, namespace: str, manifest: Manifest) -> Manifest:
    """Create a pod and return it once it is Ready."""
    name = manifest["metadata"]["name"]
    create(cluster, namespace, "pods", manifest)
    until(lambda: is_ready(get(cluster, namespace, "pods", name)), f"pod {name} to be Ready")
    return get(cluster, namespace, "pods", name)


def cli(*words: str, instance: int = 0) -> str:
    """Run `python -m localcluster` for the embedded cluster; return its output, which a failed test shows."""
    done = subprocess.run(
        [sys.executable, "-m", "localcluster", *words],
        cwd=CHECKOUT,
        env=os.environ | {"UNDERSTUDY_INSTANCE": str(instance), "UNDERSTUDY_CLUSTER": "embedded"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def kubectl(*words: str, instance: int) -> Any:
    """Run the cluster's kubectl; return its decoded answer."""
    folder = CHECKOUT / ".cluster" / str(instance)
    command: list[str | Path] = [
        folder / "bin" / "kubectl",
        f"--kubeconfig={folder}/kubeconfig",
        *words,
        "--output=json",
    ]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def connects(address: str, port: int) -> list[str]:
    """Words of a command that succeeds if the address accepts a connection where it runs."""
    return ["timeout", "3", "bash", "-c", f"</dev/tcp/{address}/{port}"]


def remove(path: Path) -> None:
    subprocess.run(["rm", "-rf", str(path)], check=True)
