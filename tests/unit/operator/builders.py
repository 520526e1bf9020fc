"""Builders of what the operator observes. A `Scene` starts as a job in good order and is bent from there.

`digits-0-0` trains rank 0 in term 1, at step 120, with step 100 committed; `digits-0-1` is warm in slot 0 (`digits-0-2`
in slot 1, and so on), each on the next node. Leases last 9 s and were renewed 1 s ago.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import (
    MAX_REDUNDANCY,
    Annotation,
    Rank,
    Role,
    Term,
    pod_name,
    rank_lease_name,
    slot_lease_name,
)
from understudy_contract.reports import CheckpointRef, GivenUp, Heartbeat, Phase, Promotion, Release
from understudy_contract.status import JobStatus, status_of
from understudy_operator.core.actions import Action, Emit, PatchLease, WriteStatus
from understudy_operator.core.decide import Decision, decide
from understudy_operator.core.fleet import Fleet
from understudy_operator.core.model import (
    Claim,
    Job,
    Lease,
    Now,
    Observation,
    Pod,
    Problem,
    RankView,
    Running,
    Terminated,
    Waiting,
    incarnation_of,
)
from understudy_operator.core.policy import read_policy

LEASE_S = 9
HAND_OVER_S = 20
NOW = Now(1000.0, datetime(2026, 1, 1, 12, tzinfo=UTC))
PRIMARY, UNDERSTUDY = "digits-0-0", "digits-0-1"
RANK, SLOT = "digits-0", "digits-0-s0"
A = TypeVar("A")


def a_job(
    *,
    ranks: int = 1,
    redundancy: int = 1,
    max_failures: int = 5,
    status: Mapping[str, Any] | None = None,
    **spec_fields: Any,
) -> Job:
    """Build the job `digits`."""
    failover = {"leaseDurationSeconds": LEASE_S, "handOverSeconds": HAND_OVER_S}
    spec = {
        "ranks": ranks,
        "redundancy": redundancy,
        "template": {"spec": {"containers": [{"name": "trainer", "command": ["python", "train.py"]}]}},
        "failover": {**failover, "maxFailuresWithoutProgress": max_failures},
        **spec_fields,
    }
    return Job(
        "default",
        "digits",
        "job-uid",
        1,
        "2026-01-01T00:00:00Z",
        read_policy("digits", spec),
        status_of({"status": status}),
    )


def checkpoint(step: int, term: int = 1) -> CheckpointRef:
    """Name a committed checkpoint."""
    return CheckpointRef(term, step, f"sha-{term}-{step}")


def ago(seconds: float) -> float:
    """A moment of the monotonic clock."""
    return NOW.at - seconds


def a_problem(reason: str, message: str, *, again_at: float = NOW.at + 3, passing: bool = False) -> Problem:
    """Something that the API refused a moment ago."""
    return Problem(reason, message, "2026-01-01T11:59:58.000000Z", again_at, passing)


def ended(code: int = 1, *, reason: str = "Error", message: str = "") -> Terminated:
    """An ended container."""
    return Terminated(code, reason, message, "2026-01-01T11:59:59Z")


def init_failed(code: int = 3, *, message: str = "", reason: str = "Error") -> dict[str, Any]:
    """Changes of a pod whose init container `fetch` failed."""
    failed = ("fetch", ended(code, message=message, reason=reason))
    return {"phase": "Failed", "container": Waiting("PodInitializing", ""), "failed_init": failed}


def a_pod(name: str, **changes: Any) -> Pod:
    """Build a running pod with no role."""
    rank = int(name.split("-")[-2])
    plain = Pod(
        name=name,
        uid=f"uid-{name}",
        resource_version="7",
        rank=Rank(rank),
        role=None,
        term=None,
        node="node-a",
        created=f"2026-01-01T00:00:{max(0, incarnation_of(name)):02d}Z",
        phase="Running",
        reason="",
        deleting_since=None,
        deletion_time="",
        scheduling="",
        container=Running(ago(600)),
    )
    return replace(plain, **changes)


def a_promotion(**changes: Any) -> Promotion:
    """Record that digits-0-1 took over from digits-0-0 in term 2."""
    values: dict[str, Any] = {
        "term": 2,
        "source": PRIMARY,
        "target": UNDERSTUDY,
        "cause": "PodDeleted",
        "message": "pod digits-0-0 is gone",
        "failed_at": "2026-01-01T11:59:00.000000Z",
        "detected_at": "2026-01-01T11:59:00.100000Z",
        "promoted_at": "2026-01-01T11:59:00.200000Z",
        "known_step": 120,
        "known_step_exact": True,
        "checkpoint": checkpoint(100),
    }
    return Promotion(**{**values, **changes})


class Scene:
    """A job as observed. Methods bend it and return it."""

    def __init__(self, *, ranks: int = 1, redundancy: int = 1, access: str = "ReadWriteMany") -> None:
        self.job = a_job(ranks=ranks, redundancy=redundancy)
        self.claim: Claim | None = Claim("digits-checkpoints", "Bound", (access,))
        self.leases: dict[str, LeaseRecord] = {}
        self.silent_since: dict[str, float] = {}
        self.steady_since: dict[str, float] = {}
        self.any_worker_heard_at = ago(0.1)
        self.any_worker_steady_since = ago(500)
        self.pods: dict[str, Pod] = {}
        self.extra: dict[str, Any] = {}
        nodes = "abcdefgh"
        self.nodes = {f"node-{n}": True for n in nodes}
        for rank in range(ranks):
            name, node = pod_name("digits", rank, 0), "node-a"
            self._add_lease(rank_lease_name("digits", rank), holder=name, term=Term(1), incarnation=1 + redundancy)
            beat = Heartbeat(pod=name, term=1, phase=Phase.TRAINING, step=120, checkpoint=checkpoint(100))
            self.lease(rank_lease_name("digits", rank), heartbeat=beat)
            self.pod(name, role=Role.PRIMARY, term=Term(1), node=node)
            for slot in range(redundancy):
                name, lease = pod_name("digits", rank, 1 + slot), slot_lease_name("digits", rank, slot)
                beat = Heartbeat(pod=name, term=1, phase=Phase.READY, loaded=checkpoint(100))
                self._add_lease(lease, holder=name, term=Term(1), heartbeat=beat)
                self.pod(name, role=Role.REDUNDANT, node=f"node-{nodes[1 + slot]}")

    def _add_lease(self, name: str, **fields: Any) -> None:
        self.leases[name] = LeaseRecord(
            name=name,
            namespace="default",
            uid=f"uid-{name}",
            resource_version="7",
            duration_s=LEASE_S,
            owner_uid="job-uid",
            renew_time="2026-01-01T11:59:58.000000Z",
            **fields,
        )
        self.silent_since[name] = ago(1)

    def lease(
        self, name: str, *, silent_s: float | None = None, steady_s: float | None = None, **changes: Any
    ) -> "Scene":
        """Change a Lease, or for how long it has been silent, or renewed without a gap."""
        self.leases[name] = replace(self.leases[name], **changes)
        if silent_s is not None:
            self.silent_since[name] = ago(silent_s)
        if steady_s is not None:
            self.steady_since[name] = ago(steady_s)
        return self

    def beat(self, name: str, **changes: Any) -> "Scene":
        """Change what the holder of a Lease last reported; `none=True`: nothing yet."""
        old = self.leases[name].heartbeat
        assert old is not None
        values = {field: getattr(old, field) for field in old.__struct_fields__}
        return self.lease(name, heartbeat=None if changes.get("none") else Heartbeat(**{**values, **changes}))

    def released(self, name: str, reason: str, code: int = 0, message: str = "", *, term: int = 1) -> "Scene":
        """Let a term's holder give a Lease up."""
        return self.lease(name, release=Release(Term(term), reason, code, message))

    def pod(self, name: str, **changes: Any) -> "Scene":
        """Add or change a pod."""
        self.pods[name] = replace(self.pods[name], **changes) if name in self.pods else a_pod(name, **changes)
        return self

    def gone(self, *names: str) -> "Scene":
        """Remove pods or Leases."""
        for name in names:
            self.pods.pop(name, None)
            self.leases.pop(name, None)
        return self

    def promoted(self, **changes: Any) -> "Scene":
        """Make digits-0-1 the primary of term 2, not heard of yet; digits-0-0 is gone."""
        self.gone(PRIMARY).pod(UNDERSTUDY, role=Role.PRIMARY, term=Term(2))
        return self.lease(RANK, holder=UNDERSTUDY, term=Term(2), promotion=a_promotion(**changes))

    def status(self, status: Mapping[str, Any]) -> "Scene":
        """Set the status that the API holds, given as JSON."""
        self.job = replace(self.job, status=status_of({"status": status}))
        return self

    def wire(self) -> dict[str, Any]:
        """Return the status that the API holds, as JSON."""
        return as_json(self.job.status)

    def asked(self, **policy: Any) -> "Scene":
        """Change what the spec asks for."""
        self.job = replace(self.job, policy=replace(self.job.policy, **policy))
        return self

    def given(self, **changes: Any) -> "Scene":
        """Change other fields of the Observation or of its Fleet, or the claim."""
        if "claim" in changes:
            self.claim = changes.pop("claim")
        if "nodes" in changes:
            self.nodes |= changes.pop("nodes")
        self.extra |= changes
        return self

    def observe(self) -> Observation:
        """Build the Observation."""

        def lease(name: str) -> Lease | None:
            if name not in self.leases:
                return None
            since = self.silent_since[name]
            steady_since = self.steady_since.get(name, ago(500))
            return Lease(self.leases[name], since, since, self.any_worker_steady_since, steady_since)

        policy, claim = self.job.policy, self.claim
        fleet: dict[str, Any] = {
            "at": NOW.at,
            "nodes": self.nodes,
            "silent_workers_by_node": {},
            "was_degraded_at": -float("inf"),
            "on_several_nodes": False,
            "any_worker_heard_at": self.any_worker_heard_at,
            "one_node": claim is not None and claim.bound and not claim.shared,
        }
        values: dict[str, Any] = {
            "suspect_nodes": frozenset(),
            "prepared_at": ago(60),
            "prepared_generation": self.job.generation,
            "granted": frozenset((None, name) for name in self.leases),
            "budgets": self.claim is not None and self.claim.shared and self.job.policy.redundancy > 0,
            "problems": {},
            "predecessor_pods": {},
            "leftovers": (),
            "pending_pods": frozenset(),
            "deleted_pods": frozenset(),
            "status_written_at": ago(1),
        }
        return Observation(
            job=self.job,
            ranks=tuple(
                RankView(
                    Rank(rank),
                    lease(rank_lease_name("digits", rank)),
                    tuple(lease(slot_lease_name("digits", rank, slot)) for slot in range(policy.redundancy)),
                    {name: pod for name, pod in self.pods.items() if pod.rank == rank},
                    tuple(
                        found
                        for slot in range(policy.redundancy, MAX_REDUNDANCY)
                        if (found := lease(slot_lease_name("digits", rank, slot))) is not None and found.record.holder
                    ),
                )
                for rank in range(policy.ranks)
            ),
            claim=self.claim,
            fleet=Fleet(**{**fleet, **{k: v for k, v in self.extra.items() if k in fleet}}),
            **{**values, **{k: v for k, v in self.extra.items() if k not in fleet}},
        )

    def decide(self) -> Decision:
        """Decide on everything, promotions or not."""
        return decide(self.observe(), NOW, whole=True)

    def settled(self) -> "Scene":
        """Take in the status that would be written, so that only what comes next is left to do."""
        return self.status(self.written())

    def written(self) -> dict[str, Any]:
        """Return the status that would be written, as JSON."""
        self.extra["status_written_at"] = -1e9
        found = of(self.decide().rest, WriteStatus)
        return as_json(found[0].status if found else self.job.status)

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return one condition of the status that would be written."""
        return next(c for c in self.written()["conditions"] if c["type"] == kind)

    def events(self) -> dict[str, Emit]:
        """Return the Events by key."""
        return {emit.key: emit for emit in of(self.decide().rest, Emit)}


def as_json(status: JobStatus) -> dict[str, Any]:
    """Return a status as it stands in the API."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(status))
    return found


def of(actions: tuple[Action, ...], kind: type[A]) -> list[A]:
    """Pick the actions of one kind, in order."""
    return [action for action in actions if isinstance(action, kind)]


def patches(actions: tuple[Action, ...], change: str) -> list[PatchLease]:
    """Pick the patches of Leases that change an annotation or a field of the spec."""
    return [action for action in of(actions, PatchLease) if change in {**action.annotations, **action.spec}]


def given_up_in(actions: tuple[Action, ...]) -> list[GivenUp]:
    """Pick the ranks that are given up, by why."""
    found = (action.annotations[Annotation.GIVEN_UP] for action in patches(actions, Annotation.GIVEN_UP))
    return [msgspec.json.decode(text or "", type=GivenUp) for text in found]
