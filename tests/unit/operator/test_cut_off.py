"""Silence of many at once: workers that are cut off from the API server are not dead, and nobody deletes them."""

import math
from collections.abc import Mapping

import msgspec
import pytest
from understudy_contract.lease import LeaseObject
from understudy_contract.names import Annotation, Label
from understudy_contract.reports import Heartbeat, Phase
from understudy_kube.client import Api, Credentials
from understudy_operator.core.actions import AssignSlot, DeletePod
from understudy_operator.fleet import on_several_nodes, silent_workers_by_node
from understudy_operator.objects import PodObject
from understudy_operator.observe import observe
from understudy_operator.world import World

from tests.unit.operator.builders import LEASE_S, NOW, PRIMARY, RANK, SLOT, UNDERSTUDY, Scene, ago, of

BOTH = {"node-a": 1, "node-b": 1}


def silent(**changes: object) -> Scene:
    """Primary and redundant pod, on two nodes, have not been heard for a minute."""
    return Scene(**changes).lease(RANK, silent_s=60).lease(SLOT, silent_s=60)  # type: ignore[arg-type]


def dark(scene: Scene) -> Scene:
    """No kubelet is heard either."""
    return scene.given(nodes=dict.fromkeys(scene.nodes, False))


@pytest.mark.parametrize("scene", [silent(), dark(silent())], ids=["the nodes are Ready", "no node is Ready"])
def test_while_no_worker_of_several_nodes_is_heard_nobody_is_replaced(scene: Scene) -> None:
    decision = scene.given(silent_workers_by_node=BOTH).decide()
    assert decision.promotions == ()
    assert of(decision.rest, AssignSlot) == []
    assert of(decision.rest, DeletePod) == []


def test_the_job_says_so() -> None:
    scene = silent().given(silent_workers_by_node=BOTH)
    assert scene.condition("ControlPlaneDegraded")["status"] == "True"
    (event,) = [e for key, e in scene.settled().events().items() if key.startswith("control plane 2026")]
    assert event.reason == "ControlPlaneDegraded"
    assert silent().condition("ControlPlaneDegraded")["status"] == "False"


def test_a_lost_node_beside_workers_that_are_heard_is_a_lost_node() -> None:
    (promote,) = silent().given(nodes={"node-a": False, "node-b": False}).decide().promotions
    assert promote.cold


def alone_in_the_dark(**changes: object) -> Scene:
    """A primary without a redundant pod, overdue by a second on a node that is not Ready; others train elsewhere."""
    scene = Scene(redundancy=0).lease(RANK, silent_s=LEASE_S + 1)
    return scene.given(nodes={"node-a": False}, **{"on_several_nodes": True, **changes})


def test_a_primary_is_not_replaced_before_a_worker_elsewhere_is_heard_later_than_it_was_due() -> None:
    scene = alone_in_the_dark()
    scene.any_worker_heard_at = ago(1.1)  # whose own lease may be longer: it is not overdue yet
    decision = scene.decide()
    assert decision.promotions == ()
    assert decision.wake_at <= NOW.at + LEASE_S / 2
    scene.any_worker_heard_at = ago(0.9)
    assert len(scene.decide().promotions) == 1


def test_where_no_other_node_has_workers_nobody_is_waited_for() -> None:
    scene = alone_in_the_dark(on_several_nodes=False)
    scene.any_worker_heard_at = ago(60)
    assert len(scene.decide().promotions) == 1


def test_the_first_worker_to_be_heard_again_condemns_nobody_for_a_lease() -> None:
    assert alone_in_the_dark(was_degraded_at=ago(LEASE_S - 0.1)).decide().promotions == ()
    assert len(alone_in_the_dark(was_degraded_at=ago(LEASE_S)).decide().promotions) == 1


def test_a_redundant_pod_that_never_reported_goes_with_its_node() -> None:
    scene = Scene().lease(SLOT, holder=UNDERSTUDY, silent_s=1, heartbeat=None).given(nodes={"node-b": False})
    assert len(of(scene.decide().rest, AssignSlot)) == 1


def test_a_single_node_is_no_proof_of_a_cut_off_control_plane() -> None:
    scene = Scene(redundancy=0).lease(RANK, silent_s=60)
    (promote,) = scene.given(nodes={"node-a": False}, silent_workers_by_node={"node-a": 2}).decide().promotions
    assert promote.cold


