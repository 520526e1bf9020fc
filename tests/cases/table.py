"""The table of docs/reference/cases.md: a row for each case, with what was seen when it ran last."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEAD: Final = "| case | what is staged | expected | seen | when, at commit |\n|---|---|---|---|---|\n"
FAILED: Final = "**failed**"
"""How a cell begins that tells of a case which did not give what it expects."""
SEEN_MAX_CHARS: Final = 1500
"""Of what is quoted in one cell."""


@dataclass(frozen=True, slots=True)
class Row:
    """One case."""

    case: str
    staged: str
    expected: str
    seen: str
    when: str

    @property
    def failed(self) -> bool:
        """Tell whether the case did not give what it expects."""
        return self.seen.startswith(FAILED)

    def __str__(self) -> str:
        cells = (self.case, self.staged, self.expected, self.seen[:SEEN_MAX_CHARS], self.when)
        return f"| {' | '.join(map(_cell, cells))} |\n"


def read(case: str, report: Path, when: str) -> Row:
    """Read what a case has noted, and first of all how it failed, from pytest's report."""
    found = ElementTree.parse(report).find(".//testcase") if report.exists() else None
    noted: dict[str, list[str]] = {}
    for entry in found.iter("property") if found is not None else ():
        noted.setdefault(entry.get("name", ""), []).append(entry.get("value", ""))
    seen = noted.get("seen", [])
    wrong = [*found.findall("failure"), *found.findall("error"), *found.findall("skipped")] if found is not None else []
    failed = [f"{FAILED}: {entry.get('message', '').partition(chr(10))[0]}" for entry in wrong]
    if not failed and not seen:
        failed = [f"{FAILED}: it noted nothing, perhaps it did not begin"]
    staged, expected = ("; ".join(noted.get(key, [])) for key in ("staged", "expected"))
    return Row(case, staged, expected, "; ".join([*failed, *seen]), when)


def replace(page: str, rows: Iterable[Row], order: Sequence[str]) -> str:
    """Put rows into a page's table in place of those of the same cases; cases that are not in `order` go."""
    before, head, after = page.partition(HEAD)
    if not head:
        raise ValueError("the page has no table of cases: its head is missing")
    lines, rest = _split(after)
    kept = {line.split(" | ")[0].removeprefix("| "): line for line in lines}
    kept |= {row.case: str(row) for row in rows}
    return before + head + "".join(kept[case] for case in order if case in kept) + rest


def cases(page: str) -> list[str]:
    """List the cases of a page's table."""
    lines, _ = _split(page.partition(HEAD)[2])
    return [line.split(" | ")[0].removeprefix("| ") for line in lines]


def _split(after: str) -> tuple[list[str], str]:
    lines = after.splitlines(keepends=True)
    count = next((n for n, line in enumerate(lines) if not line.startswith("| ")), len(lines))
    return lines[:count], "".join(lines[count:])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
