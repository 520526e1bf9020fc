"""Why a pod ended, as Kubernetes says it: at once, or after its rank was passed on."""

import json
from typing import Any

import msgspec
import pytest
from understudy_operator.core.actions import END_POD_S, AskWhy, AssignSlot, Promote
from understudy_operator.core.causes import told, unexplained
from understudy_operator.core.model import Killed, Pod
from understudy_operator.inquiry import read_events
from understudy_operator.objects import PodObject, pod_view

from tests.unit.operator.builders import (
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    a_pod,
    ago,
    ended,
    of,
)

VOLUME = 'Usage of EmptyDir volume "scratch" exceeds the limit "16Mi". '
EVICTED: dict[str, Any] = {"phase": "Failed", "reason": "Evicted", "message": VOLUME, "container": ended(82)}
LIVENESS = Killed("liveness", "Liveness probe failed: cat: /tmp/alive: No such file or directory")


def disrupted(reason: str, message: str = "words", **changes: Any) -> Pod:
    return a_pod(PRIMARY, **{"deleting_since": ago(1), "disruption": (reason, message), **changes})


TOLD: dict[str, tuple[Pod, str, str, bool]] = {
    "a volume over its limit": (
        a_pod(PRIMARY, **EVICTED),
        "Evicted",
        'was evicted by its node: Usage of EmptyDir volume "scratch" exceeds the limit "16Mi"; raise sizeLimit',
        True,
    ),
    "ephemeral storage over its limit": (
        a_pod(PRIMARY, **EVICTED | {"message": 'Container trainer exceeded its local ephemeral storage limit "1Gi". '}),
        "Evicted",
        'exceeded its local ephemeral storage limit "1Gi"; raise resources.limits.ephemeral-storage',
        True,
    ),
    "a node short of memory, which is no fault of the program": (
        a_pod(
            PRIMARY,
            **EVICTED
            | {
                "message": "The node was low on resource: memory. Container trainer was using 9Gi, request is 1Gi, "
                "has larger consumption of memory."
            },
        ),
        "Evicted",
        "The node was low on resource: memory. Container trainer was using 9Gi",
        False,
    ),
    "the pod's own deadline": (
        a_pod(PRIMARY, **EVICTED | {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer"}),
        "PodDeadlineExceeded",
        "activeDeadlineSeconds of its pod template: Pod was active on the node longer; take activeDeadlineSeconds",
        False,
    ),
    "the shutdown of the node": (
        a_pod(PRIMARY, **EVICTED | {"reason": "Terminated", "message": "Pod was terminated in response to imminent"}),
        "NodeShutdown",
        "was ended by the shutdown of its node: Pod was terminated in response to imminent",
        False,
    ),
    "a critical pod on the node": (
        a_pod(PRIMARY, **EVICTED | {"reason": "Preempting", "message": "Preempted in order to admit critical pod"}),
        "Preempted",
        "was preempted by a pod of a higher priority: Preempted in order to admit critical pod; give",
        False,
    ),
    "a node that does not admit the pod": (
        a_pod(PRIMARY, phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource", container=None),
        "NodeRefused",
        "was refused by its node (OutOfcpu): Node didn't have enough resource",
        False,
    ),
    "a reason that a later Kubernetes knows": (
        a_pod(PRIMARY, **EVICTED | {"reason": "Invented", "message": "in a later release"}),
        "ContainerExited",
        "was ended by Kubernetes (Invented): in a later release",
        False,
    ),
    "the scheduler's preemption": (disrupted("PreemptionByScheduler"), "Preempted", "was preempted by", False),
    "a taint": (disrupted("DeletionByTaintManager"), "NodeTainted", "was deleted for a taint of its node", False),
    "a drain": (disrupted("EvictionByEvictionAPI"), "EvictedByAPI", "was evicted through the API, as by", False),
    "the garbage collector of pods": (disrupted("DeletionByPodGC"), "NodeLost", "its node is gone", False),
    "a disruption that a later Kubernetes knows": (disrupted("Invented"), "PodDeleted", "disrupted (Invented)", False),
    "memory": (
        a_pod(PRIMARY, phase="Failed", container=ended(137, reason="OOMKilled")),
        "OOMKilled",
        "ran out of memory (OOMKilled); raise resources.limits.memory of container `trainer`",
        True,
    ),
    "an eviction that the pod's status does not tell yet": (
        a_pod(PRIMARY, container=ended(0), killed=Killed("Evicted", VOLUME)),
        "Evicted",
        'was evicted by its node: Usage of EmptyDir volume "scratch" exceeds the limit "16Mi"; raise sizeLimit',
        True,
    ),
    "a probe": (
        a_pod(PRIMARY, phase="Failed", container=ended(82), killed=LIVENESS),
        "LivenessProbeFailed",
        "was killed by the liveness probe of container `trainer`: Liveness probe failed: cat: /tmp/alive: No such file",
        True,
    ),
}


@pytest.mark.parametrize("sentence", TOLD)
def test_kubernetes_tells(sentence: str) -> None:
    pod, cause, words, program = TOLD[sentence]
    reason = told(pod)
    assert reason is not None
    assert (reason.cause, reason.program) == (cause, program)
    assert words in reason.verb + reason.tail


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(PRIMARY),
        a_pod(PRIMARY, deleting_since=ago(1)),
        disrupted("PreemptionByScheduler", deleting_since=None),
        disrupted("PreemptionByScheduler", deleting_since=None, container=ended(1), phase="Failed"),
        a_pod(PRIMARY, container=ended(1, reason="OOMKilled"), phase="Failed"),
        a_pod(PRIMARY, container=ended(137, reason="OOMKilled"), deleting_since=ago(1)),
        a_pod(PRIMARY, container=ended(82), killed=Killed()),
    ],
    ids=[
        "a pod at work",
        "a deletion by a person",
        "a preemption that failed",
        "one that failed, before an end by itself",
        "a child that was killed long ago",
        "a kill on the way of a deletion",
        "Events that say nothing",
    ],
)
def test_kubernetes_tells_nothing_of(pod: Pod) -> None:
    assert told(pod) is None


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"container": ended(0)}, True),
        ({"container": ended(82)}, True),
        ({"container": ended(137)}, True),
        ({"container": ended(143)}, True),
        ({"container": ended(1)}, False),
        ({"container": ended(81)}, False),
        ({"container": ended(82), "deleting_since": ago(1)}, False),
        ({"container": ended(137, reason="OOMKilled")}, False),
        ({"container": ended(82), "killed": Killed()}, False),
        (EVICTED, False),
        ({}, False),
    ],
)
def test_events_are_asked_only_where_no_field_tells_why_a_pod_was_told_to_end(
    changes: dict[str, Any], asked: bool
) -> None:
    assert unexplained(a_pod(PRIMARY, **changes)) is asked
    rest = Scene().promoted().pod(PRIMARY, **changes).decide().rest
    assert [order.pod.name for order in of(rest, AskWhy)] == ([PRIMARY] if asked else [])