def test_all_workers_of_a_node_that_is_ready_itself_are_cut_off_as_well() -> None:
    scene = silent().given(silent_workers_by_node={"node-a": 2})
    assert scene.condition("ControlPlaneDegraded")["status"] == "True"
    assert silent().given(silent_workers_by_node={"node-a": 1}).condition("ControlPlaneDegraded")["status"] == "False"


def test_a_silent_job_that_could_go_on_nowhere_else_is_left_alone() -> None:
    scene = dark(silent(access="ReadWriteOnce")).pod(UNDERSTUDY, node="node-a")
    decision = scene.decide()
    assert decision.promotions == ()
    assert of(decision.rest, AssignSlot) == []


def test_a_redundant_pod_that_froze_on_a_node_that_is_ready_is_replaced_all_the_same() -> None:
    scene = Scene(access="ReadWriteOnce").pod(UNDERSTUDY, node="node-a").lease(SLOT, silent_s=60)
    assert len(of(scene.decide().rest, AssignSlot)) == 1


def test_the_first_to_be_overdue_is_not_condemned_until_another_is_heard_later_than_that() -> None:
    scene = Scene().lease(SLOT, silent_s=LEASE_S + 1)
    scene.any_worker_heard_at = ago(1.1)
    decision = scene.decide()
    assert of(decision.rest, AssignSlot) == []
    assert decision.wake_at <= NOW.at + LEASE_S / 2
    scene.any_worker_heard_at = ago(0.9)
    assert len(of(scene.decide().rest, AssignSlot)) == 1


def test_a_primary_that_is_overdue_first_is_not_condemned_for_a_redundant_pod_that_is_late_itself() -> None:
    def scene(redundant_s: float) -> Scene:
        return Scene().lease(RANK, silent_s=LEASE_S).lease(SLOT, silent_s=redundant_s)

    assert scene(0.45 * LEASE_S).decide().promotions == ()
    assert len(scene(0.35 * LEASE_S).decide().promotions) == 1


def test_the_first_to_be_heard_again_proves_nothing_of_the_others_for_a_lease() -> None:
    scene = Scene().lease(SLOT, silent_s=60)
    scene.any_worker_steady_since = ago(LEASE_S - 1)
    assert of(scene.decide().rest, AssignSlot) == []
    scene.any_worker_steady_since = ago(LEASE_S)
    assert len(of(scene.decide().rest, AssignSlot)) == 1


def test_what_is_more_than_silence_counts_all_the_same() -> None:
    (promote,) = silent().given(silent_workers_by_node=BOTH).gone(PRIMARY).decide().promotions
    assert promote.promotion is not None and promote.promotion.cause == "PodDeleted"


def silent_by_node(world: World, at: float, lease_s: int) -> Mapping[str, int]:
    return silent_workers_by_node(world.leases.records, world.pods.records, world.hearing, at, lease_s)


def scattered(world: World, lease_s: int) -> bool:
    return on_several_nodes(world.leases.records, world.pods.records, lease_s)


