"""docs/events.md against the reasons that there are."""

import re
from pathlib import Path

import pytest
from understudy_contract.events import EventReason, EventType, event_type

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "events.md").read_text()
ROW = re.compile(r"^\| `(?P<reason>\w+)` \| (?P<type>\w+) \| (?P<happened>.+) \| (?P<to_do>.+) \|$", re.MULTILINE)


def sources() -> list[str]:
    """The code of both sides."""
    return [path.read_text() for side in ("operator", "worker") for path in sorted((ROOT / side).rglob("*.py"))]


def test_every_reason_is_documented_once_with_its_type_and_no_other_is() -> None:
    rows = [(row["reason"], row["type"]) for row in ROW.finditer(PAGE)]
    assert sorted(rows) == sorted((reason.value, event_type(reason).value) for reason in EventReason)


@pytest.mark.parametrize("reason", EventReason)
def test_every_reason_is_used(reason: EventReason) -> None:
    assert any(f"EventReason.{reason.name}" in source for source in sources())


def test_a_reason_that_only_a_later_worker_knows_is_a_warning() -> None:
    assert event_type("Abducted") is EventType.WARNING
