"""Stand-ins for a container engine and its friends, and a kind cluster that consists of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import paths
from tests.unit.localcluster.standin import Standins

STARTED = "2026-01-02T03:04:05.123456789Z"
BEFORE, AFTER = "2026-01-02T03:04:04.000000Z", "2026-01-02T03:04:09.000000Z"
NODES = ("understudy-control-plane", "understudy-worker", "understudy-worker2")
SHARED = {"data": {"config.json": '{"sharedFileSystemPath": "/var/lib/understudy/shared"}'}}
SINGLE = {"data": {"config.json": '{"nodePathMap": []}'}}


@pytest.fixture(autouse=True)
def untouched_checkout() -> Iterator[None]:
    """See that a test changes nothing in this checkout, whose kubeconfig and programs other tests use."""
    found = links_of_checkout()
    yield
    assert links_of_checkout() == found


def links_of_checkout() -> dict[Path, str]:
    folder = paths.links(paths.CHECKOUT)
    return {path: str(path.resolve()) for path in folder.rglob("*")}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standins:
    """The programs, alone on PATH, and a home of their own."""
    found = Standins(tmp_path / "standins")
    monkeypatch.setenv("PATH", str(found.bin))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("UNDERSTUDY_CLUSTER", raising=False)
    monkeypatch.delenv("UNDERSTUDY_KIND_IMAGE", raising=False)
    return found


@pytest.fixture
def running(programs: Standins) -> Standins:
    """A cluster of three nodes that runs, all of them Ready."""
    programs.answer("^kind get clusters", "understudy\n")
    programs.answer("^kind get nodes", "\n".join(reversed(NODES)))
    programs.answer("^kind get kubeconfig", "kubeconfig of kind")
    programs.answer("^docker inspect .*Running", "true\n")
    programs.answer("^docker inspect .*State.Status", "running\n")
    programs.answer("^docker inspect .*Image", "sha256:node\n")
    programs.answer("^docker inspect .*StartedAt", STARTED + "\n")
    programs.answer("^docker inspect .*Mounts", "/var\n/var/lib/understudy/shared\n")
    programs.answer("^kubectl .*--raw=/readyz", "ok")
    programs.answer_json("^kubectl .*get lease", lease(AFTER))
    programs.answer_json("^kubectl .*get node ", node("True", AFTER))
    programs.answer_json("^kubectl .*get configmap", SHARED)
    return programs


def lease(renewed: str) -> dict[str, object]:
    return {"spec": {"renewTime": renewed}}


def node(status: str, reported: str) -> dict[str, object]:
    return {"status": {"conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": reported}]}}
