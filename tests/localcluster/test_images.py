"""Images are built when their inputs change, and only what changed travels into the nodes."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import images
from localcluster.embedded import EmbeddedCluster
from localcluster.engine import Engine
from localcluster.load import CTR
from tests.localcluster.tools import pod, start_pod

pytestmark = pytest.mark.cluster
NAME = "understudy-test:dev"
CATALOGUE = (images.Image(NAME, "Dockerfile"),)
DOCKERFILE = """# A heavy layer, then the source.
FROM debian:trixie-slim
COPY heavy /heavy
COPY source /source
"""


@pytest.fixture
def checkout(tmp_path: Path, cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with one image, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "checkout"
    (folder / "heavy").mkdir(parents=True)
    (folder / "heavy" / "weights").write_bytes(bytes(range(256)) * 4096)
    (folder / "source").write_text("first")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    yield folder
    subprocess.run([Engine.find().program, "rmi", "--force", NAME], check=True, capture_output=True)
    for node in cluster.nodes:
        node.run([*CTR, "images", "remove", f"docker.io/library/{NAME}"])


def content(cluster: EmbeddedCluster) -> set[str]:
    return set(cluster.node("node-1").run([*CTR, "content", "list", "--quiet"]).split())


def test_a_change_of_the_source_moves_its_own_layer_and_reaches_new_pods(
    checkout: Path, cluster: EmbeddedCluster, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert images.build(checkout=checkout, catalogue=CATALOGUE) == [NAME]
    cluster.load_images([NAME])
    before = content(cluster)

    capsys.readouterr()
    images.build(checkout=checkout, catalogue=CATALOGUE)
    cluster.load_images([NAME])
    assert capsys.readouterr().out == f"  {NAME} is up to date\n  {NAME} is on every node\n"

    (checkout / "source").write_text("second")
    images.build(checkout=checkout, catalogue=CATALOGUE)
    cluster.load_images([NAME])
    # The index of the archive belongs to nothing, and containerd collects it when it likes.
    assert 3 <= len(content(cluster) - before) <= 4, "a manifest, a configuration and one layer, perhaps an index"
    start_pod(cluster, namespace, pod("reader", container={"image": NAME, "command": ["sleep", "inf"]}))
    (process,) = cluster.processes(namespace, "reader")
    assert Path(f"/proc/{process.pid}/root/source").read_text() == "second"


def test_a_file_that_no_image_copies_changes_none(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images.build(checkout=checkout, catalogue=CATALOGUE)
    (checkout / "notes").write_text("not for the image")
    capsys.readouterr()
    images.build(checkout=checkout, catalogue=CATALOGUE)
    assert "up to date" in capsys.readouterr().out


def test_nothing_of_the_builds_configuration_stays_in_an_image(checkout: Path) -> None:
    (checkout / "Dockerfile").write_text(f"{DOCKERFILE}RUN test -e /root/.pip/pip.conf && test -e /root/ca.crt\n")
    images.build(checkout=checkout, catalogue=CATALOGUE)
    engine = Engine.find().program
    container = subprocess.run([engine, "from", NAME], check=True, capture_output=True, text=True).stdout.strip()
    try:
        mounted = subprocess.run(
            [engine, "mount", container], check=True, capture_output=True, text=True
        ).stdout.strip()
        assert not (Path(mounted) / "root/.pip").exists()
        assert not (Path(mounted) / "root/ca.crt").exists()
    finally:
        subprocess.run([engine, "rm", container], check=True, capture_output=True)


def test_an_image_that_was_replaced_leaves_no_content_behind(checkout: Path, cluster: EmbeddedCluster) -> None:
    sizes = []
    for word in ("first", "other"):
        (checkout / "source").write_text(word)
        images.build(checkout=checkout, catalogue=CATALOGUE)
        images.export(NAME)
        sizes.append(len(list((images.layout() / "blobs" / "sha256").iterdir())))
    assert sizes[0] == sizes[1]
    cluster.load_images([NAME])
