"""Volumes of a kind cluster that every node can mount.

kind's own storage class `standard` makes folders on one node, and every pod of a claim must run there: a node that is
lost takes all of them along. So each node gets one folder of this machine (`extraMounts`, which only the creation of
the cluster can add), and kind's local-path provisioner is told to make its volumes there (`sharedFileSystemPath`). It
then offers ReadWriteMany, and binds no volume to a node. A cluster that was made without the folder stays as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localcluster import paths
from localcluster.kind_node import KindNode
from localcluster.kubectl import Kubectl
from localcluster.shell import ClusterError, run, step

IN_NODE = paths.NODE_SHARED_VOLUMES
NAMESPACE = "--namespace=local-path-storage"
CONFIG = "local-path-config"
PROVISIONER = "deployment/local-path-provisioner"
ROLLED_OUT_WITHIN_S = 180


def folder() -> Path:
    """Return the folder of this machine that holds the volumes; below the home folder, which Docker Desktop shares."""
    return paths.cache() / paths.NAME / "volumes"


def mount() -> dict[str, Any]:
    """Return the entry of a node's extraMounts in kind's configuration."""
    folder().mkdir(parents=True, exist_ok=True)
    return {"hostPath": str(folder()), "containerPath": str(IN_NODE)}


def clear(image: str | None) -> None:
    """Remove what the volumes hold, in a container of this image; without one as far as this user may."""
    volumes = _volumes()
    if volumes and image:
        container = ["docker", "run", "--rm", "--network=none", f"--volume={folder()}:{IN_NODE}", "--entrypoint=find"]
        run([*container, image, IN_NODE, "-mindepth", "1", "-delete"])
    for volume in volumes:
        shutil.rmtree(volume, ignore_errors=True)
    if _volumes():
        raise ClusterError(f"volumes of the ended cluster are left in {folder()}: remove that folder as root")


def _volumes() -> list[Path]:
    return list(folder().iterdir()) if folder().exists() else []


def share(kubectl: Kubectl, nodes: Sequence[KindNode]) -> bool:
    """Make the provisioner use the shared folder; return False for a cluster whose nodes do not have it."""
    if is_shared(kubectl):
        return True
    if not all(str(IN_NODE) in node.mounts() for node in nodes):
        return False
    change = {"data": {"config.json": json.dumps({"sharedFileSystemPath": str(IN_NODE)})}}
    with step("every node can mount the volumes of class standard"):
        kubectl("patch", "configmap", CONFIG, NAMESPACE, "--type=merge", f"--patch={json.dumps(change)}")
        kubectl("rollout", "restart", PROVISIONER, NAMESPACE)
        kubectl("rollout", "status", PROVISIONER, NAMESPACE, f"--timeout={ROLLED_OUT_WITHIN_S}s")
    return True


def is_shared(kubectl: Kubectl) -> bool:
    """Tell whether new volumes are of all nodes."""
    try:
        config = kubectl.get("configmap", CONFIG, NAMESPACE)["data"]["config.json"]
        return bool(json.loads(config).get("sharedFileSystemPath") == str(IN_NODE))
    except (ClusterError, KeyError, ValueError):
        return False


def volume_folder(kubectl: Kubectl, namespace: str, claim: str) -> Path:
    """Return the folder on this machine of a bound claim's volume."""
    name = kubectl.get("persistentvolumeclaim", claim, f"--namespace={namespace}")["spec"].get("volumeName")
    if not name:
        raise ClusterError(f"the claim {namespace}/{claim} is not bound to a volume yet")
    spec = kubectl.get("persistentvolume", name)["spec"]
    in_node = Path((spec.get("hostPath") or spec.get("local") or {}).get("path", "/"))
    if in_node.parent != IN_NODE:
        raise ClusterError(f"the volume of {namespace}/{claim} is a folder of one node, {in_node}: look for it there")
    return folder() / in_node.name
