"""docs/reference/template.md against the fields that a pod has, and against what is done with each."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from understudy_contract.names import Rank, Term
from understudy_operator import children
from understudy_operator.core.actions import CreatePod, Placement
from understudy_operator.core.policy import read_policy
from understudy_operator.core.template import changes

from tests.integration.crd.template_fields import PROBE, REFUSED_TEMPLATE, TAKEN, of_trainer, with_field
from tests.unit.operator.builders import a_job

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parents[2] / "docs" / "reference" / "template.md").read_text()
ROW = re.compile(r"^\| `(?P<field>\w+)` \| (?P<fate>[\w ]+) \|", re.MULTILINE)
FIELDS: Mapping[str, Any] = json.loads((HERE / "pod_fields.json").read_text())
"""Of a real API server; tests/integration/crd/test_fields.py holds them against the one that runs."""

_, _POD, _CONTAINER = PAGE.split("\n## ")[:3]
FATES = {
    **{f"pod.{row['field']}": row["fate"] for row in ROW.finditer(_POD)},
    **{f"container.{row['field']}": row["fate"] for row in ROW.finditer(_CONTAINER)},
}
CHANGED = {
    "container.env": of_trainer(env=[{"name": "UNDERSTUDY_RANK", "value": "7"}]),
    "container.readinessProbe": of_trainer(readinessProbe=PROBE),
    "container.terminationMessagePath": of_trainer(terminationMessagePath="/tmp/words"),
}
REFUSED_OTHERWISE = {"pod.containers", "pod.restartPolicy", "pod.terminationGracePeriodSeconds", "container.command"}
"""By rules that tests/integration/crd/test_validation.py has its own rows for."""


def fates(*wanted: str) -> set[str]:
    return {field for field, fate in FATES.items() if fate in wanted}


def test_every_field_of_kubernetes_has_one_row_and_no_other_has() -> None:
    assert f"Kubernetes {FIELDS['version']}" in " ".join(PAGE.split())
    for part, table, kind in (("pod", _POD, "PodSpec"), ("container", _CONTAINER, "Container")):
        assert sorted(row["field"] for row in ROW.finditer(table)) == sorted(FIELDS[kind]), part


def test_every_field_has_one_of_the_fates_that_the_page_explains() -> None:
    assert fates("works", "in part", "refused", "changed") == set(FATES)


def test_what_is_said_to_be_refused_is_refused_and_nothing_else() -> None:
    """The API server's own tests send each of REFUSED_TEMPLATE."""
    assert fates("refused", "in part") == set(REFUSED_TEMPLATE) | REFUSED_OTHERWISE


def test_what_is_said_to_work_has_an_example_that_does() -> None:
    assert fates("works", "in part") | {"container.env"} == set(TAKEN)


@pytest.mark.parametrize("field", TAKEN)
def test_a_pod_has_what_its_template_gives(field: str) -> None:
    pod = pod_of(with_field(field, TAKEN[field]))
    (trainer,) = [c for c in pod["spec"]["containers"] if c["name"] == "trainer"]
    part, _, name = field.partition(".")
    if field == "pod.serviceAccount":
        name = "serviceAccountName"
    if field in ("container.command", "container.args"):
        assert trainer["command"][-2:] == TAKEN[field]
    else:
        assert has((trainer if part == "container" else pod["spec"])[name], TAKEN[field])


def has(found: Any, given: Any) -> bool:
    """Tell whether what was given is there, whatever was added."""
    if isinstance(given, dict):
        return all(key in found and has(found[key], value) for key, value in given.items())
    if isinstance(given, list):
        return all(any(has(one, item) for one in found) for item in given)
    return bool(found == given)


@pytest.mark.parametrize("field", sorted(fates("changed")))
def test_what_is_said_to_be_changed_is_told(field: str) -> None:
    template = CHANGED[field]["spec"]["template"]
    (told,) = changes(template)
    name = field.partition(".")[2]
    assert name in told
    (given,) = [c[name] for c in template["spec"]["containers"]]
    (trainer,) = pod_of(CHANGED[field])["spec"]["containers"]
    assert name not in trainer or not has(trainer[name], given)


def pod_of(body: Mapping[str, Any]) -> dict[str, Any]:
    job = replace(a_job(), policy=read_policy("digits", body["spec"]))
    return children.pod(job, CreatePod("digits-0-0", Rank(0), None, Term(1), Placement(False, ())))
