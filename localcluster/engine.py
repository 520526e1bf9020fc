"""The program that builds images: docker, podman or buildah, whichever works here; the last one is installed if none.

Builds learn where packages come from (index, proxy, certificates) and nothing of it reaches an image: it lies in the
build's home folder, /root, which buildah and podman mount for the build only. docker cannot do that; its builds see
what its own configuration gives them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import paths, requirements
from localcluster.shell import ClusterError, run, run_logged

BUILD_HOME = "/root"  # there in every image, so that mounting it leaves no trace in a layer
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
AUTHORITIES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
DEFAULT_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PROBE_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine, called by its command line."""

    program: str

    @classmethod
    def find(cls) -> Engine:
        """Return the first engine that works; with none, buildah is installed."""
        if works("docker"):
            return cls("docker")
        if works("podman") and shutil.which("skopeo"):
            return cls("podman")
        requirements.install(requirements.IMAGES)
        return cls("buildah")

    def image_id(self, name: str) -> str | None:
        """Return the id of an image that is here; None when it is not."""
        verb = ["inspect", "--type", "image"] if self.program == "buildah" else ["image", "inspect"]
        template = "{{.FromImageID}}" if self.program == "buildah" else "{{.Id}}"
        try:
            return run([self.program, *verb, "--format", template, name]).strip() or None
        except ClusterError:
            return None

    def pull(self, name: str, *, timeout_s: float) -> bool:
        """Try to get an image from a registry."""
        try:
            run([self.program, "pull", name], timeout_s=timeout_s)
        except ClusterError:
            return False
        return True

    def build(self, dockerfile: Path, context: Path, name: str) -> None:
        """Build an image; unchanged steps come from earlier builds."""
        command: list[object] = [self.program, "build", "--file", dockerfile, "--tag", name]
        with tempfile.TemporaryDirectory() as home:
            if self.program != "docker":
                _write_build_home(Path(home))
                command += ["--layers", f"--volume={home}:{BUILD_HOME}"]
            if self.program == "buildah":
                command += ["--isolation=chroot", "--network=host"]
            log = paths.cache() / "logs" / f"build-{name.partition(':')[0]}.log"
            run_logged([*command, context], log, env=os.environ, what=f"building {name}")

    def run(self, name: str, command: Sequence[str], mounts: Mapping[Path, str], environment: Mapping[str, str]) -> int:
        """Run a command in an image, with folders of this machine to read; return its exit code."""
        volumes = [f"--volume={source}:{target}:ro" for source, target in mounts.items()]
        settings = [f"--env={key}={value}" for key, value in environment.items()]
        if self.program != "buildah":
            start = [self.program, "run", "--rm", *volumes, *settings, f"--entrypoint={command[0]}", name, *command[1:]]
            return subprocess.run(start, check=False).returncode
        container = run(["buildah", "from", name]).strip()
        try:
            inside = ["buildah", "run", "--isolation=chroot", *volumes, *settings, container, "--", *command]
            return subprocess.run(inside, check=False).returncode
        finally:
            run(["buildah", "rm", container])

    def commit_root(self, root: Path, name: str) -> None:
        """Make an image of a folder that holds a whole root file system."""
        if self.program != "buildah":
            load = [self.program, "import", "-", name]
            with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as archive:
                subprocess.run(load, stdin=archive.stdout, check=True, stdout=subprocess.DEVNULL)
            if archive.returncode != 0:
                raise ClusterError(f"tar could not read all of {root}: {name} is not complete")
            return
        container = run(["buildah", "from", "scratch"]).strip()
        try:
            run(["buildah", "add", "--quiet", container, root, "/"])
            run(["buildah", "config", "--cmd", "bash", "--created-by", "debootstrap", container])
            run(["buildah", "commit", "--quiet", container, name])
        finally:
            run(["buildah", "rm", container])

    def export(self, name: str, layout: Path) -> None:
        """Add an image to a folder of the OCI layout, under its name; layers that are there are not written again."""
        requirements.install(requirements.EXPORT)
        layout.mkdir(parents=True, exist_ok=True)
        copy = ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers"]
        target = f"oci:{layout}:{name}"
        if self.program != "docker":
            run([*copy, f"containers-storage:{name if '/' in name else f'localhost/{name}'}", target])
            return
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            run(["docker", "save", "--output", archive.name, name])
            run([*copy, f"docker-archive:{archive.name}", target])


def works(program: str) -> bool:
    """Tell whether an engine is installed and answers."""
    if shutil.which(program) is None:
        return False
    try:
        run([program, "info"], timeout_s=PROBE_TIMEOUT_S)
    except ClusterError:
        return False
    return True


def pip_settings() -> Mapping[str, str]:
    """Return where this machine's pip looks for packages: its files, then its environment."""
    found = {}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in PIP_SETTINGS:
            found[setting] = value.strip("'\"")
    for setting in PIP_SETTINGS:
        if override := os.environ.get(f"PIP_{setting.replace('-', '_').upper()}"):
            found[setting] = override
    return found


def _authorities() -> Path | None:
    for name in AUTHORITIES:
        if (value := os.environ.get(name)) and Path(value).is_file():
            return Path(value)
    return DEFAULT_AUTHORITIES if DEFAULT_AUTHORITIES.is_file() else None


def _write_build_home(home: Path) -> None:
    settings = dict(pip_settings())
    authorities = _authorities()
    if authorities is not None:
        shutil.copyfile(authorities, home / "ca.crt")
        settings["cert"] = f"{BUILD_HOME}/ca.crt"
    (home / ".pip").mkdir()
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (home / ".pip" / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
