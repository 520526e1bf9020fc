"""The project's own images: built when what goes into them changed, and only then.

A build sees exactly the files that its Dockerfile copies, and its inputs are known by their content: a fresh clone of
the same commit builds nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster import base, paths
from localcluster.engine import Engine
from localcluster.shell import ClusterError, say, step

EXCLUDED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".mypy_cache", ".ruff_cache")
REF_NAME = "org.opencontainers.image.ref.name"
LAYOUT = "oci"  # folder of the exported images, below the cache


@dataclass(frozen=True, slots=True)
class Image:
    """An image to build: `context` and `dockerfile` are paths in the checkout."""

    name: str
    dockerfile: str
    context: str = "."


IMAGES = (
    Image("understudy-operator:dev", "Dockerfile.operator"),
    Image("understudy-worker:dev", "Dockerfile.worker"),
    Image("understudy-digits:dev", "examples/digits/Dockerfile", "examples/digits"),
)


def layout() -> Path:
    """Return the folder of the exported images."""
    return paths.cache() / "images" / LAYOUT


def build(
    names: Sequence[str] = (), *, checkout: Path = paths.CHECKOUT, catalogue: Sequence[Image] = IMAGES
) -> list[str]:
    """Build what changed of all images, or of those named and what they start from; return the names of these."""
    unknown = set(names) - {image.name for image in catalogue}
    if unknown:
        raise ClusterError(f"no image {', '.join(unknown)}: there are {', '.join(image.name for image in catalogue)}")
    named = [image for image in catalogue if not names or image.name in names]
    starts = {name for image in named for name in _starting_points(checkout / image.dockerfile)}
    chosen = [image for image in catalogue if image in named or image.name in starts]
    engine = Engine.find()
    with paths.locked(paths.cache() / "images" / "lock"):
        ids = {base.NAME.rpartition("/")[2]: base.provide(engine)}
        for image in chosen:
            ids[image.name] = _build(engine, image, ids, checkout)
    return [image.name for image in chosen]


def identity(name: str) -> str:
    """Return the id of an image in the engine's store."""
    return _identity(Engine.find(), name)


def _identity(engine: Engine, name: str) -> str:
    present = engine.image_id(name)
    if present is None:
        raise ClusterError(f"{name} has not been built here: build it with `python -m localcluster images`")
    return present


def export(name: str) -> dict[str, Any]:
    """Bring an image of the engine's store into the layout, and return the descriptor of its manifest."""
    engine = Engine.find()
    with paths.locked(paths.cache() / "images" / "lock"):
        present = _identity(engine, name)
        record = paths.cache() / "images" / f"{name.replace('/', '_').replace(':', '_')}.exported"
        manifest = _exported(name)
        if manifest is None or not record.exists() or record.read_text() != present:
            with step(f"{name} is exported"):
                engine.export(name, layout())
            _prune()
            record.write_text(present)
            manifest = _exported(name)
    if manifest is None:
        raise ClusterError(
            f"the export of {name} to {layout()} did not bring it there: remove that folder and try again"
        )
    return manifest


def _exported(name: str) -> dict[str, Any] | None:
    """Return the descriptor of an exported image's manifest."""
    try:
        index = json.loads((layout() / "index.json").read_text())
    except FileNotFoundError:
        return None
    for manifest in index["manifests"]:
        if manifest.get("annotations", {}).get(REF_NAME) == name:
            return {key: manifest[key] for key in ("mediaType", "digest", "size")}
    return None


def _build(engine: Engine, image: Image, ids: Mapping[str, str], checkout: Path) -> str:
    """Return the image's id, built now if its inputs are not those of the image that is here."""
    dockerfile = checkout / image.dockerfile
    record = paths.cache() / "images" / f"{image.name.replace(':', '_')}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        _stage(dockerfile, checkout / image.context, context)
        starts = [ids[name] for name in _starting_points(dockerfile) if name in ids]
        key = _digest(context, [engine.program, dockerfile.read_text(), *starts])
        present = engine.image_id(image.name)
        known = json.loads(record.read_text()) if record.exists() else {}
        if present and known == {"inputs": key, "id": present}:
            say(f"  {image.name} is up to date")
            return present
        with step(f"{image.name} is built"):
            engine.build(dockerfile, context, image.name)
    built = engine.image_id(image.name)
    if built is None:
        raise ClusterError(f"{engine.program} built {image.name} but does not know it")
    record.write_text(json.dumps({"inputs": key, "id": built}))
    return built


def _instructions(dockerfile: Path) -> Iterator[list[str]]:
    try:
        text = dockerfile.read_text()
    except FileNotFoundError:
        raise ClusterError(f"{dockerfile} is missing: run this from a complete checkout") from None
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield [words[0].upper(), *words[1:]]


def _sources(dockerfile: Path) -> set[str]:
    """Return the paths that a Dockerfile copies from its context."""
    found: set[str] = set()
    for words in _instructions(dockerfile):
        if words[0] in ("COPY", "ADD") and not any(word.startswith("--from=") for word in words):
            found |= {word for word in words[1:-1] if not word.startswith("--")}
    return found


def _starting_points(dockerfile: Path) -> list[str]:
    """Return the names of the images that a Dockerfile starts from."""
    return [words[1] for words in _instructions(dockerfile) if words[0] == "FROM"]


def _stage(dockerfile: Path, source: Path, target: Path) -> None:
    """Copy what a Dockerfile copies, and nothing else, into a context of its own."""
    for name in sorted(_sources(dockerfile)):
        matches = [match for match in source.glob(name.rstrip("/")) if match.name]
        if not matches:
            raise ClusterError(f"{dockerfile} copies {name}, which is not in {source}")
        for match in matches:
            place = target / match.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if match.is_dir():
                shutil.copytree(match, place, ignore=EXCLUDED, dirs_exist_ok=True)
            else:
                shutil.copy(match, place)


def _digest(folder: Path, texts: Sequence[str]) -> str:
    digest = hashlib.sha256("\0".join(texts).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            mode = path.stat().st_mode & 0o111
            digest.update(f"\0{path.relative_to(folder)}\0{mode}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _prune() -> None:
    """Remove exported content that no exported image refers to."""
    blobs = layout() / "blobs" / "sha256"
    index = json.loads((layout() / "index.json").read_text())
    # The manifest that a name had before stays in the index without one.
    index["manifests"] = [manifest for manifest in index["manifests"] if manifest.get("annotations", {}).get(REF_NAME)]
    (layout() / "index.json").write_text(json.dumps(index))
    kept = set()
    for manifest in index["manifests"]:
        hexadecimal = manifest["digest"].removeprefix("sha256:")
        content = json.loads((blobs / hexadecimal).read_text())
        kept |= {hexadecimal}
        kept |= {part["digest"].removeprefix("sha256:") for part in (content["config"], *content["layers"])}
    for blob in blobs.iterdir():
        if blob.name not in kept:
            blob.unlink()
