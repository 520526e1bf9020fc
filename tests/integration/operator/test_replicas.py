"""Two operators' processes at once, one API server: one leads, and the other goes on where that one was lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from understudy_contract.names import Label
from understudy_kube.client import Api, Invalid
from understudy_operator.app import LEASE

from tests.integration.operator.conftest import MakeOperator
from tests.integration.operator.control_plane import SYSTEM, ControlPlane
from tests.integration.operator.process import Operator
from tests.integration.operator.rank import Rank, failover, heard, promoted, role
from tests.integration.operator.stage import WAIT_S, Stage

pytestmark = pytest.mark.cluster

POLICIES = "/apis/admissionregistration.k8s.io/v1"


class Replicas:
    """Two processes, and who of them leads."""

    def __init__(self, system: Stage, first: Operator, second: Operator) -> None:
        self.system = system
        self.both = (first, second)

    async def leader(self, *, but: str = "") -> Operator:
        """Wait until one of them leads, under another name than `but`."""
        identity = await self.holder(but=but)
        (found,) = (each for each in self.both if f"as {identity}" in each.text())
        return found

    async def holder(self, *, but: str = "") -> str:
        """Wait until somebody holds the Lease who is not `but`; give the name."""

        def held(lease: dict[str, Any]) -> bool:
            return lease["spec"].get("holderIdentity", "") not in ("", but)

        found = await self.system.until("leases", LEASE, held, f"a leader who is not {but or 'nobody'}")
        return str(found["spec"]["holderIdentity"])

    def other(self, operator: Operator) -> Operator:
        """The one that is not this."""
        first, second = self.both
        return second if operator is first else first

    async def kill_leader(self) -> Operator:
        """Kill the leader as a power cut does, without waiting for the next; give that one."""
        leader = await self.leader()
        leader.kill()
        return self.other(leader)


@pytest.fixture(scope="module")
def second(make_operator: MakeOperator) -> Iterator[Operator]:
    made = make_operator("second")
    made.start()
    yield made
    made.stop()
    print(made.text())


@pytest.fixture
async def replicas(api: Api, operator: Operator, second: Operator) -> AsyncIterator[Replicas]:
    """Both at work; and again afterwards, whatever a test did to them."""
    for each in (operator, second):
        await each.said("stands for election")
    yield Replicas(Stage(api, SYSTEM), operator, second)
    for each in (operator, second):
        if not each.runs():
            each.start()


@asynccontextmanager
async def roles_fixed(control_plane: ControlPlane, stage: Stage) -> AsyncIterator[None]:
    """Let the API server refuse to change the role label of any pod of the namespace."""
    label = f"object.metadata.labels[?'{Label.ROLE}'].orValue('')"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    name = f"roles-fixed-in-{stage.namespace}"
    policy = {
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": f"{label} == {label.replace('object', 'oldObject', 1)}"}],
        },
    }
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}
    spec = {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": chosen}}
    control_plane.request("POST", f"{POLICIES}/validatingadmissionpolicies", policy)
    binding = {"metadata": {"name": name}, "spec": spec}
    control_plane.request("POST", f"{POLICIES}/validatingadmissionpolicybindings", binding)
    try:
        async with asyncio.timeout(WAIT_S):
            while await relabelled(stage):  # noqa: ASYNC110 - the server reads its policies, and does not tell when
                await asyncio.sleep(0.05)
        yield
    finally:
        control_plane.request("DELETE", f"{POLICIES}/validatingadmissionpolicybindings/{name}")
        control_plane.request("DELETE", f"{POLICIES}/validatingadmissionpolicies/{name}")


async def relabelled(stage: Stage) -> bool:
    """Ask, without doing it, whether a role label could be changed."""
    patch = b'{"metadata": {"labels": {"understudy.dev/role": "tried"}}}'
    try:
        await stage.api.merge_patch(f"{stage.path('pods')}/job-0-1", patch, params={"dryRun": "All"})
    except Invalid:
        return False
    return True


async def test_one_of_two_leads_and_says_so_and_the_other_follows(replicas: Replicas) -> None:
    leader = await replicas.leader()
    await leader.said("this process leads")
    await replicas.other(leader).said(f"{await replicas.holder()} leads; this process follows")


async def test_a_primary_that_is_lost_after_the_leader_is_replaced_by_the_next_leader(
    replicas: Replicas, rank: Rank, stage: Stage
) -> None:
    await replicas.kill_leader()
    await stage.delete("pods", rank.primary.pod, gracePeriodSeconds=0)
    await promoted(rank)
    await rank.successor.train(1, 0)
    assert (await failover(rank))["cause"] == "PodDeleted"


async def test_a_primary_and_the_leader_that_fall_silent_at_once_are_both_replaced(
    replicas: Replicas, stage: Stage, api: Api
) -> None:
    """The follower has heard the primary's last word itself."""
    await stage.create_job("job", failover={"leaseDurationSeconds": 6})
    rank = Rank(stage, api, "job")
    await rank.begin()
    async with heard(lambda: rank.redundant.stand_by(0)):
        await rank.primary.train(11, 0)
        await replicas.kill_leader()
        await promoted(rank)
        await rank.successor.train(1, 0)
        assert (await failover(rank))["cause"] == "LeaseExpired"


