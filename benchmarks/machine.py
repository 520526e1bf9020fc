"""What a result was measured on."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from localcluster.paths import CHECKOUT
from testbed.kube import Kube

STEAL_FIELD: Final = 7
"""Of the first line of /proc/stat, behind its name; the guests' time behind it is part of the others."""


def facts(kube: Kube) -> dict[str, Any]:
    """Collect them: hardware, kernel, versions, commit, and how busy the machine was."""
    nodes = kube.get("/api/v1/nodes")["items"]
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kubernetes": kube.get("/version")["gitVersion"],
        "container_runtime": nodes[0]["status"]["nodeInfo"]["containerRuntimeVersion"],
        "nodes": len(nodes),
        "tensorflow": _locked("tensorflow-cpu"),
        "keras": _locked("keras"),
        "understudy": importlib.metadata.version("understudy-operator"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def cpu_ticks() -> tuple[int, int]:
    """Return how much time the host has taken away from this machine's CPUs, and how much there was in all."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1 : STEAL_FIELD + 2]
    ticks = [int(field) for field in fields]
    return ticks[STEAL_FIELD], sum(ticks)


def stolen_percent(since: tuple[int, int]) -> float:
    """Return the share of CPU time that the host has taken since then: a result under more than a few is worthless."""
    stolen, total = cpu_ticks()
    return round(100 * (stolen - since[0]) / max(1, total - since[1]), 1)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _locked(package: str) -> str:
    """Return the version that is in the image: the one in its lock file."""
    for line in (CHECKOUT / "requirements-worker.lock").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.removeprefix(f"{package}==").split()[0].rstrip("\\")
    return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
