"""Image archives by the OCI layout: content named by its hash, an index that names the image."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def index(manifest: Mapping[str, Any], name: str) -> bytes:
    """Return an index.json that gives the name to a manifest, as containerd's import reads it."""
    named = {**manifest, "annotations": {"io.containerd.image.name": name}}
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]}).encode()


def add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    """Add a file to an archive, with nothing in it that differs from one run to the next."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def blob_name(content_digest: str) -> str:
    return f"blobs/{content_digest.replace(':', '/')}"


def write_archive(target: IO[bytes], index_json: bytes, blobs: Mapping[str, bytes | Path]) -> None:
    """Write an archive of the blobs (by digest). It may lack some that the importing store has already."""
    with tarfile.open(fileobj=target, mode="w|") as archive:
        add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add(archive, "index.json", index_json)
        for content_digest, content in blobs.items():
            if isinstance(content, Path):
                archive.add(content, blob_name(content_digest))
            else:
                add(archive, blob_name(content_digest), content)
