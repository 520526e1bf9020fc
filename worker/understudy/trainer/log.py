"""The lines that a trainer prints to its standard output: a stable format, followed by people and by measurements.

Every line opens with the wall clock of this machine in UTC, RFC 3339 with microseconds, taken after what it reports was
done. One line per `log_every` steps, and one for the first step of every term:

    2026-01-02T03:04:05.678901Z step 101/2000 loss 0.123 accuracy 0.97 12.3 ms/step term 2

`step` is completed/total; then `<name> <value>` for each metric; ms/step is the mean since the line before. The lines
around a change of role:

    … starting from step 0 as primary of term 1
    … standing by with step 100 of term 1
    … resuming from step 100 of term 1 as primary of term 2
    … handed over at step 110 of term 2
    … superseded by term 3
    … finished at step 2000 of term 2, model PATH

The wall clock is for display; durations are measured by the caller on the monotonic clock.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from understudy_contract.lease import micro_time
from understudy_contract.text import clean

LINE_MAX_BYTES: Final = 4096
"""Of a line's text: a traceback goes another way."""


def wall_clock() -> str:
    """Tell the time, RFC 3339 in UTC with microseconds."""
    return micro_time(datetime.now(UTC))


def say(text: str, at: str | None = None) -> None:
    """Print one line, stamped `at` or now, and flush it; control characters in it are removed."""
    print(f"{at or wall_clock()} {clean(text, LINE_MAX_BYTES)}", flush=True)


def step_line(step: int, total: int, metrics: Mapping[str, float], ms_per_step: float, term: int) -> str:
    """Render what follows the timestamp of a step's line."""
    values = "".join(f" {name} {value:.4g}" for name, value in metrics.items())
    return f"step {step}/{total}{values} {ms_per_step:.1f} ms/step term {term}"
