"""docs/reference/events.md against the reasons that there are."""

import re
from pathlib import Path

import pytest
from understudy_contract.events import NOTICES, EventReason, EventType, event_type, notice_reason

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "events.md").read_text()
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
    assert event_type(notice_reason("Abducted")) is EventType.WARNING


def test_what_workers_may_say_is_what_the_page_says_that_they_notice() -> None:
    noticed = PAGE.partition("## What workers notice")[2]
    assert {row["reason"] for row in ROW.finditer(noticed)} == {*NOTICES, EventReason.WORKER_NOTICE}
