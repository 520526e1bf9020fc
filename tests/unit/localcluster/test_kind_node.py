"""Faults of kind's nodes, and signals to the processes in them. The scripts for the nodes run on this machine."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import ClusterError, Process, kind_node
from localcluster.kind import KindCluster
from localcluster.kind_node import KindNode
from localcluster.processes import Identity
from tests.unit.localcluster.standin import Standins

UID = "0b7cd5cf-3d4c-4d0e-9d37-8d5d2f6f2d11"
TRAINER, SANDBOX = "a" * 64, "b" * 64
DROPPED = ["-t mangle POSTROUTING -o eth0 -j DROP", "-t raw PREROUTING -i eth0 -j DROP"]
CGROUPS = {
    "v2, by systemd": "0::/kubelet.slice/kubelet-kubepods-pod{low}.slice/cri-containerd-{id}.scope",
    "v1, by cgroupfs": "4:memory:/docker/{node}/kubelet/kubepods/pod{uid}/{id}\n0::/docker/{node}",
}


@pytest.fixture
def node(running: Standins, tmp_path: Path) -> KindNode:
    return KindCluster(tmp_path).node("understudy-worker")  # type: ignore[return-value]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to be signalled."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_a_partition_drops_every_packet_both_ways_and_may_be_repeated(running: Standins, node: KindNode) -> None:
    assert node.is_connected
    node.partition()
    node.partition()
    assert running.rules("iptables") == running.rules("ip6tables") == DROPPED
    assert not node.is_connected
    node.heal()
    node.heal()
    assert running.rules("iptables") == running.rules("ip6tables") == []
    assert node.is_connected


def test_a_node_without_ipv6_can_be_partitioned_and_one_without_iptables_says_so(
    running: Standins, node: KindNode
) -> None:
    running.remove("ip6tables")
    node.partition()
    assert running.rules() == DROPPED
    node.heal()
    running.remove("iptables")
    with pytest.raises(ClusterError, match="failed with code 1"):
        node.partition()


def test_a_power_cut_drops_packets_before_it_kills(running: Standins, node: KindNode) -> None:
    running.answer("^docker kill", "understudy-worker\n")
    node.power_cut()
    assert running.rules() == DROPPED
    assert running.calls()[-1] == "docker kill understudy-worker"
    assert running.calls()[-2].startswith("docker exec understudy-worker sh")


def test_a_node_without_power_cannot_lose_it(running: Standins, node: KindNode) -> None:
    running.remove("iptables")
    running.answer("^docker inspect .*Running", "false\n")
    with pytest.raises(ClusterError, match="understudy-worker has no power that could be cut"):
        node.power_cut()
    assert not running.called("docker kill")


@pytest.mark.parametrize("kind", CGROUPS)
def test_the_processes_of_a_pod_are_found_by_their_cgroups(
    running: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    proc = tmp_path / "proc"
    monkeypatch.setattr(kind_node, "PROC", str(proc))
    for pid, uid, container, argv in (
        (300, UID, TRAINER, "python\0-c\0line one\nline two\0"),
        (200, UID, TRAINER, "understudy-agent\0"),
        (100, UID, SANDBOX, "/pause\0"),
        (400, UID.replace("0b7c", "ffff"), TRAINER, "of another pod\0"),
    ):
        (proc / str(pid)).mkdir(parents=True)
        place = CGROUPS[kind].format(uid=uid, low=uid.replace("-", "_"), id=container, node="c" * 64)
        (proc / str(pid) / "cgroup").write_text(place + "\n")
        (proc / str(pid) / "cmdline").write_text(argv)
        numbers = " ".join("0" for _ in range(17))
        (proc / str(pid) / "stat").write_text(f"{pid} (odd ) name) S {pid - 100} {numbers} {pid * 10} 0 0\n")
    running.answer_json(
        "^kubectl .*get pod digits-0-0 --namespace=default",
        {
            "metadata": {"uid": UID},
            "spec": {"nodeName": "understudy-worker2"},
            "status": {"containerStatuses": [{"containerID": f"containerd://{TRAINER}"}]},
        },
    )
    assert KindCluster(tmp_path).processes("default", "digits-0-0") == [
        Process(200, ("understudy-agent",), TRAINER, 100, 2000, "understudy-worker2"),
        Process(300, ("python", "-c", "line one\nline two"), TRAINER, 200, 3000, "understudy-worker2"),
    ]
    assert len(running.called("docker exec understudy-worker2 sh")) == 1


def test_a_signal_reaches_the_very_process_and_no_other_of_its_pid(
    running: Standins, tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    cluster = KindCluster(tmp_path)
    identity = Identity.of(sleeper.pid)
    assert identity is not None
    earlier = Process(sleeper.pid, (), TRAINER, 1, identity.started - 1, "understudy-worker")
    cluster.send_signal(earlier, signal.SIGKILL)
    assert sleeper.poll() is None
    cluster.send_signal(Process(sleeper.pid, (), TRAINER, 1, identity.started, "understudy-worker"), signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL
    cluster.send_signal(earlier, signal.SIGKILL)  # of a process that is gone: nothing to do


def test_a_person_would_type_the_same_signal(running: Standins, tmp_path: Path) -> None:
    process = Process(7, (), TRAINER, 1, 1, "understudy-worker")
    shown = KindCluster(tmp_path).signal_command(process, signal.SIGKILL)
    assert shown == "docker exec understudy-worker kill -KILL 7"


def test_logs_of_a_dead_node_are_copied_from_its_container(running: Standins, node: KindNode) -> None:
    running.answer("^docker cp", (1, "no such container:path"))
    assert node.logs_on_disk(f"default_digits-0-0_{UID}", "trainer") == []
    (copy,) = running.called("docker cp")
    assert copy.startswith(f"docker cp understudy-worker:/var/log/pods/default_digits-0-0_{UID}/trainer ")


def test_an_image_goes_into_the_workers_that_lack_it_and_into_no_other(
    running: Standins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.answer("^docker image inspect", "sha256:new\n")
    running.answer("^docker version", "linux/arm64\n")
    running.answer("^docker exec understudy-worker ctr .*images list", "REF\n", listed("sha256:n1", ""))
    running.answer("^docker exec understudy-worker2 ctr .*images list", listed("sha256:n1", "sha256:new/sha256:n1"))
    KindCluster(tmp_path).load_images(["understudy-worker:dev"])
    (save,) = running.called("docker save")
    assert save.startswith("docker save --platform linux/arm64 --output ")
    (load,) = running.called("kind load image-archive")
    assert load.endswith("--name understudy --nodes understudy-worker")
    (label,) = [call for call in running.calls() if " images label " in call]
    assert label == (
        "docker exec understudy-worker ctr --namespace k8s.io images label docker.io/library/understudy-worker:dev "
        "understudy.dev/engine-id=sha256:new/sha256:n1"
    )
    running.answer("^docker exec .*images list", listed("sha256:n1", "sha256:new/sha256:n1"))
    KindCluster(tmp_path).load_images(["understudy-worker:dev"])
    assert "is on every node" in capsys.readouterr().out
    assert len(running.called("kind load")) == 1
    # Somebody has loaded other content under the name since: the label is still there, and names another digest.
    running.answer("^docker exec .*images list", listed("sha256:n2", "sha256:new/sha256:n1"))
    KindCluster(tmp_path).load_images(["understudy-worker:dev"])
    assert running.called("kind load")[1].endswith("--nodes understudy-worker,understudy-worker2")


def listed(digest: str, mark: str) -> str:
    """A node's answer to `ctr images list`."""
    labels = f"io.cri-containerd.image=managed,understudy.dev/engine-id={mark}"
    return f"REF TYPE DIGEST\ndocker.io/library/understudy-worker:dev manifest {digest} 1.0 GiB linux/amd64 {labels}\n"


