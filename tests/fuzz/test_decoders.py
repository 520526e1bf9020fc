"""Every decoder of what the API server or a worker says, on anything: it gives a value or its own error.

And what is decided on what was decoded: no part of a decision fails, whatever users and workers have written. Run by
pytest with the other tests, and by `make fuzz` for longer, on the Python of the operator's image.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from understudy_contract.lease import LeaseObject
from understudy_contract.names import Rank, Term
from understudy_kube import shallow
from understudy_kube.client import Api, ApiError, Credentials
from understudy_kube.election import LeadershipLease
from understudy_kube.errors import error_of, watch_error_of
from understudy_kube.informer import identify
from understudy_operator.core.actions import CreatePod, Placement
from understudy_operator.core.decide import decide
from understudy_operator.core.model import Job, Now
from understudy_operator.creation import TroubleError, build_pod, made_for, owned_by
from understudy_operator.decoding import UnreadableJobError, read_job, read_status
from understudy_operator.envelopes import TEXT, wrap_event, wrap_list
from understudy_operator.objects import (
    ClaimObject,
    NodeObject,
    PodObject,
    claim_record,
    node_record,
    pod_view,
    slim_lease,
)
from understudy_operator.observe import observe
from understudy_operator.world import World

from tests.fuzz import objects
from tests.fuzz.strategies import ANY, changed, damaged, fuzz, text_of

NOW = Now(1000.0, datetime(2026, 1, 1, 12, tzinfo=UTC))
KEY = ("default", "digits")
ANYTHING = damaged(text_of(ANY)) | st.binary(max_size=200)


def texts(valid: Any) -> st.SearchStrategy[bytes]:
    """Texts that are nearly such an object."""
    return text_of(changed(valid)) | damaged(text_of(changed(valid))) | ANYTHING


@st.composite
def leases(draw: st.DrawFn, name: str = "digits-0") -> dict[str, Any]:
    """A Lease that the API server takes, with anything in its annotations."""
    notes: dict[str, Any] = {}
    for note, valid in objects.ANNOTATIONS.items():
        match draw(st.sampled_from(["absent", "valid", "changed", "any"])):
            case "valid":
                notes[note] = valid
            case "changed":
                notes[note] = draw(text_of(changed(valid))).decode()
            case "any":
                notes[note] = draw(st.text(max_size=50))
    count = st.integers(0, 2**31 - 1)
    spec = {"leaseTransitions": draw(st.just(1) | count), "leaseDurationSeconds": draw(st.just(9) | count)}
    return objects.lease(notes, name, **spec)


@fuzz
@given(ANYTHING)
def test_cut(text: bytes) -> None:
    short = shallow.cut(text)
    assert shallow.cut(short) == short
    for decoder in (msgspec.json.Decoder(), msgspec.json.Decoder(dict[str, msgspec.Raw])):
        try:
            shallow.decode(text, cast("msgspec.json.Decoder[Any]", decoder))
        except msgspec.MsgspecError:
            continue


@fuzz
@given(texts(objects.JOB))
def test_a_job(text: bytes) -> None:
    try:
        job = read_job(text)
    except UnreadableJobError as error:
        assert isinstance(error.identity.name, str)
        return
    for slot in (None, 0):
        try:
            built = build_pod(job, CreatePod("digits-0-0", Rank(0), slot, Term(1), Placement(False, ())))
        except TroubleError:
            continue
        msgspec.json.encode(built)


@fuzz
@given(texts(objects.STATUS))
def test_a_status(text: bytes) -> None:
    status = read_status(text)
    assert read_status(msgspec.json.encode(status)) == status


@fuzz
@given(texts({"metadata": {"resourceVersion": "7"}, "apiVersion": "v1", "kind": "List", "items": [objects.JOB]}))
def test_a_list_for_kopf(text: bytes) -> None:
    try:
        found = wrap_list(text)
    except msgspec.MsgspecError:
        return
    found = json.loads(json.dumps(found))
    for item in found["items"]:
        assert identify(item[TEXT].encode()).uid == item["metadata"]["uid"]


@fuzz
@given(texts({"type": "ADDED", "object": objects.JOB}))
def test_a_watch_for_kopf(text: bytes) -> None:
    try:
        json.loads(wrap_event(text))
    except (msgspec.MsgspecError, ValueError):
        return


@fuzz
@given(texts(objects.POD))
def test_a_pod(text: bytes) -> None:
    try:
        pod = shallow.decode(text, msgspec.json.Decoder(PodObject))
    except msgspec.MsgspecError:
        return
    pod_view(pod, seen_since=0.0, running_since=0.0, deleting_since=None)


@fuzz
@given(texts(objects.lease(objects.ANNOTATIONS)) | text_of(leases()))
def test_a_lease(text: bytes) -> None:
    try:
        record = slim_lease(shallow.decode(text, msgspec.json.Decoder(LeaseObject)))
        shallow.decode(text, msgspec.json.Decoder(LeadershipLease)).record()
    except msgspec.MsgspecError:
        return
    assert record.patience_s >= record.duration_s
    assert record.floor_step is not None and record.current_release is record.current_release


@fuzz
@given(texts(objects.CLAIM), texts(objects.NODE))
def test_a_claim_and_a_node(claim: bytes, node: bytes) -> None:
    try:
        claim_record(shallow.decode(claim, msgspec.json.Decoder(ClaimObject)))
        node_record(shallow.decode(node, msgspec.json.Decoder(NodeObject)))
        made_for(cast(Job, read_job(json.dumps(objects.JOB).encode())), claim)
        owned_by(cast(Job, read_job(json.dumps(objects.JOB).encode())), claim)
    except msgspec.MsgspecError:
        return


@fuzz
@given(texts({"kind": "Status", "code": 404, "reason": "NotFound", "message": "m"}), st.sampled_from([404, 422, 500]))
def test_an_error(text: bytes, code: int) -> None:
    assert isinstance(error_of("GET", "/x", code, text), ApiError)
    assert isinstance(watch_error_of("/x", text), ApiError)


@fuzz
@given(st.lists(texts({"type": "MODIFIED", "object": objects.POD}), max_size=5))
def test_a_watch(lines: list[bytes]) -> None:
    """Only what lets the informer list anew comes out of it."""
    world = a_world()

    class Watch:
        async def watch(self, path: str, *, on_open: Any, **_: Any) -> Any:
            on_open()
            for line in lines:
                yield line

    informer = world.pods
    informer._api = cast(Api, Watch())
    try:
        asyncio.run(informer._watch())
    except (ApiError, msgspec.MsgspecError):
        return


@fuzz
@given(st.lists(texts(objects.lease(objects.ANNOTATIONS)), max_size=4))
def test_a_list(items: list[bytes]) -> None:
    class Pages:
        async def list_pages(self, path: str, *, params: Any = None) -> Any:
            yield b'{"items":[' + b",".join(items) + b"]}"

    world = a_world()
    world.leases._api = cast(Api, Pages())
    try:
        asyncio.run(world.leases.refresh())
    except msgspec.MsgspecError:
        return


def a_world() -> World:
    world = World(Api(Credentials("http://127.0.0.1:1", None)), lambda key: None, lambda: NOW.at)
    world.leases.contact.opened()
    return world


@fuzz
@given(st.data())
def test_what_is_decided(data: st.DataObject) -> None:
    """No part of a decision fails, whatever the API server takes as a job's status, its Leases and its pods."""
    world = a_world()
    job = {**objects.JOB, "status": data.draw(st.just(objects.STATUS) | changed(objects.STATUS))}
    if data.draw(st.booleans()):
        job["spec"] = {**job["spec"], "redundancy": 1, "suspend": data.draw(st.booleans())}
    world.take_job(encoded(job))
    for name in ("digits-0", "digits-0-s0"):
        if data.draw(st.booleans()):
            world.leases.upsert(encoded(data.draw(leases(name))))
    for index in range(data.draw(st.integers(0, 2))):
        pod = data.draw(st.just(objects.POD) | changed(objects.POD))
        if isinstance(pod, dict) and isinstance(pod.get("metadata"), dict):
            pod = {**pod, "metadata": {**pod["metadata"], **objects.meta(f"digits-0-{index}")}}
        world.pods.upsert(encoded(pod))
    world.claims.upsert(encoded(objects.CLAIM))
    world.nodes.upsert(encoded(objects.NODE))
    observation = observe(world, KEY, NOW.at)
    if observation is None:
        return
    decision = decide(observation, NOW, whole=True)
    for fault in decision.faults:
        raise fault.error


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
