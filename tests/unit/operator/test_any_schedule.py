"""Whatever the schedule: safety at every action, and after the faults a bounded way back.

Faults come in any order: pods deleted, killed, evicted, frozen, without power; Leases and status deleted; watches that
lag apart or break; an operator that dies between any two actions, or in the midst of one.
"""

import os
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from understudy_contract.exits import ReleaseReason
from understudy_contract.lease import LeaseRecord, micro_time
from understudy_contract.names import rank_lease_name, slot_lease_name
from understudy_contract.reports import Phase
from understudy_contract.status import JobStatus
from understudy_operator.core.actions import Action, CreatePod, Promote
from understudy_operator.core.model import Pod, Running

from tests.unit.operator import world as tiny
from tests.unit.operator.builders import a_job
from tests.unit.operator.cluster import Cluster, cut_power, end_container, release, restore_power, second
from tests.unit.operator.turn import take_turn

NODES = st.sampled_from(["node-a", "node-b"])
RECOVERY_S = 400
"""Longest back-off (60 s, twice), a node's return (40 s) and a few leases, several of them one after another."""
QUIET_S = 60
EXAMPLES = int(os.environ.get("UNDERSTUDY_EXAMPLES", "50"))
"""Ten seconds' worth; thousands find what fifty do not."""


