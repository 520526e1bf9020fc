"""One checkpoint's two files: `state.safetensors`, and `manifest.json`, which vouches for every byte of it.

Guarantees: what `read` returns has passed the manifest's own SHA-256 and a CRC-32 per tensor; cut, zero-filled and
flipped bytes raise CheckpointDamaged. The tensors' file is plain safetensors, written here because it can then be
streamed without a second copy of the state and knows bfloat16. Reads no clock.
"""

import hashlib
import importlib
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from understudy_contract.reports import CheckpointRef

from understudy.checkpoint.filesystem import FileSystem, read_intact
from understudy.errors import CheckpointDamaged

Array = npt.NDArray[Any]

MANIFEST: Final = "manifest.json"
STATE: Final = "state.safetensors"
_VERSION: Final = 1

_CODES: Final = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
    "bool": "BOOL", "complex64": "C64",
}  # fmt: skip
"""numpy's names of dtypes, and those of safetensors."""

_NAMES: Final = {code: name for name, code in _CODES.items()}

_SEAL: Final = b',"digest":"'
_SEAL_BYTES: Final = len(_SEAL) + 64 + len(b'"}\n')


class Tensor(msgspec.Struct, frozen=True):
    """A tensor of the state; its bytes follow those of the one before."""

    dtype: str
    """safetensors' name: `F32`."""
    shape: tuple[int, ...]
    crc32: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds, and where it comes from."""

    version: int = _VERSION
    term: int
    step: int
    pod: str
    """uid of the writer's pod."""
    line: tuple[CheckpointRef, ...] = ()
    """What the writer's term was based on, newest first: repeats its BASE, so that a damaged BASE can be replaced."""
    tensors: dict[str, Tensor]
    """In the order of their bytes."""
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    ref: CheckpointRef
    tensors: dict[str, Array]
    """Views into one buffer, writable."""
    extra: dict[str, Any]
    location: Path
    """The folder that it was read from."""
    line: tuple[CheckpointRef, ...] = ()
    """What its term was based on, newest first."""
    damaged: tuple[str, ...] = ()
    """One sentence for each newer checkpoint that had to be passed over."""


def is_storable(dtype: npt.DTypeLike) -> bool:
    """Say whether a checkpoint can hold arrays of this type; it cannot hold strings, for example."""
    return np.dtype(dtype).name in _CODES


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"extra state must be JSON (numbers, strings, lists, dicts), not {type(value).__name__}")


def as_json(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the extra state as it will be read back; TypeError if it is not JSON."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(extra, enc_hook=_plain))
    return found


def seal(value: msgspec.Struct) -> tuple[bytes, str]:
    """Encode as JSON whose last field, `digest`, is the SHA-256 of all before it. Return the bytes and the digest."""
    body = msgspec.json.encode(value, enc_hook=_plain)[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return body + _SEAL + digest.encode() + b'"}\n', digest


def unseal(sealed: memoryview) -> tuple[bytes, str]:
    """Check a seal. Return JSON and digest; ValueError on any damage."""
    body = bytes(sealed[:-_SEAL_BYTES])
    digest = hashlib.sha256(body).hexdigest()
    if sealed[-_SEAL_BYTES:] != _SEAL + digest.encode() + b'"}\n':
        raise ValueError("its digest does not match its content")
    return body + b"}", digest


def _dtype(code: str) -> np.dtype[Any]:
    name = _NAMES[code]
    try:
        return np.dtype(name)
    except TypeError:  # a type that numpy learns from ml_dtypes, which whoever uses it has
        dtype: np.dtype[Any] = np.dtype(getattr(importlib.import_module("ml_dtypes"), name))
        return dtype


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Build safetensors' header: its length, then JSON, padded so that the data is aligned to 8 bytes."""
    fields: dict[str, object] = {}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + math.prod(tensor.shape) * _dtype(tensor.dtype).itemsize
        fields[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (offset, end)}
        offset = end
    text = msgspec.json.encode(fields)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class State:
    """A state on its way to a file: laid out, then streamed once."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype.name not in _CODES:
                raise TypeError(
                    f"tensor {name!r} has dtype {tensor.dtype}: a checkpoint holds numbers and booleans; "
                    "put anything else into the extra state"
                )
        # Wide types first, so that every tensor is aligned.
        self._arrays = dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
        self.size_bytes = sum(array.nbytes for array in self._arrays.values())
        self.tensors: dict[str, Tensor] = {}
        """Complete once `chunks` has been consumed."""

    def chunks(self) -> Iterator[memoryview]:
        """Yield the file's bytes; checksums are taken on the way."""
        self.tensors = {}
        yield memoryview(_header({name: Tensor(_CODES[a.dtype.name], a.shape, 0) for name, a in self._arrays.items()}))
        for name, array in self._arrays.items():
            little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            data = little.reshape(-1).view(np.uint8).data
            self.tensors[name] = Tensor(_CODES[array.dtype.name], array.shape, zlib.crc32(data))
            yield data


def read_manifest(fs: FileSystem, folder: Path) -> tuple[Manifest, str]:
    """Read and check a checkpoint's manifest. Raises CheckpointDamaged, and FileNotFoundError if there is none."""
    try:
        text, digest = unseal(read_intact(fs, folder / MANIFEST))
        return msgspec.json.decode(text, type=Manifest), digest
    except (ValueError, msgspec.MsgspecError) as error:
        raise CheckpointDamaged(f"checkpoint {folder} is damaged: {MANIFEST}: {error}") from None


def read(fs: FileSystem, folder: Path) -> Checkpoint:
    """Read a checkpoint and check every byte.

    Raises CheckpointDamaged, and FileNotFoundError if there is no manifest.
    """
    manifest, digest = read_manifest(fs, folder)
    try:
        data = read_intact(fs, folder / STATE)
        tensors = _verified(manifest, data)
    except FileNotFoundError:
        # Pruned between the two reads, manifest first; else the file is lost.
        fs.read(folder / MANIFEST)
        raise CheckpointDamaged(f"checkpoint {folder} is damaged: {STATE} is missing") from None
    except (ValueError, KeyError) as error:
        raise CheckpointDamaged(f"checkpoint {folder} is damaged: {STATE}: {error}") from None
    ref = CheckpointRef(manifest.term, manifest.step, digest)
    return Checkpoint(ref, tensors, manifest.extra, folder, manifest.line)


def _verified(manifest: Manifest, data: memoryview) -> dict[str, Array]:
    header = _header(manifest.tensors)
    offset = len(header)
    if data[:offset] != header:
        raise ValueError("its header is not the one that was written")
    tensors: dict[str, Array] = {}
    for name, entry in manifest.tensors.items():
        dtype = _dtype(entry.dtype)
        count = math.prod(entry.shape)
        part = data[offset : offset + count * dtype.itemsize]
        if len(part) != count * dtype.itemsize:
            raise ValueError(f"it ends within tensor {name!r}, at byte {len(data)}")
        if (crc := zlib.crc32(part)) != entry.crc32:
            raise ValueError(f"tensor {name!r} has checksum {crc:08x} instead of {entry.crc32:08x}")
        tensors[name] = np.frombuffer(part, dtype).reshape(entry.shape)
        offset += len(part)
    if offset != len(data):
        raise ValueError(f"it is {len(data)} bytes long instead of {offset}")
    return tensors
