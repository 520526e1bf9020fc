"""Fuzz on the Python and the packages of the operator's image: `python -m tests.fuzz.image [--seconds 60] [NAME ...]`.

How deep a decoder may descend, and what it does there, depends on the version of Python and on the build of msgspec.
The sources are this checkout's, mounted. So is hypothesis, in the version of the environment of development, built for
the image's Python.
"""

import sys
from importlib.metadata import version
from pathlib import Path

from localcluster import images
from localcluster.engine import Engine
from localcluster.shell import ClusterError, run

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "understudy-operator:dev"
PYTHON, VERSION = "/opt/venv/bin/python", "3.13"
"""Of the image: see Dockerfile.operator."""
HERE, PACKAGES = "/fuzz", "/fuzz-packages"


def packages() -> Path:
    """Install hypothesis for the image's Python into a folder of its own, and return that."""
    wanted = [f"{name}=={version(name)}" for name in ("hypothesis", "sortedcontainers")]
    folder = Path(sys.prefix) / "fuzz" / "-".join(wanted)
    if not folder.exists():
        uv = [Path(sys.executable).parent / "uv", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
        run([*uv, f"--python-version={VERSION}", f"--target={folder}", *wanted])
    return folder


def mounts() -> dict[Path, str]:
    """Say what lies where in the container."""
    sources = {ROOT / name: f"{HERE}/{name}" for name in ("common", "operator", "tests")}
    return {**sources, packages(): PACKAGES}


def main() -> None:
    """Build the image if it has changed, and fuzz in it."""
    path = ":".join((HERE, f"{HERE}/common", f"{HERE}/operator", PACKAGES))
    try:
        images.build([IMAGE])
        command = [PYTHON, "-m", "tests.fuzz", *sys.argv[1:]]
        sys.exit(Engine.find().run(IMAGE, command, mounts(), {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}))
    except ClusterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
