"""The CRD as a document: it names what the contract names, explains every field, and holds the samples."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from understudy_contract import names

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))


@pytest.fixture(scope="module")
def crd() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())


@pytest.fixture(scope="module")
def schema(crd: dict[str, Any]) -> dict[str, Any]:
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk every declared property below a schema."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def test_it_names_what_the_contract_names(crd: dict[str, Any]) -> None:
    spec = crd["spec"]
    assert crd["metadata"]["name"] == f"{names.PLURAL}.{names.GROUP}"
    assert (spec["group"], spec["names"]["plural"], spec["names"]["kind"]) == (names.GROUP, names.PLURAL, names.KIND)
    assert [version["name"] for version in spec["versions"]] == [names.VERSION]
    assert spec["names"]["shortNames"] == ["tj"]


def test_status_is_a_subresource(crd: dict[str, Any]) -> None:
    assert crd["spec"]["versions"][0]["subresources"] == {"status": {}}


def test_a_release_that_goes_leaves_the_jobs(crd: dict[str, Any]) -> None:
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_columns_are_those_that_people_read(crd: dict[str, Any]) -> None:
    columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"].upper() for column in columns] == ["PHASE", "RANKS", "REDUNDANT", "STEP", "FAILOVERS", "AGE"]


def test_every_field_explains_itself(schema: dict[str, Any]) -> None:
    silent = [
        path
        for part in ("spec", "status")
        for path, field in fields(schema["properties"][part], part)
        if not field.get("description", "").endswith(".")
    ]
    assert silent == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_fits_the_schema(schema: dict[str, Any], sample: Path) -> None:
    for document in yaml.safe_load_all(sample.read_text()):
        if document["kind"] == names.KIND:
            assert document["apiVersion"] == names.API_VERSION
            jsonschema.validate(document, schema)


def test_there_is_a_sample() -> None:
    assert "digits" in [path.stem for path in SAMPLES]
