"""What a checkout holds of the cluster that runs: its kubeconfig, and links to kubectl and helm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from localcluster import paths


def link(checkout: Path, kubeconfig: str, programs: Sequence[Path]) -> None:
    """Write the kubeconfig into a checkout, and links to the programs."""
    folder = paths.links(checkout)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for program in programs:
        here = folder / "bin" / program.name
        if not here.is_symlink() or here.readlink() != program:
            here.unlink(missing_ok=True)
            here.symlink_to(program)
    file = folder / "kubeconfig"
    if not file.exists() or file.read_text() != kubeconfig:
        temporary = folder / f"kubeconfig.{os.getpid()}"
        temporary.touch(mode=0o600)
        temporary.write_text(kubeconfig)
        temporary.replace(file)


def unlink(checkout: Path) -> None:
    """Take the kubeconfig of an ended cluster out of a checkout."""
    (paths.links(checkout) / "kubeconfig").unlink(missing_ok=True)
