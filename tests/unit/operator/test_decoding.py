"""What becomes of a TrainingJob that no user of good will has written."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from understudy_contract.names import Rank, Term
from understudy_kube.client import Api, Credentials
from understudy_operator import jobs
from understudy_operator.children import pod
from understudy_operator.core.actions import CreatePod, Placement
from understudy_operator.core.model import Job
from understudy_operator.core.policy import read_policy
from understudy_operator.decoding import LEVELS_MAX, SPEC_MAX_BYTES, Packed, UnreadableJobError, read_job
from understudy_operator.observe import observe
from understudy_operator.world import World

from tests.unit.kube.test_shallow import nested
from tests.unit.operator.builders import PRIMARY, a_job

TEMPLATE: dict[str, Any] = {"spec": {"containers": [{"name": "trainer", "command": ["python"]}]}}
KEY = ("default", "digits")


def text(*, spec: str | None = None, version: int = 7, name: str = "digits", **fields: Any) -> bytes:
    """A TrainingJob; `spec` is its spec as JSON."""
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": str(version)}
    body = json.dumps({"metadata": {**meta, "managedFields": [{"fieldsV1": {}}]}, **fields})
    return f'{body[:-1]},"spec":{spec or json.dumps({"template": TEMPLATE})}}}'.encode()


def test_a_job_is_read() -> None:
    spec: dict[str, Any] = {
        "ranks": 3,
        "redundancy": 2,
        "template": TEMPLATE,
        "redundantTemplate": {"priorityClassName": "low"},
        "checkpoint": {"keep": 4, "volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteMany"]}}},
        "failover": {"leaseDurationSeconds": 5},
    }
    job = read_job(text(spec=json.dumps(spec)))
    assert (job.namespace, job.name, job.uid, job.resource_version) == ("default", "digits", "uid-digits", "7")
    expected = read_policy("digits", spec)
    assert asdict(job.policy) | {"template": 0, "redundant_template": 0, "claim_template": 0} == asdict(expected) | {
        "template": 0,
        "redundant_template": 0,
        "claim_template": 0,
    }
    assert dict(job.policy.template) == expected.template
    assert dict(job.policy.redundant_template) == expected.redundant_template
    assert dict(job.policy.claim_template or {}) == expected.claim_template


def test_a_pod_is_made_of_a_template_that_is_packed() -> None:
    job = read_job(text())
    assert isinstance(job.policy.template, Packed)
    made = pod(job, CreatePod(PRIMARY, Rank(0), None, Term(1), Placement(False, ())))
    assert made["spec"]["containers"][0]["command"] == ["understudy-agent", "--", "python"]
    assert dict(job.policy.template) == TEMPLATE, "which stays as it was"


@pytest.mark.parametrize("levels", [LEVELS_MAX + 1, 900, 5_000, 9_900, 200_000])
@pytest.mark.parametrize("field", ["template", "redundantTemplate", "checkpoint"])
def test_a_job_that_is_nested_too_deep_is_named(levels: int, field: str) -> None:
    fields = {"template": json.dumps(TEMPLATE), field: f'{{"resources":{nested(levels)}}}'}
    spec = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    with pytest.raises(UnreadableJobError, match="nested more than 64 levels deep") as unreadable:
        read_job(text(spec=spec))
    assert (unreadable.value.identity.name, unreadable.value.identity.uid) == ("digits", "uid-digits")


@pytest.mark.parametrize(
    "spec",
    [
        "{}",
        "[]",
        "null",
        '{"template": null}',
        '{"template": []}',
        '{"template": {}, "failover": [1]}',
        '{"template": {}, "ranks": {}}',
        '{"template": {}, "ranks": 1e400}',
        '{"template": {}, "checkpoint": 7}',
        '{"template": {}, "checkpoint": {"volumeClaimTemplate": 7}}',
        json.dumps({"template": {"spec": {"containers": [], "args": "x" * SPEC_MAX_BYTES}}}),
    ],
    ids=lambda spec: spec[:50],
)
def test_a_spec_that_cannot_be_read_is_said_to_be_so(spec: str) -> None:
    with pytest.raises(UnreadableJobError, match="cannot be read, and nothing is done for it"):
        read_job(text(spec=spec))


def test_the_status_of_a_job_is_read_as_far_as_an_operator_can_have_written_it() -> None:
    status = read_job(text(status={"phase": "Running", "step": -1, "failovers": [{"rank": 0, "term": 1}]})).status
    assert (status.phase, status.step, status.failovers) == ("Running", None, ())


def a_world() -> World:
    return World(Api(Credentials("http://127.0.0.1:1", None)), lambda key: None)


def test_a_job_that_cannot_be_read_any_more_is_set_aside_until_it_can() -> None:
    world = a_world()
    world.told(text(version=7))
    world.told(text(version=8, spec=f'{{"template":{nested(9_000)}}}'))
    assert observe(world, KEY, 0.0) is None
    world.told(text(version=9))
    assert observe(world, KEY, 0.0) is not None
    world.told(text(version=8, spec=f'{{"template":{nested(9_000)}}}'))
    assert observe(world, KEY, 0.0) is not None, "that was told late"


async def test_a_list_with_a_job_that_cannot_be_read_is_a_list_of_the_others() -> None:
    class Pages:
        async def list_pages(self, path: str) -> Any:
            deep = text(name="deep", spec=f'{{"template":{nested(9_900)}}}')
            yield b'{"items":[' + b",".join([text(name="a"), deep, text(name="b")]) + b"]}"

    world = World(Pages(), lambda key: None)  # type: ignore[arg-type]
    world.told(text(name="gone"))
    await world._refresh_jobs()
    assert list(world.jobs) == [("default", "a"), ("default", "b")]


def test_the_large_jobs_of_a_namespace_take_no_more_than_their_share() -> None:
    world = a_world()
    large = json.dumps({"template": {**TEMPLATE, "metadata": {"annotations": {"a": "x" * 250_000}}}})
    for number in range(100):
        world.told(text(name=f"large{number}", spec=large))
    held = sum(len(job.policy.template.text) for job in known(world) if isinstance(job.policy.template, Packed))
    assert held < jobs.LARGE_MAX_BYTES + 100 * jobs.ORDINARY_BYTES
    world.told(text(name="small"))
    assert observe(world, ("default", "small"), 0.0) is not None
    for key in list(world.jobs):
        world.jobs.forget(world.jobs.all()[key])
    world.told(text(name="large99", spec=large))
    assert observe(world, ("default", "large99"), 0.0) is not None, "there is room again"


def known(world: World) -> list[Job]:
    return list(world.jobs.all().values())


def test_a_job_that_is_read_stays_so_whatever_its_status_grows_to() -> None:
    held = jobs.Jobs(lambda key: None)
    trains = replace(a_job(), name="trains", uid="t", resource_version="1", size_bytes=jobs.ORDINARY_BYTES)
    held.changed(trains)
    most = jobs.LARGE_MAX_BYTES + jobs.ORDINARY_BYTES
    held.changed(replace(trains, name="large", uid="l", size_bytes=most))
    held.changed(replace(trains, resource_version="9", size_bytes=jobs.ORDINARY_BYTES + 1))
    assert held.known(("default", "trains")) is not None
    with pytest.raises(jobs.TooLargeError):
        held.changed(replace(trains, resource_version="10", generation=9, size_bytes=jobs.ORDINARY_BYTES + 1))