class TestFleet:
    """Which workers the operator counts as silent, and on how many nodes workers are."""

    def world(self, *silent_s: float, hours: int = 0) -> World:
        """One running worker a node, each heard so long ago; the last of them, if `hours` is given, for that long."""
        self.at = 0.0
        world = World(Api(Credentials("http://127.0.0.1:1", None)), lambda key: None, clock=lambda: self.at)
        world.leases.contact.opened()
        for index, quiet_s in enumerate(sorted(silent_s, reverse=True)):
            self.pass_time(world, 1000.0 - quiet_s)
            world.take_job(self.job(index))
            world.pods.upsert(self.pod(index))
            last = hours and index == len(silent_s) - 1
            world.leases.upsert(self.lease(index, 3600 * hours if last else LEASE_S))
        self.pass_time(world, 1000.0)
        return world

    def pass_time(self, world: World, until: float) -> None:
        """Let the API server give a sign of life every second."""
        self.at = self.at or until
        while self.at < until:
            self.at = min(self.at + 1.0, until)
            world.leases.contact.heard()
        world.leases.contact.heard()

    def job(self, index: int) -> bytes:
        meta = {"name": f"job{index}", "namespace": "n", "uid": f"j{index}", "resourceVersion": "1"}
        return msgspec.json.encode({"metadata": meta, "spec": {"template": {"spec": {"containers": []}}}})

    def pod(self, index: int) -> PodObject:
        meta = {"name": f"job{index}-0-0", "namespace": "n", "uid": f"p{index}", "resourceVersion": "1"}
        labels = {Label.JOB: f"job{index}", Label.JOB_UID: f"j{index}", Label.RANK: "0"}
        state = {"containerStatuses": [{"name": "trainer", "state": {"running": {}}}], "phase": "Running"}
        found = {"metadata": {**meta, "labels": labels}, "spec": {"nodeName": f"node-{index}"}, "status": state}
        return msgspec.convert(found, PodObject)

    def lease(self, index: int, duration_s: int) -> LeaseObject:
        beat = Heartbeat(pod=f"job{index}-0-0", term=1, phase=Phase.TRAINING)
        meta: dict[str, object] = {
            "name": f"job{index}-0",
            "namespace": "n",
            "uid": f"l{index}",
            "resourceVersion": "1",
        }
        meta |= {"ownerReferences": [{"uid": f"j{index}"}]}
        spec = {"holderIdentity": f"job{index}-0-0", "leaseTransitions": 1, "leaseDurationSeconds": duration_s}
        notes = {Annotation.HEARTBEAT: msgspec.json.encode(beat).decode()}
        return msgspec.convert({"metadata": {**meta, "annotations": notes}, "spec": spec}, LeaseObject)

    def test_all_silent(self) -> None:
        assert silent_by_node(self.world(30, 20, 10), 1000.0, LEASE_S) == {"node-0": 1, "node-1": 1, "node-2": 1}

    def test_one_is_heard(self) -> None:
        assert silent_by_node(self.world(30, 20, 1), 1000.0, LEASE_S) == {}

    def test_on_how_many_nodes_they_are(self) -> None:
        assert [scattered(self.world(*quiet), LEASE_S) for quiet in ((), (1,), (30, 1))] == [False, False, True]

    def test_nobody_is_there(self) -> None:
        assert silent_by_node(self.world(), 1000.0, LEASE_S) == {}

    def test_the_api_server_gives_no_sign_of_life(self) -> None:
        world = self.world(30, 20)
        self.at = 1100.0
        assert silent_by_node(world, 1100.0, LEASE_S) == {}

    def test_a_lease_of_an_hour_in_one_job_keeps_no_other_from_seeing_that_nobody_is_heard(self) -> None:
        world = self.world(30, 20, 15, hours=1)
        assert silent_by_node(world, 1000.0, LEASE_S) == {"node-0": 1, "node-1": 1}
        assert silent_by_node(world, 1000.0, 3600) == {}, "by its own lease all is well"

    def test_a_worker_with_a_long_lease_that_was_just_heard_is_heard(self) -> None:
        assert silent_by_node(self.world(30, 20, 5, hours=1), 1000.0, LEASE_S) == {}

    def test_nobody_waits_for_a_word_of_a_worker_that_renews_every_twenty_minutes(self) -> None:
        assert not scattered(self.world(30, 5, hours=1), LEASE_S)
        assert scattered(self.world(30, 5, hours=1), 3600)

    @pytest.mark.parametrize("lease_s", [3, 5, 9])
    def test_a_worker_with_a_somewhat_longer_lease_is_heard_from_one_renewal_to_the_next(self, lease_s: int) -> None:
        assert silent_by_node(self.world(30, 20, LEASE_S / 3 + 0.2), 1000.0, lease_s) == {}

    def test_each_lease_has_a_cut_off_of_its_own(self) -> None:
        world = self.world(30, 20, 15, hours=1)
        for name, lease_s in ("short", LEASE_S), ("long", 3600):
            spec = {"template": {"spec": {}}, "failover": {"leaseDurationSeconds": lease_s}}
            meta = {"name": name, "namespace": "n", "uid": name, "resourceVersion": "1"}
            world.take_job(msgspec.json.encode({"metadata": meta, "spec": spec}))
        seen = {name: observe(world, ("n", name), 1000.0) for name in ("short", "long")}
        assert {name: seen[name].fleet.control_plane_degraded for name in seen} == {"short": True, "long": False}
        for observation in seen.values():
            assert observation is not None
            world.take_note(observation)
        again = {name: observe(world, ("n", name), 1000.0).fleet.was_degraded_at for name in seen}
        assert again == {"short": 1000.0, "long": -math.inf}
