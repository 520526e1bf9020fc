"""What the lines of a worker's log say: the trainer's on standard output, the agent's on standard error.

The formats are those that `worker/understudy/trainer/log.py` documents, and the agent's `understudy: TIME text`.
A line that begins with no time, such as a script's own, keeps the time at which it was read.
"""

import re
from dataclasses import dataclass
from typing import Final

from testbed.kube import parse_time

_STAMPED: Final = re.compile(r"(understudy: )?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z) (.*)\Z", re.DOTALL)
_STEP: Final = re.compile(r"step (\d+)/(\d+)(.*) ([\d.]+) ms/step term (\d+)\Z")
_RESUMED: Final = re.compile(r"resuming from step (\d+) of term (\d+) as primary of term (\d+)")
_STARTED: Final = re.compile(r"starting from step 0 as primary of term (\d+)")
_PROMOTED: Final = re.compile(r"primary of rank (\d+) in term (\d+)")


@dataclass(frozen=True, slots=True)
class Step:
    """A step that a trainer completed."""

    at: float
    step: int
    """Steps completed, this one included."""
    total: int
    term: int
    ms: float
    """Mean per step since the line before."""


@dataclass(frozen=True, slots=True)
class Line:
    """Any other line."""

    at: float
    text: str
    agent: bool
    """The agent wrote it, not the trainer."""
    stamped: bool
    """The time is the writer's own."""


def parse(text: str, now: float) -> Step | Line:
    """Read one line; `now` stands in for a time that it does not carry."""
    stamped = _STAMPED.match(text)
    if stamped is None:
        return Line(now, text, agent=text.startswith("understudy: "), stamped=False)
    at, rest = parse_time(stamped[2]), stamped[3]
    step = _STEP.match(rest) if stamped[1] is None else None
    if step is not None:
        return Step(at, int(step[1]), int(step[2]), int(step[5]), float(step[4]))
    return Line(at, rest, agent=stamped[1] is not None, stamped=True)


def resumed(line: Line) -> tuple[int, int] | None:
    """Say at which step which term began, if this line tells."""
    if found := _RESUMED.match(line.text):
        return int(found[1]), int(found[3])
    if found := _STARTED.match(line.text):
        return 0, int(found[1])
    return None


def promoted_term(line: Line) -> int | None:
    """Return the term for which the agent logs that its pod is primary now; None for any other line."""
    found = _PROMOTED.match(line.text) if line.agent else None
    return int(found[2]) if found else None