class TestAfterwards:
    """The cause of a failover that is on record already."""

    def completed(self, cause: str = "Terminated", **changes: Any) -> dict[str, Any]:
        scene = Scene().promoted(cause=cause, message="pod digits-0-0 was told to end").pod(PRIMARY, **changes)
        (entry,) = scene.written()["failovers"]
        return dict(entry)

    def test_an_eviction_that_is_known_a_second_later_completes_entry_and_message(self) -> None:
        entry = self.completed(**EVICTED)
        assert entry["cause"] == "Evicted"
        assert entry["message"] == (
            "pod digits-0-0 was told to end: it was evicted by its node: "
            'Usage of EmptyDir volume "scratch" exceeds the limit "16Mi"; '
            "raise sizeLimit of that volume, or let the script clear it"
        )

    def test_it_is_told_in_an_event_of_its_own(self) -> None:
        scene = Scene().promoted(cause="Terminated", message="it was told to end", promoted_at="2026-01-01T11:59:59Z")
        assert "cause 0 2" not in scene.pod(PRIMARY, container=ended(82), phase="Failed").events()
        found = scene.pod(PRIMARY, **EVICTED).events()
        assert found["promotion 0 2"].message.startswith("Rank 0: it was told to end. Promoted")
        assert found["cause 0 2"].reason == "CauseFound"
        assert found["cause 0 2"].message == (
            "Rank 0, term 2: Evicted, it was told to end: it was evicted by its node: "
            'Usage of EmptyDir volume "scratch" exceeds the limit "16Mi"; '
            "raise sizeLimit of that volume, or let the script clear it."
        )

    def test_it_is_completed_once_and_stays_when_the_pod_is_gone(self) -> None:
        scene = Scene().promoted(cause="Terminated").pod(PRIMARY, **EVICTED)
        first = scene.settled().written()["failovers"]
        assert scene.settled().written()["failovers"] == first
        assert scene.gone(PRIMARY).written()["failovers"] == first

    def test_a_probe_that_the_events_name(self) -> None:
        entry = self.completed(container=ended(82), phase="Failed", killed=LIVENESS)
        assert entry["cause"] == "LivenessProbeFailed"
        late = self.completed("ProcessExited", container=ended(137), phase="Failed", killed=LIVENESS)
        assert late["cause"] == "LivenessProbeFailed"

    def test_a_kill_for_want_of_memory_that_the_agent_could_not_see(self) -> None:
        entry = self.completed("ProcessExited", container=ended(137, reason="OOMKilled"), phase="Failed")
        assert entry["cause"] == "OOMKilled"

    def test_a_deletion_that_was_told_late(self) -> None:
        assert self.completed(deleting_since=ago(0))["cause"] == "PodDeleted"

    def test_nobody_is_blamed_where_nothing_says_who_it_was(self) -> None:
        entry = self.completed(container=ended(82), phase="Failed", killed=Killed())
        assert (entry["cause"], entry["message"]) == ("Terminated", "pod digits-0-0 was told to end")

    @pytest.mark.parametrize("cause", ["PodDeleted", "ProcessExited", "ContainerExited", "LeaseExpired", "Stalled"])
    def test_the_operators_own_deletion_of_a_lost_pod_is_no_cause(self, cause: str) -> None:
        assert self.completed(cause, deleting_since=ago(0))["cause"] == cause
        drained = ("EvictionByEvictionAPI", "Eviction API: evicting")
        assert self.completed(cause, deleting_since=ago(0), disruption=drained)["cause"] == cause

    @pytest.mark.parametrize("cause", ["LeaseExpired", "Stalled", "Switchover", "NotIntegrated"])
    def test_a_cause_that_was_seen_stays_whatever_befalls_the_pod_after_it(self, cause: str) -> None:
        assert self.completed(cause, **EVICTED)["cause"] == cause

    def test_an_entry_of_which_little_is_known_is_left_alone(self) -> None:
        scene = Scene().status(
            {"failovers": [{"rank": 0, "term": 1, "promotedAt": ""}, {"rank": 0, "term": 7, "promotedAt": ""}]}
        )
        assert len(scene.written()["failovers"]) == 2


