"""A TrainingJob, read from the API's JSON: slim, typed, and judged apart from every other.

The CRD leaves the pod template open, so that a user may store any JSON in it. Guarantees that every text leads to a Job
or to an UnreadableJobError that says what is wrong and what to do, whatever the user wrote and whatever the version of
Python; and that a Job takes about as much memory as its text: what is opaque stays text (`Packed`) until a pod is made
of it. The status is read by `understudy_contract.status`. Does not judge the template: the API server does. Reads no
clock.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from understudy_contract.names import Annotation
from understudy_contract.status import read_status
from understudy_kube import shallow
from understudy_kube.informer import Identity, identify

from understudy_operator.core.model import Job
from understudy_operator.core.policy import InvalidSpecError, read_policy

LEVELS_MAX: Final = 64
"""How deep a TrainingJob may be nested, managedFields included: four times what a Pod can be."""
SPEC_MAX_BYTES: Final = 256 * 1024
"""Of a spec as JSON without white space. A pod template that carries whole scripts has some tens of kB."""


class UnreadableJobError(Exception):
    """A TrainingJob cannot be read; the message says why, and what its owner can do."""

    def __init__(self, identity: Identity, why: str) -> None:
        super().__init__(f"This TrainingJob cannot be read, and nothing is done for it: {why}")
        self.identity = identity


@dataclass(frozen=True, slots=True)
class Packed(Mapping[str, Any]):
    """A JSON object that is kept as its text, and decoded anew at each look."""

    text: bytes

    def _unpack(self) -> dict[str, Any]:
        return msgspec.json.decode(self.text, type=dict[str, Any])

    def __getitem__(self, key: str) -> Any:
        return self._unpack()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._unpack())

    def __len__(self) -> int:
        return len(self._unpack())


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = {}


class _Job(msgspec.Struct):
    metadata: _Meta
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: msgspec.Raw = msgspec.Raw(b"{}")


_JOB: Final = msgspec.json.Decoder(_Job)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_job(text: bytes | msgspec.Raw) -> Job:
    """Read a TrainingJob; raises UnreadableJobError, and nothing else."""
    text = bytes(text)
    if shallow.cut(text, LEVELS_MAX) is not text:
        raise UnreadableJobError(
            identify(text),
            f"it is nested more than {LEVELS_MAX} levels deep. Remove from spec what no Pod has, or delete the job.",
        )
    try:
        found = shallow.decode(text, _JOB)
        int(found.metadata.resource_version)
        return _job(found)
    except (InvalidSpecError, msgspec.MsgspecError, ValueError, TypeError, AttributeError) as error:
        why = str(error) or type(error).__name__
        raise UnreadableJobError(identify(text), f"{why}. Correct its spec, or delete it.") from error


def _job(found: _Job) -> Job:
    meta, spec, status = found.metadata, bytes(found.spec), bytes(found.status)
    if len(spec) > SPEC_MAX_BYTES:
        raise InvalidSpecError(
            f"its spec has {len(spec)} bytes, and at most {SPEC_MAX_BYTES} are read: keep scripts and data in the "
            "image, a ConfigMap or a volume"
        )
    return Job(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        created=meta.creation_timestamp,
        policy=read_policy(meta.name, _spec(spec)),
        status=read_status(status),
        switchover=meta.annotations.get(Annotation.SWITCHOVER),
        resource_version=meta.resource_version,
        deleting=meta.deletion_timestamp is not None,
        size_bytes=len(spec) + len(status),
    )


def _spec(text: bytes) -> dict[str, Any]:
    """Decode a spec, all but what the CRD leaves open."""
    fields = shallow.decode(text, _FIELDS)
    spec: dict[str, Any] = {}
    for name, raw in fields.items():
        if name in ("template", "redundantTemplate") and bytes(raw).startswith(b"{"):
            spec[name] = Packed(bytes(raw))
        elif name == "checkpoint":
            spec[name] = _checkpoint(raw)
        else:
            spec[name] = msgspec.json.decode(raw)
    return spec


def _checkpoint(raw: msgspec.Raw) -> dict[str, Any]:
    fields = shallow.decode(raw, _FIELDS)
    made = fields.pop("volumeClaimTemplate", None)
    known = {name: msgspec.json.decode(value) for name, value in fields.items()}
    claim = shallow.decode(made, _FIELDS).get("spec") if made is not None else None
    return {**known, "volumeClaimTemplate": {"spec": Packed(bytes(claim))}} if claim is not None else known
