"""What the World keeps of what anybody may make and label: what it reads, of jobs that it knows."""

import json
from collections.abc import AsyncIterator
from typing import Any

from understudy_contract.names import Annotation, Label
from understudy_kube.client import Api, Credentials
from understudy_operator.world import JOBS, World

from tests.unit.operator.test_decoding import text

LONG = "x" * 10_000


def a_world(api: Any = None) -> World:
    return World(api or Api(Credentials("http://127.0.0.1:1", None)), lambda key: None)


def lease(name: str, owner: str = "uid-digits") -> bytes:
    labels = {Label.JOB: "digits", Label.JOB_UID: owner, "long": LONG}
    meta = {"name": name, "namespace": "default", "uid": f"u-{name}", "resourceVersion": "9", "labels": labels}
    return json.dumps({"metadata": {**meta, "ownerReferences": [{"uid": owner}]}}).encode()


def test_of_leases_those_are_kept_that_a_known_job_has() -> None:
    world = a_world()
    world.told(text())
    for name, owner in (("digits-0", "uid-digits"), ("digits-0-s1", "uid-digits"), ("vote-0", "uid-digits")):
        world.leases.upsert(lease(name, owner))
    for number in range(50):
        world.leases.upsert(lease(f"digits-{number}", "uid-of-nobody"))
        world.leases.upsert(lease(f"digits-{number + 1}"))
    # The last one would be of an earlier job of this name, which had a rank more.
    assert [name for _, name in world.leases.records] == ["digits-0", "digits-0-s1", "digits-1"]
    assert world.leases.records["default", "digits-0"].labels == {Label.JOB: "digits", Label.JOB_UID: "uid-digits"}


def test_of_a_pod_what_is_read_is_kept() -> None:
    world = a_world()
    labels = {Label.JOB: "digits", Label.JOB_UID: "u", Label.RANK: "0", "long": LONG}
    notes = {Annotation.TERM: "3", Annotation.HEARTBEAT: LONG, "long": LONG}
    meta = {"name": "digits-0-0", "namespace": "default", "uid": "p", "resourceVersion": "9"}
    world.pods.upsert(json.dumps({"metadata": {**meta, "labels": labels, "annotations": notes}}).encode())
    (pod,) = world.pods.records.values()
    assert pod.metadata.annotations == {Annotation.TERM: "3"}
    assert set(pod.metadata.labels) == {Label.JOB, Label.JOB_UID, Label.RANK}


async def test_a_lease_that_is_listed_before_its_job_is_known_once_all_is_listed() -> None:
    class Pages:
        async def list_pages(self, path: str, *, params: Any = None) -> AsyncIterator[bytes]:
            item = text() if path == JOBS else lease("digits-0") if path.endswith("/leases") else b""
            yield b'{"metadata":{"resourceVersion":"10"},"items":[%s]}' % item

    world = a_world(Pages())
    for informer in world.informers:
        await informer.refresh()
    assert not world.leases.records
    await world.first_lists()
    assert list(world.leases.records) == [("default", "digits-0")]
