"""What the cluster needs of this machine, and its installation where that is possible (Debian or Ubuntu, as root)."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from localcluster import paths
from localcluster.shell import ClusterError, run_logged, say


@dataclass(frozen=True, slots=True)
class Need:
    """A Debian package, and one of the files by which its presence is seen."""

    package: str
    files: tuple[str, ...]

    def is_met(self) -> bool:
        return any(Path(file).exists() if "/" in file else shutil.which(file) is not None for file in self.files)


CLUSTER = (
    Need("containerd", ("containerd",)),
    Need("runc", ("runc",)),
    Need("containernetworking-plugins", ("/usr/lib/cni/ptp", "/opt/cni/bin/ptp")),
    Need("catatonit", ("catatonit",)),
    Need("iptables", ("iptables",)),
    Need("iproute2", ("ip",)),
    Need("conntrack", ("conntrack",)),
    Need("openssl", ("openssl",)),
    Need("util-linux", ("unshare",)),
)
EXPORT = (Need("skopeo", ("skopeo",)),)  # from an engine's store into the embedded cluster
IMAGES = (Need("buildah", ("buildah",)), *EXPORT)
BASE_IMAGE = (Need("debootstrap", ("debootstrap",)),)


def install(needs: tuple[Need, ...]) -> None:
    """Install what is missing, or say in one sentence what that is and how to get it."""
    missing = [need.package for need in needs if not need.is_met()]
    if not missing:
        return
    packages = " ".join(missing)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ClusterError(f"missing on this machine: {packages}; as root on Debian: apt-get install {packages}")
    say(f"Installing {packages}")
    log = paths.cache() / "logs" / "apt.log"
    # RUNLEVEL: Debian's own container runtime service is not wanted, only its program.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    run_logged(["apt-get", *wait, "update"], log, env=env, what="apt-get update")
    command = ["apt-get", *wait, "install", "--yes", "--no-install-recommends", *missing]
    run_logged(command, log, env=env, what=f"apt-get install {packages}")
    still = [need.package for need in needs if not need.is_met()]
    if still:
        raise ClusterError(f"{' '.join(still)}: installed, but not where it is looked for; see {log}")