class TestRedundant:
    """A redundant pod that was told to end is replaced once its cause is known."""

    def test_its_events_are_asked_first(self) -> None:
        scene = Scene().pod(UNDERSTUDY, container=ended(0), phase="Succeeded").lease(SLOT, silent_s=5)
        assert [order.pod.name for order in of(scene.decide().rest, AskWhy)] == [UNDERSTUDY]
        assert of(scene.decide().rest, AssignSlot) == []
        (assign,) = of(scene.pod(UNDERSTUDY, killed=LIVENESS).decide().rest, AssignSlot)
        assert assign.loss.startswith(
            "pod digits-0-1 was killed by the liveness probe of container `trainer`: Liveness"
        )
        assert "which takes no steps" in assign.loss

    def test_it_is_replaced_all_the_same_when_they_say_nothing(self) -> None:
        scene = Scene().pod(UNDERSTUDY, container=ended(0), phase="Succeeded", killed=Killed()).lease(SLOT, silent_s=5)
        (assign,) = of(scene.decide().rest, AssignSlot)
        assert assign.loss == "the container of pod digits-0-1 ended: exit code 0"

    def test_no_promotion_waits_for_an_answer(self) -> None:
        scene = Scene().pod(PRIMARY, container=ended(82), phase="Failed").released(RANK, "HandedOver", 82)
        (promote,) = scene.decide().promotions
        assert isinstance(promote, Promote) and promote.target == UNDERSTUDY

    def test_a_job_that_has_completed_asks_nothing(self) -> None:
        scene = Scene().pod(PRIMARY, container=ended(0), phase="Succeeded").released(RANK, "Completed", 0)
        assert of(scene.decide().rest, AskWhy) == []
        two = Scene(ranks=2).pod(PRIMARY, container=ended(0), phase="Succeeded").released(RANK, "Completed", 0)
        assert of(two.decide().rest, AskWhy) == []


