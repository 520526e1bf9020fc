"""What becomes of a sidecar that runs on when the trainer of its pod has ended."""

import json

from understudy_contract.names import Annotation
from understudy_kube.client import Invalid
from understudy_operator.core.provisioning import ENDS_WITHIN_S

from tests.unit.operator.stage import JOB, LEASES, PODS, Stage, refusing, stage_test

PRIMARY = "digits-0-0"


async def complete_beside_a_sidecar(stage: Stage) -> None:
    """Let the training be complete, and the pod run on."""
    await stage.run(1)
    stage.runs(PRIMARY, "a")
    stage.reports(PRIMARY, "digits-0", "training")
    await stage.run(1)
    term = stage.server.objects[f"{LEASES}/digits-0"]["spec"]["leaseTransitions"]
    released = {"term": term, "reason": "Completed", "exitCode": 0}
    stage.releases("digits-0", **{Annotation.RELEASED: json.dumps(released)})
    body = stage.server.objects[f"{PODS}/{PRIMARY}"]
    trainer = {"name": "trainer", "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:09Z"}}}
    proxy = {"name": "proxy", "state": {"running": {}}}
    status = {"phase": "Running", "containerStatuses": [trainer, proxy]}
    stage.world.pods.upsert(stage.server._put(f"{PODS}/{PRIMARY}", {**body, "status": status}))


@stage_test
async def test_it_is_ended_by_a_deadline_of_its_pod_which_stays_for_its_log(stage: Stage) -> None:
    await complete_beside_a_sidecar(stage)
    await stage.run(ENDS_WITHIN_S + 1)
    assert stage.server.objects[JOB]["status"]["phase"] == "Succeeded"
    assert stage.pods()[PRIMARY]["spec"]["activeDeadlineSeconds"] == 1
    asked = await stage.run(60)
    assert asked["PATCH"] == 0, "once is enough"


@stage_test
async def test_where_that_is_refused_its_pod_is_deleted(stage: Stage) -> None:
    await complete_beside_a_sidecar(stage)
    refusal = Invalid(422, "Invalid", "a webhook says no")
    with refusing(stage, lambda verb, path: refusal if verb == "PATCH" and path.endswith(PRIMARY) else None):
        await stage.run(ENDS_WITHIN_S + 1)
    assert PRIMARY not in stage.pods()