def test_several_images_travel_in_one_archive_with_what_they_share(running: Standins, tmp_path: Path) -> None:
    running.answer("^docker image inspect", "sha256:new\n")
    running.answer("^docker version", "linux/amd64\n")
    running.answer("^docker exec .*images list", listed("sha256:n1", ""))
    running.answer("^docker exec .*images list .*operator", listed("sha256:n1", "sha256:new/sha256:n1"))
    KindCluster(tmp_path).load_images(["understudy-operator:dev", "understudy-worker:dev", "understudy-digits:dev"])
    (save,) = running.called("docker save")
    assert save.endswith("/images.tar understudy-worker:dev understudy-digits:dev")
    assert len(running.called("kind load")) == 1
    assert len([call for call in running.calls() if " images label " in call]) == 4


@pytest.mark.parametrize(
    "said",
    ["unknown flag: --platform", '"--platform" requires API version 1.48, but the Docker daemon API version is 1.41'],
)
def test_docker_that_does_not_know_platforms_saves_without(running: Standins, tmp_path: Path, said: str) -> None:
    running.answer("^docker image inspect", "sha256:new\n")
    running.answer("^docker version", "linux/amd64\n")
    running.answer("^docker exec .*images list", listed("sha256:n1", ""))
    running.answer("^docker save --platform", (125, said))
    KindCluster(tmp_path).load_images(["understudy-worker:dev"])
    assert len(running.called("docker save")) == 2
    assert running.called("kind load image-archive")


def test_a_volume_of_all_nodes_has_its_folder_on_this_machine(running: Standins, tmp_path: Path) -> None:
    running.answer_json("^kubectl .*get persistentvolumeclaim ", {"spec": {"volumeName": "pvc-1"}})
    running.answer_json(
        "^kubectl .*get persistentvolume ",
        {"spec": {"hostPath": {"path": "/var/lib/understudy/shared/pvc-1_default_x"}}},
    )
    found = KindCluster(tmp_path).volume_folder("default", "x")
    assert found == tmp_path / "cache/understudy/understudy/volumes/pvc-1_default_x"