def events(*items: tuple[str, str, str, int]) -> bytes:
    return json.dumps(
        {
            "items": [
                {
                    "reason": reason,
                    "message": message,
                    "lastTimestamp": f"2026-01-01T12:00:{second:02d}Z",
                    "involvedObject": {"fieldPath": f"spec.containers{{{name}}}"},
                }
                for reason, message, name, second in items
            ]
        }
    ).encode()


FAILED = ("Unhealthy", "Liveness probe failed: too old", "trainer", 25)
STOPPING = "Stopping container trainer"


@pytest.mark.parametrize(
    ("body", "killed"),
    [
        (
            events(
                ("Started", "Started container trainer", "trainer", 0),
                ("Unhealthy", "Readiness probe failed: HTTP 503", "trainer", 1),
                ("Unhealthy", "Liveness probe failed: of the proxy", "proxy", 1),
                FAILED,
                ("Killing", "Container trainer failed liveness probe", "trainer", 25),
            ),
            Killed("liveness", "Liveness probe failed: too old"),
        ),
        (
            events(("Killing", "Container trainer failed startup probe, will be restarted", "trainer", 0)),
            Killed("startup", ""),
        ),
        (events(FAILED, ("Killing", STOPPING, "trainer", 25)), Killed("liveness", "Liveness probe failed: too old")),
        (
            events(
                ("Unhealthy", "Startup probe errored: timed out", "trainer", 20), ("Killing", STOPPING, "trainer", 21)
            ),
            Killed("startup", "Startup probe errored: timed out"),
        ),
        (events(FAILED, ("Killing", STOPPING, "trainer", 40)), Killed()),
        (
            events(("Unhealthy", "Readiness probe failed: 503", "trainer", 25), ("Killing", STOPPING, "trainer", 25)),
            Killed(),
        ),
        (events(FAILED, ("Killing", "Stopping container proxy", "proxy", 25)), Killed()),
        (events(("Killing", "Container proxy failed liveness probe", "proxy", 0)), Killed()),
        (events(("Killing", STOPPING, "trainer", 0)), Killed()),
        (
            events(FAILED, ("Killing", STOPPING, "trainer", 25), ("Evicted", VOLUME, "proxy", 24)),
            Killed("Evicted", VOLUME),
        ),
        (
            b'{"items": [{"reason": "Unhealthy", "message": "Liveness probe failed"}, {"reason": "Killing"}, {}]}',
            Killed(),
        ),
        (b"{}", Killed()),
    ],
    ids=[
        "liveness, beside a sidecar",
        "startup, beside a sidecar",
        "liveness, of the only container",
        "startup, of the only container",
        "one that had failed long before",
        "readiness, which kills nobody",
        "nobody was killed",
        "of a sidecar",
        "a deletion",
        "an eviction, whatever else",
        "without fields",
        "without items",
    ],
)
def test_the_kubelets_events_name_the_probe(body: bytes, killed: Killed) -> None:
    assert read_events(body) == killed


def test_status_and_conditions_of_a_pod_are_read() -> None:
    body = {
        "metadata": {"name": "p", "uid": "u", "resourceVersion": "1"},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": VOLUME,
            "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "m"}
            ],
        },
    }
    view = pod_view(
        msgspec.convert(body, PodObject), seen_since=0, running_since=0, deleting_since=None, killed=LIVENESS
    )
    assert (view.reason, view.message, view.disruption) == ("Evicted", VOLUME.strip(), ("TerminationByKubelet", "m"))
    assert view.killed is LIVENESS


def test_the_end_of_a_pod_is_no_cause_of_anothers_loss() -> None:
    scene = Scene().promoted(cause="Terminated", source="digits-0-9").pod(PRIMARY, **EVICTED)
    assert scene.written()["failovers"][0]["cause"] == "Terminated"


def test_the_end_that_the_operator_brings_to_a_sidecar_is_no_cause() -> None:
    scene = Scene().promoted(cause="ProcessExited", source=PRIMARY, message="the trainer ended: ValueError")
    late = {"phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active on the node longer"}
    scene.pod(PRIMARY, **late, container=ended(1), active_deadline_s=END_POD_S)
    assert scene.written()["failovers"][0]["cause"] == "ProcessExited"
