"""A backup of etcd, taken while it runs, and the return to it, as a cluster's administrator would do it.

The restored data goes on at a revision far above any that was ever seen (Kubernetes asks for that: a client's cached
objects would be newer than the truth otherwise), and everything on the control plane starts anew. Nodes, pods and
whatever else is outside go on unaware that the API server has forgotten what came after the backup.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import urllib.request
from pathlib import Path

from localcluster import controlplane, network, paths, processes
from localcluster.shell import run

REVISION_BUMP = 1_000_000_000
SAVE_TIMEOUT_S = 60


def save(state: paths.State, file: Path) -> None:
    """Write a backup of all that the API server knows."""
    here = ["env", f"PYTHONPATH={paths.CHECKOUT}", f"UNDERSTUDY_INSTANCE={paths.INSTANCE}"]
    enter = ["nsenter", f"--net={network.HANDLES / network.CONTROL}", "--"]
    run([*enter, *here, sys.executable, "-m", "localcluster.etcd", file], timeout_s=SAVE_TIMEOUT_S)


def restore(state: paths.State, file: Path) -> None:
    """Go back to a backup; returns when the API server is ready."""
    running = [processes.recorded(name) for name in controlplane.PROGRAMS]
    processes.end([identity for identity in running if identity is not None])
    folder = controlplane.etcd_folder(state)
    shutil.rmtree(folder)
    bump = [f"--bump-revision={REVISION_BUMP}", "--mark-compacted"]
    run([Path(state.bin) / "etcdutl", "restore", file, f"--data-dir={folder}", *bump], timeout_s=SAVE_TIMEOUT_S)
    controlplane.start(state)


def _download(file: Path) -> None:
    """Read the snapshot through etcd's JSON gateway: a stream of objects, each with a piece of it."""
    url = f"{controlplane.ETCD}/v3/maintenance/snapshot"
    with urllib.request.urlopen(url, data=b"{}", timeout=SAVE_TIMEOUT_S) as answer, file.open("wb") as out:  # noqa: S310 - http
        for line in answer:
            out.write(base64.b64decode(json.loads(line)["result"].get("blob", "")))


if __name__ == "__main__":
    _download(Path(sys.argv[1]))
