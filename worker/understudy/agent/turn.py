"""One turn of the machine: the moment, the trainer's counters, and the actions decided so far. Pure."""

from dataclasses import dataclass, field

from understudy import protocol
from understudy.agent.model import Action, Log, Send
from understudy.counters import Counts


@dataclass(slots=True)
class Turn:
    """Shared by the parts of one machine, which begins it anew for each event."""

    now: float = 0.0
    """Monotonic seconds."""
    counts: Counts = field(default_factory=Counts)
    actions: list[Action] = field(default_factory=list)

    def begin(self, now: float, counts: Counts) -> None:
        """Begin the turn of the next event."""
        self.now, self.counts, self.actions = now, counts, []

    def do(self, *actions: Action) -> None:
        """Add actions."""
        self.actions.extend(actions)

    def send(self, message: protocol.FromAgent) -> None:
        """Say this to the trainer."""
        self.do(Send(message))

    def log(self, text: str) -> None:
        """Say this to people."""
        self.do(Log(text))
