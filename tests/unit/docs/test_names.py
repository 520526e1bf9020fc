"""Names in the pages: each path, `make` target, and field of a TrainingJob that a page gives as code exists."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.docs.test_pages import PAGES, prose

ROOT = Path(__file__).resolve().parents[3]
CODE = re.compile(r"`([^`\n]+)`")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SCHEMA = yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())["spec"]["versions"][0]["schema"]
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
NOW = [name for name in PAGES if name not in ("CHANGELOG.md", "docs/reference/cases.md")]
"""Pages that say what holds now; a change log and a quotation may name what is gone."""

OTHERS = {"status.accessModes", "status.reason"}
"""Fields of a claim and of a pod."""


def spans(name: str) -> Iterator[str]:
    """List the pieces of code in a page, with what its blocks of code hold."""
    text = (ROOT / name).read_text()
    yield from CODE.findall(prose(text))
    for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL):
        yield from block.splitlines()


@pytest.mark.parametrize("name", NOW)
def test_each_path_exists(name: str) -> None:
    paths = [span for span in spans(name) if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+", span)]
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", NOW)
def test_each_target_of_make_exists(name: str) -> None:
    named = {target for span in spans(name) for target in targets(span)}
    assert not named - TARGETS


@pytest.mark.parametrize("name", NOW)
def test_each_field_of_a_job_exists(name: str) -> None:
    found = re.findall(r"(?<![\w/])((?:spec|status)(?:\.[a-zA-Z]+)+)", "\n".join(spans(name)))
    assert not [
        field for field in found if field not in OTHERS and not known(field.split("."), SCHEMA["openAPIV3Schema"])
    ]


def targets(command: str) -> Iterator[str]:
    """List the targets of a command of make: the words before the first variable, pattern or comment."""
    words = command.split()
    if "make" not in words[:2]:
        return
    for word in words[words.index("make") + 1 :]:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            return
        yield word


def known(parts: list[str], schema: Mapping[str, Any]) -> bool:
    """Tell whether a field is declared; of a pod template and of other objects all are."""
    if not parts or schema.get("x-kubernetes-preserve-unknown-fields"):
        return True
    schema = schema.get("items", schema)
    return parts[0] in schema.get("properties", {}) and known(parts[1:], schema["properties"][parts[0]])
