"""The Dockerfiles and locks, as documents: neither image carries the other side's dependencies or an index address."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILES = ("Dockerfile.operator", "Dockerfile.worker")


def locked(side: str) -> set[str]:
    """Names of the packages in a lock."""
    text = (ROOT / f"requirements-{side}.lock").read_text()
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, flags=re.MULTILINE))


def test_the_operator_carries_no_tensorflow() -> None:
    assert not {"tensorflow", "tensorflow-cpu", "keras", "numpy"} & locked("operator")


def test_the_worker_carries_no_kopf() -> None:
    assert not {"kopf", "kubernetes"} & locked("worker")


@pytest.mark.parametrize("name", [*DOCKERFILES, "requirements-operator.lock", "requirements-worker.lock"])
def test_no_index_address_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert "--index-url" not in text


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dependencies_come_before_the_source(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text.index("--require-hashes") < text.index("COPY common/")
    final = text[text.rindex("\nFROM ") :]
    assert final.startswith("\nFROM dependencies\n"), "copying from that stage reads all of it at each change"
    assert final.index("COPY --from=source") > 0
    assert "ARG" not in text, "what the build is told must not stay in the image"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_image_runs_as_nobody_special(name: str) -> None:
    assert (ROOT / name).read_text().rstrip().splitlines()[-2] == "USER 10001:10001"
