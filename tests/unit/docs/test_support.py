"""docs/reference/support.md against the versions that are locked, and so are what the commands run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "support.md").read_text()
ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?P<version>[^|]+) \|", re.MULTILINE)
WORKER = (ROOT / "requirements-worker.lock").read_text()
OPERATOR = (ROOT / "requirements-operator.lock").read_text()
MODULES = (ROOT / "localcluster" / "go.mod").read_text()


def said(what: str) -> str:
    """Give all versions that the page lists of something."""
    return "; ".join(row["version"] for row in ROW.finditer(PAGE) if row["what"] == what)


def pinned(lock: str, package: str) -> list[str]:
    return re.findall(rf"^{package}==(\S+)", lock, re.MULTILINE)


@pytest.mark.parametrize(
    ("what", "lock", "package"),
    [
        ("TensorFlow", WORKER, "tensorflow-cpu"),
        ("TensorFlow", WORKER, "tensorflow"),
        ("Keras", WORKER, "keras"),
        ("NumPy", WORKER, "numpy"),
        ("kopf", OPERATOR, "kopf"),
        ("Keras", (ROOT / "tests" / "unit" / "keras" / "oldest-keras.txt").read_text(), "keras"),
    ],
)
def test_the_page_names_the_locked_versions(what: str, lock: str, package: str) -> None:
    versions = pinned(lock, package)
    assert versions
    assert all(version in said(what) for version in versions)


@pytest.mark.parametrize(
    ("what", "module"),
    [("Kubernetes", "k8s.io/kubernetes"), ("etcd", "go.etcd.io/etcd/server/v3"), ("helm", "helm.sh/helm/v4")],
)
def test_the_page_names_the_versions_of_the_local_cluster(what: str, module: str) -> None:
    (version,) = re.findall(rf"^\t{module} v(\S+)", MODULES, re.MULTILINE)
    assert version in said(what)


def test_the_page_names_the_python_of_both_images() -> None:
    for side in ("operator", "worker"):
        versions = set(re.findall(r"python(3\.\d+)/", (ROOT / f"Dockerfile.{side}").read_text()))
        assert versions == {said("Python in the images").split()[0]}
