"""Bring images into kind's nodes: only those that some node lacks, only into the nodes that lack one.

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
# What an older docker says of --platform: its client does not know it, or its daemon does not.
NO_PLATFORMS = ("unknown flag: --platform", '"--platform" requires API version')


def load(cluster: str, nodes: Sequence[KindNode], names: Sequence[str]) -> None:
    """Make the nodes have images of docker's store as they are now."""
    ids = {name: images.identity(name) for name in names}
    lacking = {(node, name) for node in nodes for name in names if not _has(_listed(node, name), ids[name])}
    to_load = [name for name in names if any((node, name) in lacking for node in nodes)]
    behind = [node for node in nodes if any((node, name) in lacking for name in names)]
    for name in names:
        if name not in to_load:
            say(f"  {name} is on every node")
    if not to_load:
        return
    where = ",".join(node.name for node in behind)
    paths.cache().mkdir(parents=True, exist_ok=True)
    with step(f"{', '.join(to_load)} loaded into {where}"), tempfile.TemporaryDirectory(dir=paths.cache()) as folder:
        archive = Path(folder) / "images.tar"
        _save(to_load, archive)
        run(["kind", "load", "image-archive", archive, "--name", cluster, "--nodes", where])
        for node in behind:
            for name in to_load:
                _label(node, name, ids[name])


def _label(node: KindNode, name: str, engine_id: str) -> None:
    loaded = _listed(node, name)
    if loaded is None:
        raise ClusterError(f"kind has loaded {name} into {node.name}, but the node does not have {_in_node(name)}")
    node.run([*CTR, "images", "label", _in_node(name), f"{LABEL}={_mark(engine_id, loaded)}"])


def _in_node(name: str) -> str:
    """Return the name under which a node's container runtime has an image of docker's."""
    return f"docker.io/library/{name}" if "/" not in name else name


def _listed(node: KindNode, name: str) -> list[str] | None:
    """Return the words of the node's line on an image: name, type, digest, and its labels at the end."""
    lines = node.run([*CTR, "images", "list", f'name=="{_in_node(name)}"']).splitlines()[1:]
    return lines[0].split() if lines else None


def _mark(engine_id: str, listed: Sequence[str]) -> str:
    return f"{engine_id}/{listed[2]}"


def _has(listed: Sequence[str] | None, engine_id: str) -> bool:
    return listed is not None and f"{LABEL}={_mark(engine_id, listed)}" in listed[-1].split(",")


def _save(names: Sequence[str], archive: Path) -> None:
    """Write images for the platform of docker's machine; of an image for several, docker would write an index only.

    One archive for all: layers that they share are in it, and travel, once. docker before 28 does not know the option,
    or its daemon does not, and has each image for one platform anyway.
    """
    platform = run(["docker", "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"]).strip()
    try:
        run(["docker", "save", "--platform", platform, "--output", archive, *names])
    except ClusterError as error:
        if not any(sentence in str(error) for sentence in NO_PLATFORMS):
            raise
        run(["docker", "save", "--output", archive, *names])
