"""The list of complaints in tests/e2e/test_complaints.py against the tests that there are."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
LIST = (TESTS / "e2e" / "test_complaints.py").read_text().split('"""')[1]
COMPLAINT = re.compile(r"^ ?(?P<number>\d+)  (?P<tests>.+?)(?=^ ?\d+  |^\w|\Z)", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"^ {6}(?P<path>\S+\.py)::(?P<name>(?:Test\w+::)?test_\w+)$", re.MULTILINE)


def test_each_of_the_fifteen_has_a_test() -> None:
    tested = [int(found["number"]) for found in COMPLAINT.finditer(LIST) if TEST.search(found["tests"])]
    assert tested == list(range(1, 16))
    assert LIST.count("::test_") == len(TEST.findall(LIST)), "each of them is read"


@pytest.mark.parametrize(("path", "name"), [(found["path"], found["name"]) for found in TEST.finditer(LIST)])
def test_it_exists(path: str, name: str) -> None:
    assert name in ids_in((TESTS / path).read_text())


def test_what_only_looks_like_a_test_is_none() -> None:
    """Not a name that begins alike, nor one in a comment, a string or a function, nor a method without its class."""
    source = '"""def test_told(): ..."""\n# def test_noted(): ...\ndef test_longer(): ...\n'
    source += "class TestIt:\n    def test_method(self):\n        def test_inner(): ...\n"
    assert ids_in(source + "async def test_later(): ...\n") == {"test_longer", "TestIt::test_method", "test_later"}


def ids_in(source: str) -> set[str]:
    """Give the ids, within their file, of a module's test functions and of those of its test classes."""
    module = ast.parse(source)
    classes = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    found = functions_in(module.body)
    return found | {f"{node.name}::{name}" for node in classes for name in functions_in(node.body)}


def functions_in(body: list[ast.stmt]) -> set[str]:
    functions = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name for node in functions if node.name.startswith("test_")}
