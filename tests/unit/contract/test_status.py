"""The status of a job: what the operator writes is read as it was written, and agrees with the CRD."""

import json
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from understudy_contract.reports import FirstStep, GivenUp, Phase
from understudy_contract.status import ConditionType, Count, JobPhase, JobStatus, Number, read_status, status_of
from understudy_operator.core.actions import WriteStatus

from tests.unit.kube.test_shallow import nested
from tests.unit.operator.builders import RANK, UNDERSTUDY, Scene, a_problem, as_json, of

ROOT = Path(__file__).resolve().parents[3]
WHOLE = {"rank": 0, "term": 2, "promotedAt": "2026-01-01T11:59:00Z"}
WRITTEN = Path(__file__).with_name("written_statuses.json")


@pytest.mark.parametrize(
    ("status", "read"),
    [
        ({"failovers": [{"rank": 0, "term": 1}]}, {"failovers": []}),
        ({"failovers": [{"rank": 0, "term": 1}, WHOLE]}, {"failovers": [WHOLE]}),
        ({"failovers": [None, 7, [], {"rank": "0"}], "phase": "Running"}, {"failovers": [], "phase": "Running"}),
        ({"failovers": [{**WHOLE, "term": 2**62}]}, {"failovers": []}),
        ({"ranks": [{"rank": 0, "step": 2**63 - 1}, {"rank": 1, "redundant": [{}]}, {"step": 1}]},
         {"ranks": [{"rank": 0, "step": 2**63 - 1, "redundant": []}]}),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, {"conditions": []}),
        ({"restarts": None, "failoverCount": "7", "step": -1, "phase": 1}, {}),
        ({"failovers": {}, "ranks": "x", "conditions": 7}, {"failovers": [], "ranks": [], "conditions": []}),
        ([], {}),
        (None, {}),
    ],
)  # fmt: skip
def test_of_a_status_what_no_operator_wrote_is_left_out(status: Any, read: Any) -> None:
    assert as_json(read_status(json.dumps(status).encode())) == {"conditions": [], "ranks": [], "failovers": [], **read}


def test_a_status_that_is_nested_too_deep_is_none() -> None:
    assert read_status(f'{{"phase":"Running","ranks":[{nested(9_000)}]}}'.encode()) == JobStatus()


def test_every_status_that_the_operator_writes_is_read_as_it_was_written() -> None:
    for scene in (Scene(ranks=2), Scene().promoted(), Scene(redundancy=0), Scene(access="ReadWriteOnce")):
        status = scene.written()
        assert as_json(read_status(json.dumps(status).encode())) == status


def test_a_status_that_is_too_long_is_none() -> None:
    assert read_status(json.dumps({"phase": "Running", "redundant": "x" * 600_000}).encode()) == JobStatus()


@pytest.mark.parametrize("job", [{}, {"status": None}, {"status": {}}])
def test_a_job_that_has_no_status_yet_has_an_empty_one(job: dict[str, Any]) -> None:
    assert status_of(job) == JobStatus()


def stepping() -> Scene:
    """A rank that was promoted, and has reported its first step."""
    first = FirstStep(101, "2026-01-01T11:59:50Z")
    beat = {"pod": UNDERSTUDY, "term": 2, "phase": Phase.TRAINING, "first_step": first}
    return Scene().promoted(known_step_exact=False).beat(RANK, **beat)


GIVEN_UP = GivenUp("ProcessExited", "it failed", "2026-01-01T11:59:00Z", 5)
SCENES: dict[str, Callable[[], Scene]] = {
    "two ranks at work": lambda: Scene(ranks=2),
    "a Lease is gone": lambda: Scene().gone(RANK).given(problems={("OpenRank", 0): a_problem("Refused", "no room")}),
    "promoted": lambda: Scene().promoted(),
    "promoted and stepping": stepping,
    "a trainer was started again": lambda: Scene().beat(RANK, failures=2, restarts=2, last_failure="it raised"),
    "given up": lambda: Scene().lease(RANK, given_up=GIVEN_UP),
    "without redundancy": lambda: Scene(redundancy=0),
    "all ranks are complete": lambda: Scene().released(RANK, "Completed").beat(RANK, model="model.keras"),
}


@pytest.mark.parametrize("name", SCENES)
def test_what_is_written_is_the_same_bytes_as_ever(name: str) -> None:
    """An older operator, which leads again after a roll-back, and scripts of users read them."""
    (write,) = of(SCENES[name]().given(status_written_at=-1e9).decide().rest, WriteStatus)
    assert msgspec.json.encode(write.status).decode() == json.loads(WRITTEN.read_text())[name]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return found


def objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """List the objects of a schema, from the outside in, in the order of their fields' names."""
    yield schema
    for _, field in sorted(schema["properties"].items()):
        if field["type"] == "array":
            yield from objects(field["items"])


def kinds(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """List the structs of a status in the same order."""
    yield kind
    for field in sorted(msgspec.structs.fields(kind), key=lambda field: field.encode_name):
        if typing.get_origin(field.type) is tuple:
            yield from kinds(typing.get_args(field.type)[0])


def test_the_crd_has_the_fields_of_the_structs_and_no_others(schema: dict[str, Any]) -> None:
    pairs = list(zip(objects(schema), kinds(JobStatus), strict=True))
    assert len(pairs) == 5
    for described, kind in pairs:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        assert sorted(described["properties"]) == sorted(fields), kind
        for name, field in fields.items():
            assert form(described["properties"][name]) == form_of(field.type), f"{kind.__name__}.{field.name}"
        required = {name for name, field in fields.items() if field.required}
        assert set(described.get("required", ())) <= required, "what the API server asks for is never missing"


def form(described: dict[str, Any]) -> str:
    """Name the type of a field in a schema. Terms have the format int64 there, and a maximum that fits into 32 bits."""
    if described["type"] != "integer":
        return str(described["type"])
    return "int32" if described.get("maximum", 2**63) < 2**31 else str(described["format"])


def form_of(kind: Any) -> str:
    """Name the type of a field of a struct in the same words."""
    optional = typing.get_origin(kind) in (typing.Union, types.UnionType)
    plain = typing.get_args(kind)[0] if optional else kind
    named = {Count: "int32", Number: "int64", str: "string", bool: "boolean"}
    return named.get(plain, "array")


def test_the_crd_explains_every_phase_and_every_type_of_condition(schema: dict[str, Any]) -> None:
    described = schema["properties"]
    assert all(f"{phase}:" in described["phase"]["description"] for phase in JobPhase)
    types = described["conditions"]["items"]["properties"]["type"]["description"]
    assert all(kind in types and kind in described["conditions"]["description"] for kind in ConditionType)
