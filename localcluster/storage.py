"""Volumes: two storage classes, each volume a folder on this machine.

`standard` (the default) binds at once to a folder that all nodes share, and stands for a network file system.
`pinned` waits for the first pod and binds to a folder of that pod's node, as a local disk does: every pod of the
claim must run there. Neither limits a volume's size, except for claims with the annotation `localcluster/tmpfs-size`:
their volume is a file system of that size in memory, to be filled up or turned read-only by a test.
Folders are writable by everyone: fsGroup does nothing on hostPath volumes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster import paths
from localcluster.api import Api
from localcluster.shell import ClusterError

PROVISIONER = "localcluster/hostpath"
SHARED, PINNED = "standard", "pinned"
ACCESS_MODES = {SHARED: ["ReadWriteOnce", "ReadWriteMany"], PINNED: ["ReadWriteOnce"]}
TMPFS_SIZE = "localcluster/tmpfs-size"
TMPFS_SOURCE = f"{paths.NAME}-volume"  # how such mounts are called in the machine's list of mounts
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

VOLUMES = "/api/v1/persistentvolumes"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
Object = Mapping[str, Any]


def make_classes(api: Api) -> None:
    """Make the two storage classes."""
    for name, mode in ((SHARED, "Immediate"), (PINNED, "WaitForFirstConsumer")):
        default = str(name == SHARED).lower()
        api.apply(
            f"{CLASSES}/{name}",
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default}},
                "provisioner": PROVISIONER,
                "reclaimPolicy": "Delete",
                "volumeBindingMode": mode,
            },
        )


def folder_of(volume: Object) -> Path:
    """Return where a volume's folder is on this machine."""
    in_node = Path(volume["spec"]["hostPath"]["path"])
    if in_node.parent == paths.NODE_SHARED_VOLUMES:
        return paths.VOLUMES / "shared" / in_node.name
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    return paths.VOLUMES / str(term["matchExpressions"][0]["values"][0]) / in_node.name


def size_bytes(quantity: str) -> int:
    """Return the bytes of a Kubernetes quantity in whole bytes, Ki, Mi or Gi."""
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", quantity)
    if found is None:
        raise ClusterError(f"{quantity!r} is no size: write a whole number of bytes, Ki, Mi or Gi")
    return int(found.group(1)) * UNITS[found.group(2)]
