"""The list of words that the project does not use, and how it is searched for."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WORDS = runpy.run_path(str(ROOT / "tests" / "words.py"))
RULES = WORDS["read_rules"]((ROOT / "docs" / "words.toml").read_text())
LIST = """
checked = []
names_checked = []
except = []
[[forbidden]]
word = "hushed"
name = true
use = "silent"
[[forbidden]]
word = "trying on"
use = "retrying"
[[forbidden]]
word = "Sight"
case = true
use = "LeaseView"
"""


def found(text: str) -> list[tuple[int, str]]:
    words = WORDS["read_rules"](LIST).words
    return [(place.line, place.word) for place in WORDS["find"]("page.md", text, words)]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("one\nHushed nodes\n", [(2, "Hushed")]),
        ("hushed_nodes and nodes_hushed\n", [(1, "hushed"), (1, "hushed")]),
        ("unhushed, hushedly\n", []),
        ("it is trying\non again\n", [(1, "trying on")]),
        ("class Sight: ...  # at first sight\n", [(1, "Sight")]),
    ],
    ids=["alone", "part of a name", "part of a word", "across two lines", "case"],
)
def test_a_word_is_found_where_it_stands_for_itself(text: str, places: list[tuple[int, str]]) -> None:
    assert found(text) == places


def test_the_message_names_the_place_the_word_and_the_one_to_use() -> None:
    (place,) = WORDS["find"]("docs/a.md", "Hushed.", WORDS["read_rules"](LIST).words)
    assert str(place) == "docs/a.md:1: 'Hushed' is not used here; use: silent (docs/words.toml)"


def test_whatever_is_checked_exists() -> None:
    assert all((ROOT / name).exists() for name in (*RULES.checked, *RULES.names_checked, *RULES.exempt))


def test_private_names_are_marked_among_other_words() -> None:
    assert [word.name for word in WORDS["read_rules"](LIST).words] == [True, False, False]
    assert sum(word.name for word in RULES.words) >= 10


def test_no_word_that_is_forbidden_is_recommended() -> None:
    said = "\n".join(word.use for word in RULES.words)
    assert not list(WORDS["find"]("", said, RULES.words))
