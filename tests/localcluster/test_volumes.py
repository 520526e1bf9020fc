"""Volumes come from claims, go with them, and can be made small or read-only."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from localcluster import ClusterError
from localcluster.embedded import EmbeddedCluster
from localcluster.storage import TMPFS_SIZE
from tests.localcluster.tools import claim, create, get, pod, start_pod, until

pytestmark = pytest.mark.cluster


def mounting(name: str, claim_name: str, **spec: object) -> dict[str, object]:
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim_name}}
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    return pod(name, volumes=[volume], container=mount, **spec)


def is_bound(cluster: EmbeddedCluster, namespace: str, name: str) -> bool:
    return bool(get(cluster, namespace, "persistentvolumeclaims", name)["status"]["phase"] == "Bound")


def test_a_standard_claim_is_bound_at_once_and_every_node_sees_the_same_folder(
    cluster: EmbeddedCluster, namespace: str
) -> None:
    create(cluster, namespace, "persistentvolumeclaims", claim("shared", "standard"))
    until(lambda: is_bound(cluster, namespace, "shared"), "the claim to be bound")
    folder = cluster.volume_folder(namespace, "shared")
    (folder / "word").write_text("one for all")
    for node in cluster.nodes:
        assert node.run(["cat", f"/var/lib/understudy/shared/{folder.name}/word"]) == "one for all"
    assert folder.stat().st_mode & 0o777 == 0o777


def test_a_pinned_claim_waits_for_a_pod_and_keeps_every_pod_on_that_pods_node(
    cluster: EmbeddedCluster, namespace: str
) -> None:
    create(cluster, namespace, "persistentvolumeclaims", claim("pinned", "pinned"))
    first = start_pod(cluster, namespace, mounting("first", "pinned"))
    assert is_bound(cluster, namespace, "pinned")
    home = first["spec"]["nodeName"]
    assert start_pod(cluster, namespace, mounting("second", "pinned"))["spec"]["nodeName"] == home
    (elsewhere,) = (node for node in cluster.nodes if node.name != home)
    selector = {"kubernetes.io/hostname": elsewhere.name}
    create(cluster, namespace, "pods", mounting("third", "pinned", nodeSelector=selector))

    def refusal() -> str:
        conditions = get(cluster, namespace, "pods", "third").get("status", {}).get("conditions", [])
        return "".join(condition.get("message", "") for condition in conditions)

    assert "PersistentVolume's node affinity" in until(refusal, "the scheduler to refuse")
    folder = cluster.volume_folder(namespace, "pinned")
    with pytest.raises(ClusterError):
        elsewhere.run(["ls", f"/var/lib/understudy/pinned/{folder.name}"])


def test_a_claim_of_a_size_gets_a_volume_that_fills_up(cluster: EmbeddedCluster, namespace: str) -> None:
    tiny = claim("tiny", "standard", annotations={TMPFS_SIZE: "1Mi"})
    create(cluster, namespace, "persistentvolumeclaims", tiny)
    start_pod(cluster, namespace, mounting("user", "tiny", nodeName="node-1"))
    folder = cluster.volume_folder(namespace, "tiny")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (folder / "too-much").write_bytes(bytes(2**20 + 1))


def test_such_a_volume_can_be_turned_read_only_under_a_running_pod(cluster: EmbeddedCluster, namespace: str) -> None:
    tiny = claim("tiny", "standard", annotations={TMPFS_SIZE: "1Mi"})
    create(cluster, namespace, "persistentvolumeclaims", tiny)
    start_pod(cluster, namespace, mounting("user", "tiny", nodeName="node-2"))
    (process,) = cluster.processes(namespace, "user")
    inside = Path(f"/proc/{process.pid}/root/data/word")
    cluster.set_volume_read_only(namespace, "tiny", read_only=True)
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        inside.touch()
    cluster.set_volume_read_only(namespace, "tiny", read_only=False)
    inside.touch()


def test_whoever_mounts_a_volume_while_it_is_read_only_can_write_to_it_afterwards(
    cluster: EmbeddedCluster, namespace: str
) -> None:
    tiny = claim("tiny", "standard", annotations={TMPFS_SIZE: "1Mi"})
    create(cluster, namespace, "persistentvolumeclaims", tiny)
    until(lambda: is_bound(cluster, namespace, "tiny"), "the claim to be bound")
    word = cluster.volume_folder(namespace, "tiny") / "word"
    cluster.set_volume_read_only(namespace, "tiny", read_only=True)
    # A node that is switched on now would see the mounts as this namespace does.
    like_a_node = ["unshare", "--mount", "--propagation=slave", "sh", "-c", f"read _; touch {word}"]
    with subprocess.Popen(like_a_node, stdin=subprocess.PIPE) as process:
        until(
            lambda: Path(f"/proc/{process.pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink(), "its mounts"
        )
        assert not word.exists()
        cluster.set_volume_read_only(namespace, "tiny", read_only=False)
        process.communicate(b"now\n", timeout=60)
    assert process.returncode == 0
    assert word.exists()


def test_a_volume_goes_with_its_claim(cluster: EmbeddedCluster, namespace: str) -> None:
    create(cluster, namespace, "persistentvolumeclaims", claim("gone", "standard"))
    until(lambda: is_bound(cluster, namespace, "gone"), "the claim to be bound")
    folder = cluster.volume_folder(namespace, "gone")
    assert folder.is_dir()
    cluster.api.request("DELETE", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/gone")
    until(lambda: not cluster.api.exists(f"/api/v1/persistentvolumes/{folder.name}"), "the volume to go")
    assert not folder.exists()


def test_an_access_mode_that_a_class_lacks_is_refused_with_a_sentence(cluster: EmbeddedCluster, namespace: str) -> None:
    wrong = claim("wrong", "standard")
    wrong["spec"]["accessModes"] = ["ReadWriteOncePod"]
    create(cluster, namespace, "persistentvolumeclaims", wrong)

    def messages() -> list[str]:
        events = cluster.api.get(f"/api/v1/namespaces/{namespace}/events")["items"]
        return [event["message"] for event in events if event["reason"] == "ProvisioningFailed"]

    (message,) = until(messages, "an event")
    assert message == "the class standard offers ['ReadWriteOnce', 'ReadWriteMany'], not ['ReadWriteOncePod']"
