"""What the spectator sees: lines as things happen, and below them, on a terminal, how the job is just now."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from testbed import Testbed
from testbed.console import console
from testbed.measure import Failover
from testbed.world import RankState

JOB: Final = "digits"
REFRESHES_PER_S: Final = 4


class Screen:
    """The terminal, or whatever standard output is."""

    def __init__(self) -> None:
        self._console = console()
        self._began = time.monotonic()
        self._testbed: Testbed | None = None
        self._shown: dict[str, str] = {}

    @contextmanager
    def watching(self, testbed: Testbed) -> Iterator[None]:
        """Tell what happens to the job's pods, and show the job as it is, until the block ends."""
        self._testbed = testbed
        testbed.world.on_change = self._tell_changes
        if not self._console.is_terminal:
            yield
            return
        live = Live(
            console=self._console,
            get_renderable=self._now,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
        )
        with live:
            yield

    def chapter(self, title: str) -> None:
        """Open a chapter."""
        self._console.print()
        self._console.print(Rule(f"[bold]{escape(title)}", align="left", characters="─", style="cyan"))

    def say(self, text: str, style: str = "") -> None:
        """Print a line, with the time since the start."""
        passed = int(time.monotonic() - self._began)
        self._console.print(
            Text.assemble((f"{passed // 60:3}:{passed % 60:02}  ", "dim"), (text, style)),
            highlight=False,
            soft_wrap=True,
        )

    def command(self, text: str) -> None:
        """Show a command that is run."""
        self.say(f"$ {text}", "bold yellow")

    def plain(self, text: str) -> None:
        """Print a program's own output."""
        self._console.print(Text(text.rstrip()), highlight=False, soft_wrap=True)

    def result(self, found: Failover, *, said: str) -> None:
        """Show what a fault led to; `said` is what the status says of it."""
        lost = "no step" if found.lost_steps == 0 else f"{found.lost_steps} steps"
        self.say(f"{found.new} was promoted: rank {found.rank}, term {found.term}, cause {found.cause}", "bold green")
        self.say(
            f"fault → decision {found.decided_s:.3f} s → first new step {found.took_s:.3f} s after the fault; "
            f"{lost} lost (step {found.last_step} done, resumed from {found.resumed})",
            "green",
        )
        self.say(f"the status says: {said}")

    def table(self, table: Table) -> None:
        """Show a table."""
        self._console.print()
        self._console.print(table)

    def fail(self, text: str) -> None:
        """Say why the demo ends here."""
        self._console.print(f"\n[bold red]The demo failed:[/bold red] {escape(text)}", highlight=False, soft_wrap=True)

    def _tell_changes(self) -> None:
        """Say what is new of each pod; called on the threads that watch, one at a time."""
        assert self._testbed is not None
        world = self._testbed.world
        with world.changed:
            found = {}
            for rank in world.ranks(JOB):
                warm = {pod.name for pod in rank.redundant}
                for pod in world.pods.values():
                    if pod.job == JOB and pod.rank == rank.rank and not pod.deleting:
                        found[pod.name] = _condition(rank, pod.name, warm=pod.name in warm, on=pod.node)
            for name, condition in found.items():
                if condition and self._shown.get(name) != condition:
                    self.say(f"{name} {condition}", "cyan")
                    self._shown[name] = condition

    def _now(self) -> Group:
        assert self._testbed is not None
        world = self._testbed.world
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for column in ("rank", "term", "primary", "node", "step", "redundant, warm"):
            table.add_column(column, justify="right" if column in ("rank", "term", "step") else "left")
        with world.changed:
            ranks = world.ranks(JOB)
        for rank in ranks:
            primary = rank.primary
            steps = self._testbed.logs.of(primary.name).steps if primary else []
            last = steps[-1] if steps else None
            table.add_row(
                str(rank.rank),
                str(rank.term),
                Text(primary.name if primary else "–", "bold green" if rank.training else "bold red"),
                primary.node if primary else "",
                f"{last.step}/{last.total}" if last else "",
                ", ".join(f"{pod.name} on {pod.node}" for pod in rank.redundant) or Text("none yet", "yellow"),
            )
        return Group(Padding(table, (1, 0, 0, 2)))


def _condition(rank: RankState, pod: str, *, warm: bool, on: str) -> str:
    if rank.primary is not None and rank.primary.name == pod:
        return f"trains rank {rank.rank} on {on}, term {rank.term}" if rank.training else ""
    return f"stands by for rank {rank.rank} on {on}, warm" if warm else ""