async def test_a_promotion_whose_operator_died_before_it_changed_a_label_is_completed_by_the_next(
    replicas: Replicas, rank: Rank, stage: Stage, control_plane: ControlPlane
) -> None:
    async with roles_fixed(control_plane, stage):
        await rank.primary.hand_over(15)
        await stage.lease_until(rank.primary.lease, lambda r: r.term == 2, "the decision")
        dead = await replicas.leader()
        identity = await replicas.holder()
        dead.kill()
        assert role(await stage.get("pods", rank.primary.pod)) == ("primary", "1")
        assert role(await stage.get("pods", rank.redundant.pod)) == ("redundant", None)
        assert await replicas.leader(but=identity) is replicas.other(dead)
    await promoted(rank)
    await stage.until("pods", rank.primary.pod, lambda p: role(p)[0] is None, "the old primary's label to go")
    await rank.successor.train(16, 15)
    await failover(rank)
    assert (await stage.lease(rank.primary.lease)).term == 2, "one decision, carried out by two"


async def test_a_rolling_upgrade_hands_the_lead_over_at_once_and_costs_no_term(
    replicas: Replicas, rank: Rank, stage: Stage
) -> None:
    before = {pod["metadata"]["uid"]: role(pod) for pod in await stage.list("pods")}
    for step in (11, 12):
        old, identity = await replicas.leader(), await replicas.holder()
        assert old.stop() == 0
        now = (await replicas.system.get("leases", LEASE))["spec"]["holderIdentity"]
        assert now != identity, "the Lease was released before the process ended"
        assert await replicas.leader(but=identity) is replicas.other(old)
        elections = old.text().count("stands for election")
        old.start()
        await old.said("stands for election", times=elections + 1)
        await rank.primary.train(step, 0)
        await rank.redundant.stand_by(0)
    assert {pod["metadata"]["uid"]: role(pod) for pod in await stage.list("pods")} == before
    assert (await stage.lease(rank.primary.lease)).term == 1
    await stage.delete("pods", rank.primary.pod, gracePeriodSeconds=0)
    await promoted(rank)


async def test_a_leader_that_stood_still_acts_no_more_and_leads_again_in_the_same_process(
    replicas: Replicas, rank: Rank, stage: Stage
) -> None:
    frozen, identity = await replicas.leader(), await replicas.holder()
    lost = frozen.text().count("acts no more")
    process = frozen.process
    frozen.freeze()
    try:
        next_one = await replicas.leader(but=identity)
    finally:
        frozen.thaw()
    await frozen.said("acts no more", times=lost + 1)
    assert await replicas.leader() is next_one
    next_one.kill()
    await stage.delete("pods", rank.primary.pod, gracePeriodSeconds=0)
    await promoted(rank)
    assert await replicas.holder() == identity
    assert frozen.process is process and frozen.runs()
