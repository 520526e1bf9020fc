"""Who wins when two want to change one Lease, and what a worker that lost is told."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Rank, Role, Term
from understudy_contract.reports import Cause, CheckpointRef, Phase, Promotion
from understudy_contract.status import JobStatus
from understudy_kube.client import Api, Conflict, Invalid
from understudy_operator.act import Actor
from understudy_operator.core import actions
from understudy_operator.core.model import Job, Now, Pod
from understudy_operator.core.policy import read_policy
from understudy_operator.objects import PodObject, pod_view
from understudy_operator.world import World

from tests.integration.operator.stage import TRAINER, Stage, Worker

pytestmark = pytest.mark.cluster

NOW = Now(0.0, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
FLOOR = CheckpointRef(1, 100, "d" * 64)


class Replica:
    """One operator of two: its own memory, the same API server."""

    def __init__(self, api: Api, stage: Stage) -> None:
        self.pending_when_woken: list[set[str]] = []
        """What was known to be still uncreated, each time that a change woke the job."""
        self.world = World(api, self._woken)
        self.actor = Actor(api, self.world)
        policy = read_policy("job", {"template": {"spec": {"containers": [TRAINER]}}})
        self.job = Job(stage.namespace, "job", "1-2-3", 1, "", policy, JobStatus(), resource_version="1")
        self.world.jobs.changed(self.job)  # Leases of others are not kept
        self.pending_when_woken.clear()

    async def act(self, action: actions.Action) -> None:
        await self.actor.act(self.job, action, NOW)

    def _woken(self, _: tuple[str, str]) -> None:
        self.pending_when_woken.append(set(self.world.jobs.memo(self.job.uid).pending_pods))

    def lease(self, name: str = "job-0") -> LeaseRecord:
        """The Lease as this replica knows it."""
        return self.world.leases.records[self.job.namespace, name]

    def promotion(self, record: LeaseRecord, target: str, *, cold: bool = False) -> actions.Promote:
        """Decide, on the Lease as it was read, that `target` is to be primary."""
        time = "2026-01-02T03:04:05.000000Z"
        told = Promotion(
            term=record.term + 1,
            source=record.holder,
            target=target,
            cause=Cause.LEASE_EXPIRED,
            message="silent",
            failed_at=time,
            detected_at=time,
            promoted_at=time,
            known_step=150,
            known_step_exact=False,
        )
        return actions.Promote(Rank(0), record, target, cold, record.floor, 0, told, None)


@pytest.fixture
async def two(api: Api, stage: Stage) -> tuple[Replica, Replica]:
    """Two replicas that both know the Lease of rank 0, held by job-0-0 in term 1."""
    one, other = Replica(api, stage), Replica(api, stage)
    await one.act(actions.OpenRank(Rank(0), Term(1), "job-0-0", 1))
    other.world.leases.upsert(await api.get(f"{stage.path('leases')}/job-0"))
    return one, other


async def test_of_two_operators_that_promote_at_once_one_is_refused_and_learns_what_stands(
    two: tuple[Replica, Replica], stage: Stage
) -> None:
    one, other = two
    seen = other.lease()
    await one.act(one.promotion(one.lease(), "job-0-1"))
    with pytest.raises(Conflict):
        await other.act(other.promotion(seen, "job-0-2"))
    stands = await stage.lease("job-0")
    assert (stands.holder, stands.term) == ("job-0-1", 2)
    assert other.lease() == stands


async def test_a_promotion_is_refused_when_the_holder_has_renewed_meanwhile(
    two: tuple[Replica, Replica], stage: Stage, api: Api
) -> None:
    one, _ = two
    silent = one.lease()
    await Worker(stage, api, "job-0-0", "job-0", 1).train(150, 100)
    with pytest.raises(Conflict):
        await one.act(one.promotion(silent, "job-0-1"))
    stands = await stage.lease("job-0")
    assert (stands.holder, stands.term, stands.promotion) == ("job-0-0", 1, None)
    assert stands.current_heartbeat is not None
    assert one.lease().current_heartbeat == stands.current_heartbeat, "the next decision must see the renewal"


async def test_a_promotion_carries_its_record_and_keeps_the_durable_floor(
    two: tuple[Replica, Replica], stage: Stage, api: Api
) -> None:
    one, _ = two
    one.world.leases.upsert(json.dumps(await renewed(stage, api, FLOOR)).encode())
    await one.act(one.promotion(one.lease(), "job-0-1"))
    stands = await stage.lease("job-0")
    assert stands.promotion is not None
    assert (stands.promotion.source, stands.promotion.target, stands.promotion.term) == ("job-0-0", "job-0-1", 2)
    assert stands.operator_floor == stands.floor == FLOOR
    assert stands.current_heartbeat is None, "the old holder's report is of another term"
    assert stands.current_release is None


async def test_a_superseded_holder_can_renew_no_more_and_its_successor_can(
    two: tuple[Replica, Replica], stage: Stage, api: Api
) -> None:
    one, _ = two
    old, new = Worker(stage, api, "job-0-0", "job-0", 1), Worker(stage, api, "job-0-1", "job-0", 2)
    await old.train(150, 100)
    one.world.leases.upsert(await api.get(f"{stage.path('leases')}/job-0"))
    await one.act(one.promotion(one.lease(), "job-0-1"))
    before = await stage.lease("job-0")
    with pytest.raises(Invalid):
        await old.train(160, 100)
    with pytest.raises(Invalid):
        await old.hand_over(160)
    assert await stage.lease("job-0") == before, "a refused renewal changes nothing"
    assert (await new.train(101, 100)).current_heartbeat is not None


async def test_a_holder_of_an_older_term_is_refused_although_the_name_is_its_own(
    two: tuple[Replica, Replica], stage: Stage, api: Api
) -> None:
    one, _ = two
    await one.act(one.promotion(one.lease(), "job-0-0"))
    with pytest.raises(Invalid):
        await Worker(stage, api, "job-0-0", "job-0", 1).train(150, 100)
    assert (await Worker(stage, api, "job-0-0", "job-0", 2).train(150, 100)).term == 2


async def test_a_release_survives_no_promotion(two: tuple[Replica, Replica], stage: Stage, api: Api) -> None:
    one, _ = two
    released = await Worker(stage, api, "job-0-0", "job-0", 1).hand_over(150)
    assert released.current_release is not None
    one.world.leases.upsert(await api.get(f"{stage.path('leases')}/job-0"))
    await one.act(one.promotion(one.lease(), "job-0-1"))
    assert (await stage.lease("job-0")).release is None


async def test_a_slot_is_given_to_one_pod_although_two_operators_fill_it(
    two: tuple[Replica, Replica], stage: Stage, api: Api
) -> None:
    one, other = two
    await one.act(actions.OpenSlot(Rank(0), 0))
    await other.act(actions.OpenSlot(Rank(0), 0))
    orders = [
        actions.AssignSlot(
            rank=Rank(0),
            slot=0,
            lease=replica.lease("job-0-s0"),
            rank_lease=replica.lease(),
            failures=0,
            loss="",
            suspect_node=None,
        )
        for replica in (one, other)
    ]
    await one.act(orders[0])
    with pytest.raises(Conflict):
        await other.act(orders[1])
    rank, slot = await stage.lease("job-0"), await stage.lease("job-0-s0")
    assert (rank.incarnation, slot.holder, slot.term) == (2, "job-0-1", 1)


async def test_whoever_sees_a_lease_name_a_pod_knows_already_that_the_pod_is_still_to_be_created(
    api: Api, stage: Stage
) -> None:
    """Otherwise the new pod would be taken for a lost one, when the watch is faster than the answer."""
    one = Replica(api, stage)
    await one.act(actions.OpenRank(Rank(0), Term(1), "job-0-0", 1))
    assert one.pending_when_woken.pop() == {"job-0-0"}
    await create_pod(stage, "job-0-0")
    one.world.pods.upsert(await api.get(f"{stage.path('pods')}/job-0-0"))
    assert one.pending_when_woken.pop() == set(), "it is there"
    await one.act(one.promotion(one.lease(), "job-0-1", cold=True))
    assert one.pending_when_woken.pop() == {"job-0-1"}
    await one.act(actions.OpenSlot(Rank(0), 0))
    slot = one.lease("job-0-s0")
    await one.act(actions.AssignSlot(Rank(0), 0, slot, one.lease(), failures=0, loss="", suspect_node=None))
    assert one.pending_when_woken.pop() == {"job-0-1", "job-0-2"}


async def test_a_relabelling_on_an_outdated_sight_of_the_pod_is_refused(
    two: tuple[Replica, Replica], stage: Stage, api: Api
) -> None:
    one, other = two
    await create_pod(stage, "job-0-1")
    body = await api.get(f"{stage.path('pods')}/job-0-1")
    for replica in (one, other):
        replica.world.pods.upsert(body)
    sights = [view(replica, stage, "job-0-1") for replica in two]
    await one.act(actions.Relabel(sights[0], Role.PRIMARY, Term(2)))
    with pytest.raises(Conflict):
        await other.act(actions.Relabel(sights[1], None, None))
    meta = (await stage.get("pods", "job-0-1"))["metadata"]
    assert meta["labels"]["understudy.dev/role"] == "primary"
    assert meta["annotations"]["understudy.dev/term"] == "2"
    fresh: PodObject = other.world.pods.records[stage.namespace, "job-0-1"]
    assert fresh.metadata.labels["understudy.dev/role"] == "primary", "the loser sees what stands, and decides anew"


async def test_a_pod_that_was_made_anew_under_its_old_name_is_neither_relabelled_nor_deleted(
    two: tuple[Replica, Replica], stage: Stage, api: Api
) -> None:
    one, _ = two
    await create_pod(stage, "job-0-1")
    one.world.pods.upsert(await api.get(f"{stage.path('pods')}/job-0-1"))
    gone = view(one, stage, "job-0-1")
    await stage.delete("pods", "job-0-1", gracePeriodSeconds=0)
    new = await create_pod(stage, "job-0-1")
    await one.act(actions.DeletePod(gone, "it lost its role"))
    with pytest.raises((Conflict, Invalid)):
        await one.act(actions.Relabel(gone, Role.PRIMARY, Term(2)))
    found = await stage.get("pods", "job-0-1")
    assert found["metadata"]["uid"] == new["metadata"]["uid"]
    assert "deletionTimestamp" not in found["metadata"]
    assert found["metadata"]["labels"] == new["metadata"]["labels"]


def view(replica: Replica, stage: Stage, name: str) -> Pod:
    """Interpret a pod as a replica sees it."""
    pod = replica.world.pods.records[stage.namespace, name]
    return pod_view(pod, seen_since=0, running_since=0, deleting_since=None)


async def create_pod(stage: Stage, name: str) -> dict[str, Any]:
    labels = {"understudy.dev/job": "job", "understudy.dev/job-uid": "1-2-3", "understudy.dev/rank": "0"}
    spec = {"containers": [{"name": "trainer", "image": "any:1"}], "automountServiceAccountToken": False}
    with contextlib.suppress(Conflict):
        await stage.create("serviceaccounts", {"metadata": {"name": "default"}})
    labels["understudy.dev/role"] = "redundant"
    return await stage.create("pods", {"metadata": {"name": name, "labels": labels}, "spec": spec})


async def renewed(stage: Stage, api: Api, floor: CheckpointRef) -> dict[str, Any]:
    """Let the holder report a checkpoint; give the Lease."""
    await Worker(stage, api, "job-0-0", "job-0", 1).renew(Phase.TRAINING, step=150, checkpoint=floor)
    return await stage.get("leases", "job-0")
