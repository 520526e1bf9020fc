"""A kind cluster is made, found, repaired and ended by docker, kind and kubectl alone."""

import json
from pathlib import Path

import pytest

from localcluster import ClusterError, choice
from localcluster.kind import KindCluster
from tests.unit.localcluster.conftest import AFTER, BEFORE, SHARED, SINGLE, lease, node
from tests.unit.localcluster.standin import Standins


def new(running: Standins) -> Standins:
    """Let the cluster be there only after its creation."""
    running.answer("^kind get clusters", "", "understudy\n")
    running.answer_json("^kubectl .*get configmap", SINGLE, SHARED)
    return running


def test_docker_and_kind_together_choose_kind_and_say_so(programs: Standins) -> None:
    assert choice.described() == "The cluster is kind: docker runs and kind is installed."
    programs.answer("^docker info", (1, "Cannot connect to the Docker daemon"))
    assert choice.described() == "The cluster is the embedded one: kind is installed, but docker does not answer."
    programs.remove("kind")
    assert choice.described() == "The cluster is the embedded one: kind is not installed."


def test_the_environment_chooses_a_cluster(programs: Standins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CLUSTER", "embedded")
    assert choice.described() == "The cluster is the embedded one: UNDERSTUDY_CLUSTER says so."
    monkeypatch.setenv("UNDERSTUDY_CLUSTER", "minikube")
    with pytest.raises(ClusterError, match="choose one of embedded, kind"):
        choice.described()


@pytest.mark.parametrize("missing", ["helm", "kubectl"])
def test_a_missing_program_is_told_before_anything_is_made(running: Standins, tmp_path: Path, missing: str) -> None:
    new(running).remove(missing)
    with pytest.raises(ClusterError, match=f"{missing} is not on PATH.*install {missing}"):
        KindCluster.up(checkout=tmp_path)
    assert running.calls() == []


def test_a_new_cluster_has_a_kubeconfig_of_its_own_and_one_folder_on_every_node(
    running: Standins, tmp_path: Path
) -> None:
    cluster = KindCluster.up(nodes=2, checkout=new(running) and tmp_path)
    (create,) = running.called("kind create cluster")
    assert f"--kubeconfig {tmp_path}/.cluster/kubeconfig" in create
    assert "--image" not in create
    nodes = json.loads(running.sent("kind create cluster"))["nodes"]
    assert [entry["role"] for entry in nodes] == ["control-plane", "worker", "worker"]
    (mount,) = {json.dumps(entry["extraMounts"]) for entry in nodes}
    assert json.loads(mount)[0]["containerPath"] == "/var/lib/understudy/shared"
    assert Path(json.loads(mount)[0]["hostPath"]).is_dir()
    assert cluster.kubeconfig.read_text() == "kubeconfig of kind"
    assert (tmp_path / ".cluster/bin/helm").readlink() == running.bin / "helm"


def test_the_provisioner_is_told_of_the_folder_and_the_cluster_then_has_shared_volumes(
    running: Standins, tmp_path: Path
) -> None:
    cluster = KindCluster.up(nodes=2, checkout=new(running) and tmp_path)
    kubectl = f"kubectl --kubeconfig={tmp_path}/.cluster/kubeconfig"
    (patch,) = running.called(f"{kubectl} patch configmap local-path-config --namespace=local-path-storage")
    assert json.loads(patch.partition("--patch=")[2]) == SHARED
    assert running.called(f"{kubectl} rollout restart deployment/local-path-provisioner")
    assert cluster.has_shared_volumes


def test_a_cluster_without_the_folder_is_used_as_it_is_and_says_so(
    running: Standins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.answer_json("^kubectl .*get configmap", SINGLE)
    running.answer("^docker inspect .*Mounts", "/var\n")
    assert not KindCluster.up(checkout=tmp_path).has_shared_volumes
    assert "its volumes are of one node" in capsys.readouterr().out
    assert not any(" patch " in call for call in running.calls())


def test_all_nodes_are_waited_for(running: Standins, tmp_path: Path) -> None:
    KindCluster.up(checkout=new(running) and tmp_path)
    assert any("wait --for=condition=Ready node --all" in call for call in running.calls())


def test_a_node_image_of_ones_own_is_used(running: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_KIND_IMAGE", "registry.example/node:1")
    KindCluster.up(checkout=new(running) and tmp_path)
    (create,) = running.called("kind create cluster")
    assert create.endswith("--image registry.example/node:1")


def test_kinds_error_line_is_shown_and_its_progress_but_no_stack(
    running: Standins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = """Creating cluster "understudy" ...
 ✗ Ensuring node image (kindest/node:v1) 🖼
ERROR: failed to create cluster: failed to pull image "kindest/node:v1": exit status 1
Command Output: Error response from daemon: no such host
Stack Trace:
sigs.k8s.io/kind/pkg/errors.WithStack
        sigs.k8s.io/kind/pkg/errors/errors.go:59
"""
    new(running).answer("^kind create", (1, said))
    with pytest.raises(ClusterError) as caught:
        KindCluster.up(checkout=tmp_path)
    assert str(caught.value).startswith(
        '`kind create cluster` failed: ERROR: failed to create cluster: failed to pull image "kindest/node:v1": exit '
        "status 1 Command Output: Error response from daemon: no such host (all that it said: "
    )
    told = capsys.readouterr().out
    assert "Ensuring node image" in told
    assert "errors.go" not in told
    assert "errors.go" in (tmp_path / "cache/understudy/logs/kind-create.log").read_text()


def test_another_number_of_nodes_is_told_and_nothing_is_made(
    running: Standins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KindCluster.up(nodes=3, checkout=tmp_path)
    assert "has 2 worker nodes, not 3" in capsys.readouterr().out
    assert not running.called("kind create")


def test_after_a_restart_of_the_machine_the_control_plane_is_started_first_then_linked_then_waited_for(
    running: Standins, tmp_path: Path
) -> None:
    running.answer("^docker inspect .*Running", "false\n")
    KindCluster.up(checkout=tmp_path)
    starts = running.called("docker start")
    assert starts == [
        f"docker start {name}" for name in ("understudy-control-plane", "understudy-worker", "understudy-worker2")
    ]
    order = [running.calls().index(call) for call in (starts[-1], running.called("kind get kubeconfig")[0])]
    waits = next(number for number, call in enumerate(running.calls()) if "--raw=/readyz" in call)
    assert [*order, waits] == sorted([*order, waits])


def test_a_stale_condition_of_a_restarted_node_is_not_believed(running: Standins, tmp_path: Path) -> None:
    cluster, ready = KindCluster(tmp_path), node("True", AFTER)
    running.answer_json("^kubectl .*get lease", lease(BEFORE), lease(AFTER))
    running.answer_json(
        "^kubectl .*get node ", node("True", AFTER), node("True", BEFORE), node("Unknown", AFTER), ready
    )
    cluster.node("understudy-worker").start()
    assert len([call for call in running.calls() if "get lease" in call]) == 4


def test_the_users_kubeconfig_is_left_alone_at_the_end_too(running: Standins, tmp_path: Path) -> None:
    KindCluster.down(checkout=tmp_path)
    assert running.called("kind delete") == [
        f"kind delete cluster --name understudy --kubeconfig {tmp_path}/.cluster/kubeconfig"
    ]


def test_a_cluster_whose_control_plane_is_dead_cannot_be_used_and_the_remedy_is_told(
    running: Standins, tmp_path: Path
) -> None:
    running.answer("^docker inspect .*State.Status.* understudy-control-plane", (1, "Error: No such object: x"))
    assert not KindCluster.is_running()
    with pytest.raises(ClusterError, match=r"control-plane missing, .*start it with `python -m localcluster up`"):
        KindCluster.connect(checkout=tmp_path)


def test_what_a_creation_that_was_cut_short_left_is_no_cluster_and_is_made_anew(
    running: Standins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.answer("^kind get clusters", "")
    running.answer("^kind create", (137, ""))
    with pytest.raises(ClusterError):
        KindCluster.up(checkout=tmp_path)
    running.answer("^kind get clusters", "understudy\n")  # its containers run, and one will never be Ready
    assert not KindCluster.is_running()
    with pytest.raises(
        ClusterError, match=r"does not run \(a creation that has not ended, understudy-control-plane run"
    ):
        KindCluster.connect(checkout=tmp_path)
    running.answer("^kind get clusters", "understudy\n", "", "understudy\n")
    running.answer("^kind create", "")
    KindCluster.up(checkout=tmp_path)
    assert "was cut short" in capsys.readouterr().out
    assert [call.split()[1] for call in running.called("kind ") if "get" not in call] == ["create", "delete", "create"]
    assert KindCluster.is_running()


def test_the_volumes_are_emptied_by_the_nodes_image_after_the_end_of_every_node(
    running: Standins, tmp_path: Path
) -> None:
    volumes = tmp_path / "cache/understudy/understudy/volumes"
    (volumes / "pvc-1").mkdir(parents=True)
    KindCluster.down(checkout=tmp_path)
    deleted, emptied = (call for call in running.calls() if call.startswith(("kind delete", "docker run")))
    assert deleted.startswith("kind delete cluster")
    assert emptied == (
        f"docker run --rm --network=none --volume={volumes}:/var/lib/understudy/shared --entrypoint=find sha256:node "
        "/var/lib/understudy/shared -mindepth 1 -delete"
    )
    assert not list(volumes.iterdir())


def test_volumes_that_nobody_can_remove_are_told_of(
    running: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.answer("^kind get nodes", "")  # somebody has removed the containers, and their image is not known any more
    (tmp_path / "cache/understudy/understudy/volumes/pvc-1").mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # files of another user
    with pytest.raises(ClusterError, match=r"volumes of the ended cluster are left in .*: remove that folder as root"):
        KindCluster.down(checkout=tmp_path)
    assert not running.called("docker run")
