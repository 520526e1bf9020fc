"""What the command line, the demo and the engine do where docker runs and kind is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from demo.story import hindrance, manifest
from localcluster import ClusterError, base, choice, load, paths, teardown
from localcluster.__main__ import main
from localcluster.embedded import EmbeddedCluster
from localcluster.engine import Engine
from localcluster.kind import KindCluster
from tests import stages
from tests.unit.localcluster.standin import Standins


def command(monkeypatch: pytest.MonkeyPatch, checkout: Path, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["localcluster", *words])
    # The default is this checkout, whose kubeconfig and programs others use.
    for function in (choice.up, choice.connect, KindCluster.up, KindCluster.connect, KindCluster.down):
        monkeypatch.setitem(function.__kwdefaults__, "checkout", checkout)
    main()


@pytest.fixture(autouse=True)
def no_other_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs on this machine."""
    monkeypatch.setattr(paths.State, "load", lambda: None)


def test_status_under_kind_is_that_of_kind_alone(
    running: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(teardown, "residue", lambda: ["process 1 of the embedded cluster"])
    command(monkeypatch, tmp_path, "status")
    told = capsys.readouterr().out
    assert told.startswith("The cluster is kind: docker runs and kind is installed.\n")
    assert "understudy-worker  power on  network connected" in told
    running.answer("^kind get clusters", "")
    command(monkeypatch, tmp_path, "status")
    assert capsys.readouterr().out.splitlines()[1:] == ["down"]


def test_status_names_the_containers_of_a_cluster_that_does_not_run_and_what_starts_them(
    running: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running.answer("^docker inspect .*State.Status.* understudy-control-plane", "exited\n")
    command(monkeypatch, tmp_path, "status")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "down",
        "but not all is gone: understudy-control-plane exited, understudy-worker running, understudy-worker2 running",
        "`python -m localcluster up` starts it or makes it anew, `down` removes it",
    ]
    assert not running.called("kind get kubeconfig")  # of a container that does not run nobody gets it


def test_images_that_no_cluster_could_be_given_are_told_of(
    programs: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("localcluster.__main__.build_images", lambda _: ["understudy-operator:dev"])
    command(monkeypatch, tmp_path, "images")
    assert capsys.readouterr().out.startswith("No cluster runs to load them into: `python -m localcluster up`")
    assert not programs.called("kind load")


def test_a_proxy_is_told_of_with_the_address_of_this_engine_and_only_if_it_stands_in_the_way(
    running: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    command(monkeypatch, tmp_path, "up")
    assert "add 127.0.0.1 to NO_PROXY" in capsys.readouterr().out
    monkeypatch.setenv("NO_PROXY", "localhost, 127.0.0.1")
    command(monkeypatch, tmp_path, "up")
    assert "NO_PROXY" not in capsys.readouterr().out


def test_docker_builds_on_its_own_network(programs: Standins, tmp_path: Path) -> None:
    Engine("docker").build(tmp_path / "Dockerfile", tmp_path, "x:dev")
    (build,) = programs.called("docker build")
    assert "--network" not in build


def test_docker_makes_an_image_of_a_folder_without_a_word(
    programs: Standins, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (programs.bin / "tar").symlink_to(shutil.which("tar", path=os.defpath) or "tar")
    programs.answer("^docker import", "sha256:made\n")
    Engine("docker").commit_root(tmp_path, "x:dev")
    assert programs.called("docker import") == ["docker import - x:dev"]
    assert capfd.readouterr() == ("", "")


def test_docker_without_skopeo_gets_it_or_is_told_of_it(
    programs: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(
        ClusterError, match="missing on this machine: skopeo; as root on Debian: apt-get install skopeo"
    ):
        Engine("docker").export("x:dev", tmp_path / "oci")


def test_a_cluster_that_runs_beside_the_chosen_one_is_told_of(
    running: Standins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(EmbeddedCluster, "is_running", lambda: True)
    command(monkeypatch, tmp_path, "down")
    assert "UNDERSTUDY_CLUSTER=embedded before a command means that one" in capsys.readouterr().out
    assert running.called("kind delete cluster")


def test_an_image_is_told_from_another_without_an_export(programs: Standins) -> None:
    programs.answer("^docker image inspect", "sha256:one\n")
    assert load.digest("understudy-operator:dev") == "sha256:one"
    assert not programs.called("docker save")


def test_a_base_image_that_docker_cannot_pull_names_docker(programs: Standins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    programs.answer("^docker (image inspect|pull)", (1, "no route to host"))
    with pytest.raises(
        ClusterError, match=r"docker could not pull docker\.io/library/debian:trixie-slim: try `docker pull"
    ):
        base.provide(Engine("docker"))


def test_the_demo_asks_for_a_volume_of_all_nodes_where_there_are_such() -> None:
    modes = [
        manifest(shared=shared)["spec"]["checkpoint"]["volumeClaimTemplate"]["spec"]["accessModes"]
        for shared in (True, False)
    ]
    assert modes == [["ReadWriteMany"], ["ReadWriteOnce"]]


def test_the_demo_says_why_it_leaves_the_loss_of_a_node_out() -> None:
    assert hindrance(["ReadWriteOnce", "ReadWriteMany"], shared=True) == ""
    assert "kubectl delete pvc digits-checkpoints" in hindrance(["ReadWriteOnce"], shared=True)
    assert "makes a cluster whose nodes share a folder" in hindrance(["ReadWriteOnce"], shared=False)


def test_make_test_uses_the_embedded_cluster_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CLUSTER", "kind")
    see = ["sh", "-c", 'test "$UNDERSTUDY_CLUSTER" = embedded']
    monkeypatch.setattr(stages, "STAGES", {"lint": [see], "cluster": [see], "e2e": [see]})
    monkeypatch.setattr(stages, "can_embed", lambda: True)
    assert stages.main([]) == 0
    assert capsys.readouterr().out.startswith(stages.EMBEDDED)
    monkeypatch.setattr(stages, "can_embed", lambda: False)
    assert stages.main([]) == 0
    told = capsys.readouterr().out
    assert stages.EMBEDDED not in told
    assert told.endswith("Not run, for the embedded cluster needs root on Linux: cluster, e2e.\n")


@pytest.mark.parametrize("target", ["chaos", "bench-failover", "bench-overhead"])
def test_what_needs_the_embedded_cluster_says_so_first_and_uses_it(target: str) -> None:
    printed = subprocess.run(
        ["make", "--dry-run", target], cwd=paths.CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    words = [line for line in printed.splitlines() if "embedded cluster" in line or "localcluster" in line]
    assert words[0].startswith("echo")
    assert stages.EMBEDDED in words[0]
    makefile = (paths.CHECKOUT / "Makefile").read_text()
    (exported,) = [line for line in makefile.splitlines() if line.endswith("export UNDERSTUDY_CLUSTER := embedded")]
    assert target in exported.partition(":")[0].split()
