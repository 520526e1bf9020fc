"""The image that holds a pod's namespaces: one static program of Debian, no registry needed."""

from __future__ import annotations

import io
import json
import platform
import shutil
import tarfile
from pathlib import Path

from localcluster import oci
from localcluster.shell import ClusterError

IMAGE = "docker.io/library/understudy-pause:1"
ARGV = ["/catatonit", "-P"]  # -P: do nothing but reap
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def archive(folder: Path) -> Path:
    """Return the image as an archive in `folder`, made if it is not there."""
    path = folder / "pause.tar"
    if path.exists():
        return path
    program = shutil.which("catatonit")
    if program is None:
        raise ClusterError("catatonit is missing: install the package of that name")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as root:
        oci.add(root, ARGV[0].lstrip("/"), Path(program).read_bytes(), mode=0o755)
    content = layer.getvalue()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": ARGV, "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [oci.digest(content)]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": oci.descriptor(oci.CONFIG, config),
            "layers": [oci.descriptor(oci.LAYER, content)],
        }
    ).encode()
    folder.mkdir(parents=True, exist_ok=True)
    index = oci.index(oci.descriptor(oci.MANIFEST, manifest), IMAGE)
    with path.open("wb") as target:
        oci.write_archive(target, index, {oci.digest(blob): blob for blob in (content, config, manifest)})
    return path
