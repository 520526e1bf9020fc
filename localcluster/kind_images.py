"""Bring images into kind's nodes: only those that a node lacks, only into the nodes that lack them.

Which content of a name a node has is written beside the image itself, as a label in the node's container runtime. The
label goes with the image, but outlives a replacement; so it names both docker's id and the digest in the node, and
counts only while the node still has that digest. docker's id alone cannot be compared with what is in the node, for
docker names an image by its manifest or by its configuration, depending on its store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from localcluster import images, paths
from localcluster.kind_node import KindNode
from localcluster.load import CTR
from localcluster.shell import ClusterError, run, say, step

LABEL = "understudy.dev/engine-id"


def load(cluster: str, nodes: Sequence[KindNode], name: str) -> None:
    """Make the nodes have an image of docker's store as it is now."""
    present = images.identity(name)
    wanted = f"docker.io/library/{name}" if "/" not in name else name
    behind = [node for node in nodes if not _has(_listed(node, wanted), present)]
    if not behind:
        say(f"  {name} is on every node")
        return
    names = ",".join(node.name for node in behind)
    paths.cache().mkdir(parents=True, exist_ok=True)
    with step(f"{name} is loaded into {names}"), tempfile.TemporaryDirectory(dir=paths.cache()) as folder:
        archive = Path(folder) / "image.tar"
        _save(name, archive)
        run(["kind", "load", "image-archive", archive, "--name", cluster, "--nodes", names])
        for node in behind:
            loaded = _listed(node, wanted)
            if loaded is None:
                raise ClusterError(f"kind has loaded {name} into {node.name}, but the node does not have {wanted}")
            node.run([*CTR, "images", "label", wanted, f"{LABEL}={_mark(present, loaded)}"])


def _listed(node: KindNode, name: str) -> list[str] | None:
    """Return the words of the node's line on an image: name, type, digest, and its labels at the end."""
    lines = node.run([*CTR, "images", "list", f'name=="{name}"']).splitlines()[1:]
    return lines[0].split() if lines else None


def _mark(engine_id: str, listed: Sequence[str]) -> str:
    return f"{engine_id}/{listed[2]}"


def _has(listed: Sequence[str] | None, engine_id: str) -> bool:
    return listed is not None and f"{LABEL}={_mark(engine_id, listed)}" in listed[-1].split(",")


def _save(name: str, archive: Path) -> None:
    """Write an image for the platform of docker's machine; of an image for several, docker would write an index only.

    docker before 28 does not know the option, and has each image for one platform anyway.
    """
    platform = run(["docker", "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"]).strip()
    try:
        run(["docker", "save", "--platform", platform, "--output", archive, name])
    except ClusterError as error:
        if "unknown flag" not in str(error):
            raise
        run(["docker", "save", "--output", archive, name])
