"""Fuzz on the Python and the packages of the images: `python -m tests.fuzz.image [--seconds 60] [NAME ...]`.

Half of the time goes to the operator's image, half to the worker's, which alone has what reads a volume.

How deep a decoder may descend, and what it does there, depends on the version of Python and on the build of msgspec.
The sources are this checkout's, mounted. So is hypothesis, in the version of the environment of development, built for
the image's Python.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from localcluster import images
from localcluster.engine import Engine
from localcluster.shell import ClusterError, run

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"understudy-operator:dev": "operator", "understudy-worker:dev": "worker"}
"""Each with the source root of its side."""
PYTHON, VERSION = "/opt/venv/bin/python", "3.13"
"""Of both images: see Dockerfile.operator and Dockerfile.worker."""
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
    sources = {ROOT / name: f"{HERE}/{name}" for name in ("common", "operator", "worker", "tests")}
    return {**sources, packages(): PACKAGES}


def main() -> None:
    """Build the images if they have changed, and fuzz in each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("names", nargs="*")
    wanted = parser.parse_args()
    command = [PYTHON, "-m", "tests.fuzz", "--seconds", str(wanted.seconds / len(IMAGES)), *wanted.names]
    try:
        images.build(list(IMAGES))
        for image, side in IMAGES.items():
            path = ":".join((HERE, f"{HERE}/common", f"{HERE}/{side}", PACKAGES))
            print(f"in {image}:", flush=True)
            environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
            if code := Engine.find().run(image, command, mounts(), environment):
                sys.exit(code)
    except ClusterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
