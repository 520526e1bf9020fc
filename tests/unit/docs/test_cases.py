"""docs/reference/cases.md against the cases that there are, and how its table is written."""

import ast
from pathlib import Path

import pytest

from tests.cases.table import HEAD, Row, cases, read, replace

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "cases.md").read_text()
OLD = f"# Cases\n\n{HEAD}| one | s | e | old | then |\n| gone | s | e | old | then |\n\nAfter it.\n"


def test_the_page_has_a_row_for_each_case() -> None:
    modules = [ast.parse(path.read_text()) for path in sorted((ROOT / "tests" / "cases").glob("test_*.py"))]
    functions = [node for module in modules for node in module.body if isinstance(node, ast.FunctionDef)]
    names = [node.name for node in functions if node.name.startswith("test_")]
    assert cases(PAGE) == [name.removeprefix("test_").replace("_", "-") for name in names]


def test_rows_are_replaced_in_the_order_of_the_cases_and_the_rest_of_the_page_stays() -> None:
    page = replace(OLD, [Row("two", "s", "e", "new", "now")], ["two", "one"])
    rows = "| two | s | e | new | now |\n| one | s | e | old | then |\n"
    assert page == f"# Cases\n\n{HEAD}{rows}\nAfter it.\n"


def test_a_cell_is_one_line_and_holds_no_bar() -> None:
    assert str(Row("one", "s", "e", "a\n b | c", "now")) == "| one | s | e | a b \\| c | now |\n"


def test_a_page_without_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="its head is missing"):
        replace("# Cases\n", [], [])


PROPERTIES = """<properties><property name="staged" value="s" /><property name="expected" value="e" />
<property name="seen" value="Running" /></properties>"""


@pytest.mark.parametrize(
    ("inner", "seen"),
    [
        (PROPERTIES, "Running"),
        (f'{PROPERTIES}<failure message="assert 1 == 2&#10;more">…</failure>', "**failed**: assert 1 == 2; Running"),
        (f'{PROPERTIES}<error message="at its end">…</error>', "**failed**: at its end; Running"),
        (f'{PROPERTIES}<skipped message="no cluster">…</skipped>', "**failed**: no cluster; Running"),
        ("", "**failed**: it noted nothing, perhaps it did not begin"),
    ],
    ids=["passed", "failed", "error", "skipped", "empty"],
)
def test_a_case_that_did_not_pass_is_called_failed_whatever_it_noted(tmp_path: Path, inner: str, seen: str) -> None:
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite><testcase name='x'>{inner}</testcase></testsuite></testsuites>")
    assert read("x", report, "now").seen == seen


def test_a_case_without_a_report_has_failed(tmp_path: Path) -> None:
    assert read("x", tmp_path / "none.xml", "now").seen.startswith("**failed**")
