"""The list of complaints in tests/e2e/test_complaints.py against the tests that there are."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
LIST = (TESTS / "e2e" / "test_complaints.py").read_text().split('"""')[1]
COMPLAINT = re.compile(r"^ ?(?P<number>\d+)  (?P<tests>.+?)(?=^ ?\d+  |^\w|\Z)", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"^ {6}(?P<path>\S+\.py)::(?P<name>test_\w+)$", re.MULTILINE)


def test_each_of_the_thirteen_has_a_test() -> None:
    tested = [int(found["number"]) for found in COMPLAINT.finditer(LIST) if TEST.search(found["tests"])]
    assert tested == list(range(1, 14))


@pytest.mark.parametrize(("path", "name"), [(found["path"], found["name"]) for found in TEST.finditer(LIST)])
def test_it_exists(path: str, name: str) -> None:
    assert f"def {name}(" in (TESTS / path).read_text()
