"""Children without an owner are adopted with the operator's own rights, and the training under way goes on.

No garbage collector runs here, so what it does for `--cascade=orphan` is played: it takes the owners away, then the
job.
"""

from typing import Any

import pytest
from understudy_contract.names import Label, worker_role_name

from tests.integration.operator.process import Operator
from tests.integration.operator.rank import Rank, failover, promoted
from tests.integration.operator.stage import Json, Stage

pytestmark = pytest.mark.cluster

ROLE = worker_role_name("job", ("job-0", "job-0-s0"))
CHILDREN = {
    "pods": ("job-0-0", "job-0-1"),
    "leases": ("job-0", "job-0-s0"),
    "services": ("job",),
    "serviceaccounts": ("job-worker",),
    "roles": (ROLE,),
    "rolebindings": (ROLE,),
    "poddisruptionbudgets": ("job-0",),
}


async def orphan(stage: Stage) -> str:
    """Take the children's owner away; return its uid."""
    job = await stage.get("trainingjobs", "job")
    await stage.until("rolebindings", ROLE, lambda _: True, "the rights to both Leases")
    await stage.delete("trainingjobs", "job", propagationPolicy="Orphan")
    for kind, names in CHILDREN.items():
        for name in names:
            await stage.patch(kind, name, {"metadata": {"ownerReferences": None}})
    await stage.patch("trainingjobs", "job", {"metadata": {"finalizers": None}})
    await stage.gone("trainingjobs", "job")
    return str(job["metadata"]["uid"])


async def test_a_job_deleted_without_its_children_trains_on_under_the_next_one(
    stage: Stage, operator: Operator
) -> None:
    await stage.create_job("job", failover={"leaseDurationSeconds": 60, "handOverSeconds": 10})
    rank = Rank(stage, stage.api, "job")
    await rank.begin()
    old = await orphan(stage)
    new = (await stage.create_job("job", failover={"leaseDurationSeconds": 60, "handOverSeconds": 10}))["metadata"]

    def adopted(body: Json) -> bool:
        meta = body["metadata"]
        owners: list[Any] = meta.get("ownerReferences") or [{}]
        return owners[0].get("uid") == new["uid"] and meta["labels"][Label.JOB_UID] == old

    for kind, names in CHILDREN.items():
        for name in names:
            await stage.until(kind, name, adopted, f"{kind} {name} to be adopted")
    await rank.primary.train(20, 10)
    await stage.until("trainingjobs", "job", lambda j: j.get("status", {}).get("adoptedUid") == old, "the status")
    await rank.primary.hand_over(30)
    await promoted(rank)
    await rank.successor.train(31, 30)
    assert (await failover(rank))["to"] == "job-0-1"
    made = await stage.until("pods", "job-0-2", lambda _: True, "the next redundant pod")
    assert made["metadata"]["ownerReferences"][0]["uid"] == new["uid"]
    assert {"name": "UNDERSTUDY_JOB_UID", "value": old} in made["spec"]["containers"][0]["env"]
