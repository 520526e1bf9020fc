"""The generated pages of docs/reference against the resource definition and the chart."""

import json
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
CHART = ROOT / "charts" / "understudy"
VALUES = (CHART / "values.yaml").read_text()
SCHEMA: Mapping[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def test_no_page_differs_from_its_source() -> None:
    pages: Mapping[Path, str] = GENERATE["pages"]()
    stale = [path.name for path, text in pages.items() if path.read_text() != text]
    assert not stale, "run `make docs`"


def test_the_api_page_has_every_object_of_spec_and_status() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    for part in ("spec", "spec.checkpoint", "spec.failover", "status", "status.ranks[]", "status.failovers[]"):
        assert f"## `{part}`" in page


def test_every_value_of_the_chart_is_listed() -> None:
    listed = {name for name, _ in GENERATE["commented"](VALUES)}
    missing = [name for name in leaves(yaml.safe_load(VALUES), SCHEMA) if not covered(name, listed)]
    assert not missing, "write a comment above each of these in values.yaml"


def test_a_comment_that_is_not_right_above_a_value_belongs_to_none() -> None:
    values = "# of the file\n\na: 1\n# of b\nb:\n  # of c\n  c: 2\n"
    assert GENERATE["commented"](values) == [("b", "of b"), ("b.c", "of c")]


def leaves(values: Mapping[str, Any], schema: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and "properties" in schema["properties"][name]:
            yield from leaves(value, schema["properties"][name], f"{parent}{name}.")
        else:
            yield f"{parent}{name}"


def covered(name: str, listed: set[str]) -> bool:
    """Tell whether a value, or an object that holds it, has a row."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in listed for end in range(1, len(parts) + 1))
