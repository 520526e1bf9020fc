"""Find words that the project does not use: the list is docs/words.toml, with the usual word for each.

    python tests/words.py [PATH ...]     without an argument the files and folders that the list names

Guarantees that each word of the list is found in each text file below the given paths, alone or as a part of a
snake_case name, with its line and the word to use. Does not understand sentences: a word that is right in one meaning
and private in another stays off the list. Reads only files that git tracks or would track.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "docs" / "words.toml"
BINARY = frozenset({".png"})


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is not used, and the one to use."""

    pattern: re.Pattern[str]
    use: str
    name: bool
    """A private name of the code."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The list: its words, and where they are forbidden."""

    words: tuple[Word, ...]
    checked: tuple[str, ...]
    names_checked: tuple[str, ...]
    """Where only the private names are forbidden."""
    exempt: frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """One place where a word of the list stands."""

    path: str
    line: int
    word: str
    use: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: '{self.word}' is not used here; use: {self.use} (docs/words.toml)"


def read_rules(text: str) -> Rules:
    """Read the list; raises KeyError or tomllib.TOMLDecodeError where it is not one."""
    found = tomllib.loads(text)
    words = []
    for entry in found["forbidden"]:
        flags = 0 if entry.get("case") else re.IGNORECASE
        pattern = re.compile(rf"(?<![A-Za-z])(?:{entry['word']})(?![A-Za-z])", flags)
        words.append(Word(pattern, entry["use"], entry.get("name", False)))
    return Rules(tuple(words), tuple(found["checked"]), tuple(found["names_checked"]), frozenset(found["except"]))


def find(path: str, text: str, words: tuple[Word, ...]) -> Iterator[Found]:
    """Find each word in a text. A line break counts as one space, so that a phrase is found across two lines."""
    joined = text.replace("\n", " ")
    for word in words:
        for match in word.pattern.finditer(joined):
            yield Found(path, text.count("\n", 0, match.start()) + 1, match[0], word.use)


def files(paths: tuple[str, ...]) -> list[str]:
    """List the text files below paths, relative to the repository's root."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({name for name in names if Path(name).suffix not in BINARY and (ROOT / name).is_file()})


def search(paths: tuple[str, ...], words: tuple[Word, ...], rules: Rules) -> list[Found]:
    """Find words in the text files below paths."""
    names = [name for name in files(paths) if name not in rules.exempt]
    return [place for name in names for place in find(name, (ROOT / name).read_text(), words)]


def main(paths: list[str]) -> int:
    """Print every place; 1 if there is one."""
    rules = read_rules(LIST.read_text())
    found = search(tuple(paths) or rules.checked, rules.words, rules)
    if not paths:
        found += search(rules.names_checked, tuple(word for word in rules.words if word.name), rules)
    for place in sorted(found, key=lambda place: (place.path, place.line)):
        print(place)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
