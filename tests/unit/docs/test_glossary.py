"""docs/glossary.md: each term once, in the order of the alphabet, with one sentence; and the terms of the contract."""

import re
from pathlib import Path

from understudy_contract.names import Role

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
ROWS = re.findall(r"^\| (?!term \| meaning|---)([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
TERMS = [term for term, _ in ROWS]


def test_each_term_stands_once_and_in_the_order_of_the_alphabet() -> None:
    assert sorted(set(TERMS), key=str.lower) == TERMS
    assert len(TERMS) > 40


def test_each_term_has_one_sentence() -> None:
    wrong = [term for term, meaning in ROWS if not meaning.endswith(".") or ". " in meaning.replace("e.g. ", "")]
    assert not wrong


def test_the_roles_and_the_main_words_of_the_contract_are_terms() -> None:
    for word in (*(role.value for role in Role), "heartbeat", "notice", "release", "promotion", "cause"):
        assert any(word in term for term in TERMS)
