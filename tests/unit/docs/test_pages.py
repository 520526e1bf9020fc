"""Every page of Markdown: its links lead somewhere, and its lines are short enough to read."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LISTING = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
LISTED = subprocess.run(LISTING, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
PAGES = sorted(name for name in set(LISTED) if (ROOT / name).exists())
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"`[^`\n]*`")
LINE_MAX = 120
ANY_LENGTH = {"CHANGELOG.md", "localcluster/README.md"}
"""Pages that several changes at once touch; to be wrapped when they are next rewritten."""


@pytest.mark.parametrize("name", PAGES)
def test_each_link_leads_to_a_file_and_a_heading(name: str) -> None:
    page = ROOT / name
    broken = []
    for target in (found["target"] for found in LINK.finditer(CODE.sub("", prose(page.read_text())))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        aim = (page.parent / file).resolve() if file else page
        if not aim.exists() or (anchor and anchor not in anchors(aim.read_text())):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("name", [name for name in PAGES if name not in ANY_LENGTH])
def test_no_line_of_prose_is_too_long(name: str) -> None:
    lines = enumerate(prose((ROOT / name).read_text()).splitlines(), 1)
    assert not [number for number, line in lines if len(line) > LINE_MAX and not line.startswith("|")]


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("docs/")])
def test_every_page_can_be_found_from_the_index(name: str) -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert name == "docs/README.md" or f"({name.removeprefix('docs/')})" in index


def test_the_anchor_of_a_heading_is_the_one_of_github() -> None:
    page = "# What `fit` gives: *all*\n## Twice\n## Twice\n```\n# no heading\n```\n"
    assert anchors(page) == {"what-fit-gives-all", "twice", "twice-1"}


def prose(text: str) -> str:
    """Take blocks of code out of a page; the lines stay where they are."""
    kept, code = [], False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        kept.append("" if fence or code else line)
        code = code != fence
    return "\n".join(kept)


def anchors(text: str) -> set[str]:
    """List the anchors that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    names = set()
    for line in prose(text).splitlines():
        if not line.startswith("#"):
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("#").strip())
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = found.get(anchor, 0)
        found[anchor] = number + 1
        names.add(anchor if number == 0 else f"{anchor}-{number}")
    return names
