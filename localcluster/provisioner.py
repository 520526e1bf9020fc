"""The provisioner of both storage classes: makes a folder for each claim that waits, removes it after the claim.

A process of the control plane. It looks at everything after any change and keeps nothing in memory, so that it may
end and start again at any time.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from localcluster import paths
from localcluster.api import Api, ApiError
from localcluster.shell import ClusterError, run, say
from localcluster.storage import (
    ACCESS_MODES,
    PINNED,
    PROVISIONER,
    TMPFS_SIZE,
    TMPFS_SOURCE,
    VOLUMES,
    Object,
    folder_of,
    size_bytes,
)

CLAIMS = "/api/v1/persistentvolumeclaims"
RETRY_S = 1.0


def provision(api: Api, claim: Object) -> None:
    """Make the volume of a claim that waits for one."""
    metadata, spec = claim["metadata"], claim["spec"]
    storage_class = spec["storageClassName"]
    refused = set(spec["accessModes"]) - set(ACCESS_MODES[storage_class])
    if refused:
        raise ClusterError(f"the class {storage_class} offers {ACCESS_MODES[storage_class]}, not {sorted(refused)}")
    name = f"pvc-{metadata['uid']}"
    node = metadata.get("annotations", {}).get("volume.kubernetes.io/selected-node")
    volume: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "accessModes": ACCESS_MODES[storage_class],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
            | {key: metadata[key] for key in ("namespace", "name", "uid")},
            "hostPath": {"path": str(paths.NODE_SHARED_VOLUMES / name), "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": storage_class,
        },
    }
    if storage_class == PINNED:
        volume["spec"]["hostPath"]["path"] = str(paths.NODE_PINNED_VOLUMES / name)
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    folder = folder_of(volume)
    folder.mkdir(parents=True, exist_ok=True)
    size = metadata.get("annotations", {}).get(TMPFS_SIZE)
    if size and not folder.is_mount():
        options = f"size={size_bytes(size)},mode=0777"
        run(["mount", "-t", "tmpfs", "-o", options, TMPFS_SOURCE, folder])
    folder.chmod(0o777)
    try:
        api.request("POST", VOLUMES, volume)
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT:  # there already: an earlier try whose answer was lost
            raise
    say(f"made {name} for {metadata['namespace']}/{metadata['name']} in {folder}")


def remove(api: Api, volume: Object) -> None:
    """Remove a volume whose claim is gone, with all it holds."""
    folder = folder_of(volume)
    if folder.is_mount():
        run(["umount", "--lazy", folder])
    shutil.rmtree(folder, ignore_errors=True)
    api.request("DELETE", f"{VOLUMES}/{volume['metadata']['name']}")
    say(f"removed {volume['metadata']['name']}")


def is_waiting(claim: Object) -> bool:
    """Tell whether a claim is ours and ready to get its volume."""
    annotations = claim["metadata"].get("annotations", {})
    storage_class = claim["spec"].get("storageClassName")
    return (
        not claim["spec"].get("volumeName")
        and "deletionTimestamp" not in claim["metadata"]
        and annotations.get("volume.kubernetes.io/storage-provisioner") == PROVISIONER
        and storage_class in ACCESS_MODES
        and (storage_class != PINNED or "volume.kubernetes.io/selected-node" in annotations)
    )


def is_released(volume: Object) -> bool:
    """Tell whether a volume is ours and its claim is gone."""
    annotations = volume["metadata"].get("annotations", {})
    return (
        annotations.get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        and volume.get("status", {}).get("phase") in ("Released", "Failed")
        and "deletionTimestamp" not in volume["metadata"]
    )


def _refuse(api: Api, claim: Object, error: ClusterError) -> None:
    metadata = claim["metadata"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    api.request(
        "POST",
        f"/api/v1/namespaces/{metadata['namespace']}/events",
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": reference | {key: metadata[key] for key in ("namespace", "name", "uid")},
            "type": "Warning",
            "reason": "ProvisioningFailed",
            "message": str(error),
            "source": {"component": PROVISIONER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        },
    )


def _reconcile(api: Api, refused: set[str]) -> None:
    for claim in filter(is_waiting, api.get(CLAIMS)["items"]):
        try:
            provision(api, claim)
        except ApiError:
            raise
        except ClusterError as error:
            if claim["metadata"]["uid"] not in refused:
                refused.add(claim["metadata"]["uid"])
                _refuse(api, claim, error)
    for volume in filter(is_released, api.get(VOLUMES)["items"]):
        remove(api, volume)


def main(kubeconfig: Path) -> None:
    """Provision for ever: look at everything after any change."""
    api = Api.from_kubeconfig(kubeconfig)
    changed = threading.Event()

    def watch(path: str) -> None:
        while True:
            try:
                for _ in api.watch(path):
                    changed.set()
            except ApiError as error:
                say(str(error))
                time.sleep(RETRY_S)

    for path in (CLAIMS, VOLUMES):
        threading.Thread(target=watch, args=(path,), daemon=True).start()
    refused: set[str] = set()
    while True:
        changed.wait()
        changed.clear()
        try:
            _reconcile(api, refused)
        except ApiError as error:
            say(str(error))
            time.sleep(RETRY_S)
            changed.set()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