class AnySchedule(RuleBasedStateMachine):
    """Faults, time and the operator, in any order."""

    @initialize(
        ranks=st.integers(1, 2),
        redundancy=st.integers(0, 2),
        mode=st.sampled_from(["ReadWriteMany", "ReadWriteOnce"]),
        warm=st.booleans(),
    )
    def begin(self, ranks: int, redundancy: int, mode: str, warm: bool) -> None:
        # No number of faults ends this job: what ends one is in test_giving_up.py.
        job = a_job(ranks=ranks, redundancy=redundancy, max_failures=1000)
        self.cluster = Cluster(tiny.World(job), modes=(mode,))
        self.lag_leases = self.lag_pods = 0
        self.broken = False
        self.terms: dict[int, int] = {}
        self.holders: dict[tuple[int, int], str] = {}
        self.acknowledged: dict[tuple[int, int], str] = {}
        self.created: Counter[str] = Counter()
        self.turn()
        if warm:
            self.wait(12)

    # Time and the operator

    @rule(seconds=st.integers(1, 25))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.cluster = second(self.cluster)
            self.deliver()
            memory = self.cluster.world.memory
            if memory.woken or self.cluster.world.at >= memory.wake_at:
                self.turn()

    def deliver(self) -> None:
        if self.broken:
            return
        self.lag_leases, self.lag_pods = max(0, self.lag_leases - 1), max(0, self.lag_pods - 1)
        self.set(tiny.sync(self.cluster.world, leases=not self.lag_leases, pods=not self.lag_pods))

    def turn(self, cut_after: int | None = None, torn: bool = False) -> None:
        turn = take_turn(self.cluster.world, cut_after=cut_after, torn=torn)
        self.set(turn.world)
        for action in turn.done:
            self.note(action)
        if turn.cut:
            self.set(tiny.restart(self.cluster.world))

    def note(self, action: Action) -> None:
        if isinstance(action, Promote):
            key = (int(action.rank), int(action.term))
            assert self.holders.setdefault(key, action.target) == action.target, "two holders of one rank and term"
        if isinstance(action, CreatePod):
            self.created[action.name] += 1

    def set(self, world: tiny.World) -> None:
        self.cluster = replace(self.cluster, world=world)

    @rule(actions=st.integers(0, 8), torn=st.booleans())
    def operator_dies_between_two_actions(self, actions: int, torn: bool) -> None:
        self.turn(cut_after=actions, torn=torn)

    @rule()
    def operator_restarts(self) -> None:
        self.set(tiny.restart(self.cluster.world))
        self.broken = False

    @rule(leases=st.integers(0, 3), pods=st.integers(0, 3))
    def watches_lag(self, leases: int, pods: int) -> None:
        self.lag_leases, self.lag_pods = leases, pods

    @precondition(lambda self: not self.broken)
    @rule()
    def watches_break(self) -> None:
        self.broken = True
        self.set(self.cluster.world.remember(contact_at=tiny.INFINITY))

    @precondition(lambda self: self.broken)
    @rule()
    def watches_return(self) -> None:
        self.broken = False
        self.set(tiny.sync(self.cluster.world.remember(contact_at=self.cluster.world.at)))

    # Faults

    def pods(self) -> list[Pod]:
        return sorted(self.cluster.world.pods.values(), key=lambda p: p.name)

    @precondition(lambda self: self.cluster.world.pods)
    @rule(data=st.data(), forced=st.booleans())
    def pod_is_deleted(self, data: st.DataObject, forced: bool) -> None:
        name = data.draw(st.sampled_from(self.pods())).name
        world = self.cluster.world
        self.set(world.drop_pod(name) if forced else tiny.delete(world, name))

    @precondition(lambda self: self.running())
    @rule(data=st.data(), code=st.sampled_from([0, 1, 137]))
    def container_ends(self, data: st.DataObject, code: int) -> None:
        self.cluster = end_container(self.cluster, data.draw(st.sampled_from(self.running())).name, code)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def trainer_dies(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self.running()))
        for record in self.cluster.world.leases.values():
            if record.holder == pod.name and pod.uid not in self.cluster.frozen:
                self.cluster = release(self.cluster, record, pod, ReleaseReason.PROCESS_EXITED, 1)
                return

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def pod_is_evicted(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self.running()))
        gone = replace(pod, phase="Failed", reason="Evicted", container=None)
        self.set(self.cluster.world.put_pod(gone))

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def pod_freezes(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self.running()))
        self.cluster = replace(self.cluster, frozen=self.cluster.frozen | {pod.uid})

    @rule()
    def frozen_pods_thaw(self) -> None:
        self.cluster = replace(self.cluster, frozen=frozenset())

    @rule(node=NODES)
    def node_loses_power(self, node: str) -> None:
        self.cluster = cut_power(self.cluster, node)

    @rule(node=NODES)
    def node_returns(self, node: str) -> None:
        self.cluster = restore_power(self.cluster, node)

    @precondition(lambda self: self.cluster.world.leases and not self.cluster.world.memory.woken)
    @rule(data=st.data())
    def lease_is_deleted(self, data: st.DataObject) -> None:
        self.set(self.cluster.world.drop_lease(data.draw(st.sampled_from(sorted(self.cluster.world.leases)))))

    @rule(suspend=st.booleans())
    def job_is_suspended_or_resumed(self, suspend: bool) -> None:
        world = self.cluster.world
        job = replace(world.job, policy=replace(world.job.policy, suspend=suspend))
        self.set(replace(world, job=job).remember(woken=True))

    @rule()
    def status_is_deleted(self) -> None:
        world = self.cluster.world
        if all(rank_lease_name("digits", r) in world.leases for r in range(world.job.policy.ranks)):
            self.set(replace(world, job=replace(world.job, status=JobStatus())).remember(woken=True))
            self.turn()

    def running(self) -> list[Pod]:
        return [p for p in self.pods() if isinstance(p.container, Running) and p.node not in self.cluster.down]

    # What always holds

    @invariant()
    def terms_never_regress_and_have_one_holder(self) -> None:
        if not hasattr(self, "cluster"):
            return
        world = self.cluster.world
        for rank in range(world.job.policy.ranks):
            record = world.rank_lease(rank)
            if record is None:
                continue
            assert record.term >= self.terms.get(rank, 0), f"rank {rank} fell back to term {record.term}"
            self.terms[rank] = record.term
            key = (rank, int(record.term))
            if record.holder:
                assert self.holders.setdefault(key, record.holder) == record.holder, "two holders of one rank and term"
            pod = world.pods.get(record.holder)
            if record.current_heartbeat is not None and pod is not None:
                first = self.acknowledged.setdefault(key, pod.uid)
                assert first == pod.uid, f"two pods called {pod.name} held term {record.term}"

    # The way back

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        for node in ("node-a", "node-b"):
            self.node_returns(node)
        if self.broken:
            self.watches_return()
        self.job_is_suspended_or_resumed(suspend=False)
        policy = self.cluster.world.job.policy
        unheard = all(pod.uid in self.cluster.frozen for pod in self.running())
        if policy.redundancy == 0 or unheard or any(self.floorless(rank) for rank in range(policy.ranks)):
            # Silence alone condemns nobody whom no warm pod could replace, nor all of a job, who may be cut off.
            self.frozen_pods_thaw()
        for _ in range(RECOVERY_S):
            if self.is_whole():
                break
            self.wait(1)
        assert self.is_whole(), f"not whole {RECOVERY_S} s after the last fault: {self.describe()}"
        self.terms_never_regress_and_have_one_holder()
        made, terms = self.created.total(), dict(self.terms)
        self.wait(QUIET_S)
        self.terms_never_regress_and_have_one_holder()
        assert (self.created.total(), self.terms) == (made, terms), "a whole job was disturbed"
        assert self.is_whole()

    def floorless(self, rank: int) -> bool:
        record = self.cluster.world.rank_lease(rank)
        return record is None or record.floor is None

    def is_whole(self) -> bool:
        world = self.cluster.world
        for rank in range(world.job.policy.ranks):
            record = world.rank_lease(rank)
            if record is None or not self.serves(record.holder, record, Phase.TRAINING):
                return False
            for slot in range(world.job.policy.redundancy):
                own = world.leases.get(slot_lease_name(world.job.name, rank, slot))
                if own is None or own.holder == record.holder or not self.serves(own.holder, own, Phase.READY):
                    return False
        return True

    def serves(self, name: str, record: LeaseRecord, phase: Phase) -> bool:
        pod = self.cluster.world.pods.get(name)
        beat = record.current_heartbeat
        if pod is None or pod.deleting_since is not None or record.current_release is not None:
            return False
        return self.cluster.hears(pod) and beat is not None and beat.phase is phase

    def describe(self) -> str:
        world = self.cluster.world
        return "\n".join(
            [
                f"at {world.at}, wake at {world.memory.wake_at}, {micro_time(world.now.wall)}",
                *(f"{r.name}: {r.holder} term {r.term} {r.heartbeat} {r.release}" for r in world.leases.values()),
                *(f"{p.name}: {p.phase} {p.node} {p.container} deleting {p.deleting_since}" for p in self.pods()),
            ]
        )


TestAnySchedule = AnySchedule.TestCase
TestAnySchedule.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
