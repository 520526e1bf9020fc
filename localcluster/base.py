"""The image that every Dockerfile starts from: pulled where a registry answers, else made by debootstrap.

It gets the very name that the Dockerfiles' FROM gives, so that they build the same way in both cases.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from localcluster import paths, requirements
from localcluster.engine import Engine
from localcluster.shell import ClusterError, run_logged, step

NAME = "docker.io/library/debian:trixie-slim"
SUITE = "trixie"
PULL_TIMEOUT_S = 120
# What `slim` means: documentation in no language, now and when packages are installed later.
SLIM = ("usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/linda", "usr/share/locale", "usr/share/man")
CACHES = ("var/cache/apt", "var/lib/apt/lists", "var/log")


def provide(engine: Engine) -> str:
    """Return the base image's id, after getting or making it if it is not here."""
    present = engine.image_id(NAME)
    if present is None:
        with step(f"{NAME} is here"):
            if not engine.pull(NAME, timeout_s=PULL_TIMEOUT_S):
                _make(engine)
        present = engine.image_id(NAME)
    if present is None:
        raise ClusterError(f"{NAME} was made but {engine.program} does not know it")
    return present


def _make(engine: Engine) -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        raise ClusterError(
            f"{engine.program} could not pull {NAME}: try `{engine.program} pull {NAME}` to see why, and set its proxy "
            "or mirror. (As root on Debian the image is made by debootstrap, where no registry can be reached.)"
        )
    requirements.install(requirements.BASE_IMAGE)
    log = paths.cache() / "logs" / "debootstrap.log"
    with tempfile.TemporaryDirectory(dir=paths.cache()) as folder:
        root = Path(folder) / "root"
        run_logged(
            ["debootstrap", "--variant=minbase", SUITE, str(root)], log, env=os.environ, what=f"debootstrap of {SUITE}"
        )
        slim(root)
        engine.commit_root(root, NAME)


def slim(root: Path) -> None:
    """Remove from a fresh system what `slim` images lack, and what would name the machine that made it."""
    for name in SLIM:
        for entry in (root / name).iterdir() if (root / name).is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name in CACHES:
        for path in (root / name).rglob("*"):
            if path.is_file():
                path.unlink()
    excludes = "".join(f"path-exclude /{name}/*\n" for name in SLIM)
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(excludes + "path-include /usr/share/doc/*/copyright\n")
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)
