"""Where programs print: the terminal, or a file of a width in which no table breaks."""

from typing import Final

from rich.console import Console

WIDTH: Final = 118
"""Without a terminal, as in a log of CI."""


def console() -> Console:
    """Open standard output."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=WIDTH)
