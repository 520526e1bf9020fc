"""Which local cluster this machine uses: kind where docker answers and kind is installed, else the embedded one.

The environment variable UNDERSTUDY_CLUSTER (`embedded` or `kind`) overrides this.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from localcluster import engine, paths
from localcluster.cluster import CHOICE, NODES, Cluster
from localcluster.embedded import EmbeddedCluster
from localcluster.kind import KindCluster
from localcluster.shell import ClusterError

KINDS: dict[str, type[Cluster]] = {"embedded": EmbeddedCluster, "kind": KindCluster}


def up(*, nodes: int = NODES, checkout: Path = paths.CHECKOUT) -> Cluster:
    """Return the machine's cluster: the one that runs, repaired if need be, else a new one."""
    return chosen().up(nodes=nodes, checkout=checkout)


def connect(*, checkout: Path = paths.CHECKOUT) -> Cluster:
    """Return the running cluster; ClusterError says how to get one when there is none."""
    return chosen().connect(checkout=checkout)


def chosen() -> type[Cluster]:
    """Return the kind of cluster that is used here."""
    name, _ = _choose()
    if name not in KINDS:
        raise ClusterError(f"{CHOICE}={name}: choose one of {', '.join(KINDS)}")
    return KINDS[name]


def described() -> str:
    """Say in one sentence which cluster is used here, and why."""
    return f"The cluster is {chosen().title}: {_choose()[1]}."


def others() -> list[str]:
    """Return the values of UNDERSTUDY_CLUSTER under which another cluster runs beside the chosen one."""
    found = []
    for name, kind in KINDS.items():
        with contextlib.suppress(ClusterError):  # its engine does not answer: nothing of it runs
            if name != _choose()[0] and kind.is_running():
                found.append(name)
    return found


def _choose() -> tuple[str, str]:
    """Return the name of the kind to use, and the reason."""
    if named := os.environ.get(CHOICE):
        return named, f"{CHOICE} says so"
    if shutil.which("kind") is None:
        return "embedded", "kind is not installed"
    if not engine.works("docker"):
        return "embedded", "kind is installed, but docker does not answer"
    return "kind", "docker runs and kind is installed"
