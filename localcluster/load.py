"""Bring built images into the nodes' own stores: only the content that a node lacks travels.

An image has the name under which kubelets look for it, docker.io/library/NAME, and is replaced when its content
differs. Layers are kept uncompressed and known by their hash, so a change of the source moves the layers of the source.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from localcluster import images, oci
from localcluster.node import EmbeddedNode as Node
from localcluster.shell import ClusterError, say, step

CTR = ("ctr", "--namespace", "k8s.io")
IMPORT_TRIES = 3


def load(nodes: Sequence[Node], name: str) -> None:
    """Make the nodes have an image of the engine's store as it is now."""
    manifest = images.export(name)
    wanted = f"docker.io/library/{name}" if "/" not in name else name
    behind = [node for node in nodes if _present(node).get(wanted) != manifest["digest"]]
    if not behind:
        say(f"  {name} is on every node")
        return
    with step(f"{name} is loaded into {', '.join(node.name for node in behind)}"), ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: _import(node, wanted, manifest), behind))


def digest(name: str) -> str:
    """Return what tells a built image from any other of its name: the engine's own id of it."""
    return images.identity(name)


def _present(node: Node) -> dict[str, str]:
    """Return the digests of a node's images by name."""
    lines = node.run([*CTR, "images", "list"]).splitlines()[1:]
    return {words[0]: words[2] for words in map(str.split, lines)}


def _import(node: Node, name: str, manifest: Mapping[str, Any]) -> None:
    """Import, and again if containerd collected a layer of the replaced image meanwhile: the next try sends it."""
    for again in reversed(range(IMPORT_TRIES)):
        said = _try_import(node, name, manifest)
        if not said:
            break
        if not again:
            raise ClusterError(f"{node.name} could not import {name}: {said}")
    _forget_replaced(node)


def _try_import(node: Node, name: str, manifest: Mapping[str, Any]) -> str:
    """Import once; return what went wrong, empty for nothing."""
    here = set(node.run([*CTR, "content", "list", "--quiet"]).split())
    content = json.loads(_blob(manifest["digest"]).read_text())
    parts = [manifest["digest"], content["config"]["digest"], *(layer["digest"] for layer in content["layers"])]
    missing = {digest: _blob(digest) for digest in dict.fromkeys(parts) if digest not in here}
    pipe = subprocess.PIPE
    process = node.popen([*CTR, "images", "import", "-"], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
    assert process.stdin is not None
    try:
        oci.write_archive(process.stdin, oci.index(manifest, name), missing)
        process.stdin.close()
        process.stdin = None
    except BrokenPipeError:
        pass  # it has ended already: what it said tells why
    said, _ = process.communicate()
    if process.returncode == 0:
        return ""
    return said.decode(errors="replace").strip() or f"ctr ended with {process.returncode}"


def _forget_replaced(node: Node) -> None:
    """Drop the nameless references to images that a newer one replaced, so that the node's disk does not fill up."""
    listed = _present(node)
    named = {digest for name, digest in listed.items() if not name.startswith("sha256:")}
    for name, digest in listed.items():
        if name.startswith("sha256:") and digest not in named:
            node.run([*CTR, "images", "remove", name])


def _blob(digest: str) -> Path:
    return images.layout() / oci.blob_name(digest)
