"""The containers that are a kind cluster: made, counted and removed by kind and docker.

kind takes any container with the cluster's label for a cluster, also one whose creation was cut short (Ctrl-C, a closed
terminal): its nodes run, and will never be Ready. So a mark stands in the cache from before the creation until kind has
said that it succeeded. While it stands there is no cluster to use, and the next `up` removes what the creation left.
A creation that fails by itself is removed by kind.

What the volumes hold belongs to the users of containers. A user of this machine may not remove it, but a container may;
that needs an image which is here for certain, and the image of the nodes is one.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from localcluster import kind_storage, paths
from localcluster.shell import ClusterError, run, run_told, say

NAME = paths.NAME
CONTROL_PLANE = f"{NAME}-control-plane"
IMAGE = "UNDERSTUDY_KIND_IMAGE"  # an environment variable: the node image, where kind's own is not wanted
CREATION = "5m"


def program(name: str) -> Path:
    """Return a program of this machine."""
    found = shutil.which(name)
    if found is None:
        raise ClusterError(f"{name} is not on PATH, and the cluster of kind's needs it: install {name}, then try again")
    return Path(found)


def exist() -> bool:
    """Tell whether kind knows a cluster of this project, whatever state it is in."""
    return shutil.which("kind") is not None and NAME in run(["kind", "get", "clusters"]).split()


def names() -> list[str]:
    """Return the names of all nodes, the control plane's first."""
    found = run([program("kind"), "get", "nodes", "--name", NAME]).split()
    return sorted(found, key=lambda name: (name != CONTROL_PLANE, name))


def state(name: str) -> str:
    """Return what docker calls the state of a node's container: running, paused, exited; or missing."""
    try:
        return run(["docker", "inspect", "--format", "{{.State.Status}}", name]).strip()
    except ClusterError as error:
        if "no such object" in str(error).lower():
            return "missing"
        raise


def unfinished() -> bool:
    """Tell whether the last creation has not ended, or was cut short."""
    return _mark().exists()


def make(nodes: int, kubeconfig: Path) -> None:
    """Let kind make a cluster of a control plane and this many worker nodes; on an error kind removes what it made."""
    roles = ["control-plane", *["worker"] * nodes]
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": role, "extraMounts": [kind_storage.mount()]} for role in roles],
    }
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    command = ["kind", "create", "cluster", "--name", NAME, "--config", "-", "--wait", CREATION]
    command += ["--kubeconfig", str(kubeconfig)]
    if image := os.environ.get(IMAGE):
        command += ["--image", image]
    say(f"Making the cluster with kind, with {nodes} worker nodes; {IMAGE}=NAME gives a node image of your own")
    _mark().touch()
    log = paths.cache() / "logs" / "kind-create.log"
    run_told(command, log, stdin=json.dumps(config), what="`kind create cluster`")
    _mark().unlink()


def remove(kubeconfig: Path) -> None:
    """Remove the containers, and everything in the cluster's volumes."""
    image = _image()
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    run([program("kind"), "delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig])
    _mark().unlink(missing_ok=True)
    kind_storage.clear(image)


def _mark() -> Path:
    return paths.cache() / f"{NAME}.creating"


def _image() -> str | None:
    """Return the id of the image that the nodes are made of; None when there is no node."""
    for name in names():
        return run(["docker", "inspect", "--format", "{{.Image}}", name]).strip()
    return None
