"""What processes of this machine use, from /proc; and where their threads may run."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
CPU_FIELDS: Final = slice(11, 13)
"""utime and stime of /proc/PID/stat, counted behind the name."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used over some seconds."""

    rss_mb: float
    """Resident at the end."""
    peak_rss_mb: float
    """The most since its start."""
    cpu_percent: float
    """Of one core."""
    seconds: float


def usage(pids: Sequence[int], seconds: float) -> list[Usage]:
    """Watch processes for some seconds; that long is the measurement, nothing is waited for."""
    began, before = time.monotonic(), [_cpu_s(pid) for pid in pids]
    time.sleep(seconds)
    passed = time.monotonic() - began
    return [
        Usage(
            rss_mb=_memory_mb(pid, "VmRSS"),
            peak_rss_mb=_memory_mb(pid, "VmHWM"),
            cpu_percent=100 * (_cpu_s(pid) - used) / passed,
            seconds=passed,
        )
        for pid, used in zip(pids, before, strict=True)
    ]


def resident_mb(pid: int) -> float:
    """Return what a process holds in memory now; 0 once it has ended."""
    try:
        return _memory_mb(pid, "VmRSS")
    except FileNotFoundError:
        return 0.0


def pin(pid: int, core: int) -> None:
    """Let all threads of a process, and those that it starts later, run on one core only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(task.name), {core})


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[CPU_FIELDS])) / TICKS_PER_S


def _memory_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
