"""A story is run in the simulation, and told in lines for people.

Chance is taken out: each delay that the simulation draws has the middle of its range, and all clocks are right. So a
change of the product's requests moves few lines, and a transcript that changes says what has changed. Left out are the
children that every job has alike, renewals, and words that repeat what another line says.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from tests.simulation.simulation import Simulation
from tests.simulation.transcripts.stories import PLAN, Story

T = TypeVar("T")

FOLDER: Final = Path(__file__).parent
BEFORE_S: Final = 0.5
"""What is told before the first fault."""
_LEFT_OUT: Final = re.compile(
    r"(makes|changes) (services|serviceaccounts|roles|rolebindings|persistentvolumeclaims|poddisruptionbudgets)/"
    r"|trainer: (Hello|Started|Completed|HandedOver|Superseded)"
    r"|no more faults from here on"
)
_PLAIN: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"trainer: Committed\(.*term=(\d+), step=(\d+).*"), r"commits step \2 in term \1"),
    (re.compile(r"trainer: Ready\(.*term=(\d+), step=(\d+).*"), r"has loaded step \2 of term \1"),
    (re.compile(r"trainer: FirstStep\(term=(\d+), step=(\d+).*"), r"completes step \2, its first in term \1"),
    (re.compile(r"trainer: Notice\(.*: '(\w+)'>, message=['\"](.*)['\"]\)"), r"reports \1: \2"),
    (re.compile(r"/understudy/checkpoints/uid-\d+/|-uid-\d+"), ""),
    (re.compile(r"changes leases/(\S+): (\S+) in term (\d+)"), r"changes Lease \1: \2 holds it in term \3"),
    (re.compile(r"makes leases/(\S+): None in term (\d+)"), r"makes Lease \1, which nobody holds"),
    (re.compile(r"makes leases/(\S+): (\S+) in term (\d+)"), r"makes Lease \1: \2 holds it in term \3"),
    (re.compile(r"removes leases/(\S+)"), r"removes Lease \1"),
    (re.compile(r"(makes|changes|removes) pods/"), r"\1 pod "),
    (re.compile(r"None holds it"), "nobody holds it"),
    (re.compile(r"/apis/coordination.k8s.io/v1/namespaces/default/"), ""),
)
_STATE: Final = re.compile(r"(?:makes|changes) ((?:pod|Lease) \S+:) (.*)")


class Even(Random):
    """Chance without surprises: the middle of every range, and the first of all choices."""

    def random(self) -> float:
        """Be the middle."""
        return 0.5

    def choice(self, seq: Any) -> Any:
        """Choose the first."""
        return seq[0]

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Choose the first."""
        return start if stop is not None else 0


class Staged(Simulation):
    """A simulation in which the faults of a story happen."""

    def __init__(self, story: Story) -> None:
        self._story = story
        super().__init__(PLAN, Even(0))

    @property
    def max_failures(self) -> int:
        """See Simulation."""
        return len(self._story.faults) + 1

    def _begin(self) -> None:
        super()._begin()
        for at, fault in self._story.faults:
            self.timeline.at(at, partial(fault, self))


def tell(story: Story) -> str:
    """Run a story; return its title, what to notice, and what happened."""
    staged = Staged(story)
    staged.run()
    told = "\n".join(textwrap.wrap(story.notice, 118))
    since = min((at for at, _ in story.faults), default=0.0) - BEFORE_S
    lines = [line for line in _for_people(staged.transcript.lines) if line[0] >= since]
    text = "".join(f"{at:6.1f}  {who:<16} {what}\n" for at, who, what in lines)
    before = "Until then it went as in start.txt. " if since > 0 else ""
    return f"{story.title}\n\n{told}\n\n{before}Seconds, who, what:\n\n{text}"


def path(name: str) -> Path:
    """Return the file of a story's transcript."""
    return FOLDER / f"{name}.txt"


def _for_people(lines: Sequence[tuple[float, str, str]]) -> Iterator[tuple[float, str, str]]:
    told: dict[str, str] = {}
    for at, who, text in lines:
        if _LEFT_OUT.match(text):
            continue
        if "trainingjobs/" in text:
            verb, _, phase = text.partition(" trainingjobs/digits: ")
            text = f"{verb} job digits" if who == "user" else f"says that the job is {phase}"
            thing, state = ("job", phase) if who != "user" else ("", "")
        else:
            for pattern, plain in _PLAIN:
                text = pattern.sub(plain, text)
            found = _STATE.fullmatch(text)
            thing, state = (found[1], found[2]) if found is not None else ("", "")
        if thing and told.get(thing) == state:
            continue
        told = {} if "etcd is restored" in text else {**told, thing: state}
        yield at, who, text.rstrip()
