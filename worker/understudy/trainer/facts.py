"""What the exactness of a resumed run depends on, recorded in every checkpoint and compared on resume.

Floating-point sums change with the number of threads, with the instructions of the CPU and with the versions of the
libraries: the weights are then still right, but no longer equal bit for bit to those of an undisturbed run. Reads no
clock.
"""

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from understudy_contract.text import clean

_VALUE_MAX_BYTES: Final = 80


def collect(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Describe this process: versions, CPU; `more` adds what a framework knows (its version, its threads)."""
    return {"python": platform.python_version(), "numpy": np.__version__, "cpu": cpu_features(), **(more or {})}


def cpu_features() -> str:
    """Hash the instruction sets of the first CPU: equal on machines that compute alike."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    if not flags:
        return f"{platform.machine()}-{platform.processor() or 'unknown'}"
    names = " ".join(sorted(flags.partition(":")[2].split()))
    return f"{platform.machine()}-{hashlib.sha256(names.encode()).hexdigest()[:12]}"


def visible_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def differences(recorded: Any, here: Mapping[str, str]) -> list[str]:
    """List what differs, in words; what only one side knows is no difference.

    `recorded` comes from a volume, and may be anything.
    """
    if not isinstance(recorded, Mapping):
        return []
    return [
        f"{name} {clean(str(recorded[name]), _VALUE_MAX_BYTES)} then, {here[name]} now"
        for name in sorted(recorded.keys() & here.keys())
        if recorded[name] != here[name]
    ]
