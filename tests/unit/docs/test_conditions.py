"""docs/reference/conditions.md and failure-signals.md against the conditions, phases and causes of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from understudy_contract.events import EventReason
from understudy_contract.reports import Cause
from understudy_operator.core.pending import GATED, STUCK_REASONS
from understudy_operator.core.training import FINISHING

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "conditions.md").read_text()
SIGNALS = (ROOT / "docs" / "explanation" / "failure-signals.md").read_text()
CORE = ROOT / "operator" / "understudy_operator" / "core"
STATUS = yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())["spec"]["versions"][0]["schema"]
STATUS = STATUS["openAPIV3Schema"]["properties"]["status"]["properties"]


def reasons() -> Iterator[str]:
    """List each reason that a condition is given as a literal, or as a member of EventReason."""
    for path in sorted(CORE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                for part in ast.walk(node.args[1]):
                    if isinstance(part, ast.Constant):
                        yield str(part.value)
                    elif isinstance(part, ast.Attribute) and part.attr in EventReason.__members__:
                        yield EventReason[part.attr].value


@pytest.mark.parametrize("reason", sorted({*reasons(), *STUCK_REASONS, GATED, FINISHING}))
def test_every_reason_of_a_condition_is_explained(reason: str) -> None:
    assert f"`{reason}`" in PAGE


def test_the_reasons_of_the_code_are_found() -> None:
    assert {"NoWorkerHeard", "NotYet", "Completed", "ClaimRefused"} <= set(reasons())


def test_every_condition_has_its_part() -> None:
    types = STATUS["conditions"]["items"]["properties"]["type"]["description"]
    for name in re.findall(r"[A-Z]\w+", types):
        assert re.search(rf"^### .*\b{name}\b", PAGE, re.MULTILINE), name


def test_every_phase_has_a_row_and_no_other_has() -> None:
    table = PAGE.partition("## Phases")[2].partition("\n## ")[0]
    described = re.findall(r"(\w+):", STATUS["phase"]["description"])
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == described


def test_every_cause_has_a_signal_and_no_other_has() -> None:
    table = SIGNALS.partition("## Causes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:[A-Z]\w+(?:, )?)+) \|", table, re.MULTILINE)
    assert sorted(name for row in rows for name in row.split(", ")) == sorted(Cause)
