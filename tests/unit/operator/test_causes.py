"""When a primary is lost, from which cause, and when it is not."""

from collections.abc import Callable

import pytest
from understudy_contract.reports import Phase
from understudy_operator.core.actions import Promote
from understudy_operator.core.model import Running, Waiting

from tests.unit.operator.builders import (
    HAND_OVER_S,
    LEASE_S,
    NOW,
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    ago,
    ended,
    init_failed,
)

Bend = Callable[[Scene], Scene]

LOST: dict[str, tuple[Bend, str, str]] = {
    "a deleted primary that handed over is succeeded": (
        lambda s: s.pod(PRIMARY, deleting_since=ago(1)).released(RANK, "HandedOver", 82),
        "PodDeleted",
        "pod digits-0-0 was deleted and handed over after step 120",
    ),
    "one that handed over is not waited for to the deadline, nor to its end": (
        lambda s: s.gone(PRIMARY).released(RANK, "HandedOver", 82),
        "PodDeleted",
        "handed over after step 120",
    ),
    "a deleted primary that hangs is waited for until the hand-over's deadline only": (
        lambda s: s.pod(PRIMARY, deleting_since=ago(HAND_OVER_S)),
        "PodDeleted",
        "took longer than handOverSeconds",
    ),
    "a deleted primary that has nothing to hand over yet is not waited for": (
        lambda s: s.pod(PRIMARY, deleting_since=ago(0)).beat(RANK, phase=Phase.STARTING),
        "PodDeleted",
        "had not begun to train",
    ),
    "a deleted primary that never reported is not waited for": (
        lambda s: s.pod(PRIMARY, deleting_since=ago(0)).beat(RANK, none=True),
        "PodDeleted",
        "had not begun to train",
    ),
    "a deleted primary that falls silent before it handed over is not waited for": (
        lambda s: s.pod(PRIMARY, deleting_since=ago(LEASE_S + 1)).lease(RANK, silent_s=LEASE_S),
        "PodDeleted",
        "has not renewed its Lease for 9 s since",
    ),
    "a pod deleted by force is succeeded at once": (lambda s: s.gone(PRIMARY), "PodDeleted", "without a hand-over"),
    "a trainer that died is told by its agent": (
        lambda s: s.released(RANK, "ProcessExited", 137),
        "ProcessExited",
        "the trainer of pod digits-0-0 ended: signal 9 (SIGKILL)",
    ),
    "an agent's own words are preferred to the code": (
        lambda s: s.released(RANK, "ProcessExited", 1, "ValueError: step 7"),
        "ProcessExited",
        "ValueError: step 7",
    ),
    "a trainer that hung is named so, for its agent has killed it": (
        lambda s: s.released(RANK, "Stalled", 137, "no progress for 60 s (progressDeadlineSeconds) after step 120"),
        "Stalled",
        "no progress for 60 s",
    ),
    "a reason that only a later worker knows is at least an end": (
        lambda s: s.released(RANK, "Abducted", 1, "gone"),
        "ProcessExited",
        "gone",
    ),
    "a script that is not integrated is named so": (
        lambda s: s.released(RANK, "NotIntegrated", 83, "imports nothing of understudy"),
        "NotIntegrated",
        "imports nothing",
    ),
    "a trainer that dies of its pod's deletion was deleted": (
        lambda s: s.pod(PRIMARY, deleting_since=ago(1)).released(RANK, "ProcessExited", 143),
        "PodDeleted",
        "was deleted: signal 15 (SIGTERM)",
    ),
    "a container that ended with its agent is lost": (
        lambda s: s.pod(PRIMARY, container=ended(137, message="step 119\nstep 120"), phase="Failed"),
        "ContainerExited",
        "signal 9 (SIGKILL); last words: step 119 / step 120",
    ),
    "memory exhausted is named": (
        lambda s: s.pod(PRIMARY, container=ended(137, reason="OOMKilled"), phase="Failed"),
        "OOMKilled",
        "pod digits-0-0 ran out of memory (OOMKilled); raise resources.limits.memory of container `trainer`",
    ),
    "exit 0 without a Completed release is a failure": (
        lambda s: s.pod(PRIMARY, container=ended(0), phase="Succeeded"),
        "ContainerExited",
        "exit code 0",
    ),
    "a sidecar that runs on does not hide an ended trainer": (
        lambda s: s.pod(PRIMARY, container=ended(1), phase="Running"),
        "ContainerExited",
        "exit code 1",
    ),
    "an init container that failed is lost, by its name": (
        lambda s: s.pod(PRIMARY, **init_failed(3, message="GET data\nno such bucket")),
        "ContainerExited",
        "init container fetch of pod digits-0-0 ended: exit code 3; last words: GET data / no such bucket",
    ),
    "an init container may end with any code of its own": (
        lambda s: s.pod(PRIMARY, **init_failed(81)),
        "ContainerExited",
        "init container fetch of pod digits-0-0 ended: exit code 81",
    ),
    "a trainer's own end comes before an init container's": (
        lambda s: s.pod(PRIMARY, **{**init_failed(137), "container": ended(1)}),
        "ContainerExited",
        "the container of pod digits-0-0 ended: exit code 1",
    ),
    "an eviction during the init containers is an eviction": (
        lambda s: s.pod(PRIMARY, **init_failed(137), reason="Evicted", message="The node was low on resource: memory."),
        "Evicted",
        "pod digits-0-0 was evicted by its node: The node was low on resource: memory; request what",
    ),
    "so is a deletion": (
        lambda s: s.pod(PRIMARY, **init_failed(143), deleting_since=ago(1)),
        "PodDeleted",
        "was deleted: signal 15 (SIGTERM)",
    ),
    "an init container's want of memory is named as well": (
        lambda s: s.pod(PRIMARY, **init_failed(137, reason="OOMKilled")),
        "OOMKilled",
        "init container fetch of pod digits-0-0 ended: signal 9 (SIGKILL) (OOMKilled): raise its memory limit",
    ),
    "an eviction is one whatever the exit code": (
        lambda s: s.pod(PRIMARY, container=ended(137), phase="Failed", reason="Evicted"),
        "Evicted",
        "pod digits-0-0 was evicted by its node",
    ),
    "a trainer that its agent knows to have died for want of memory": (
        lambda s: s.released(RANK, "OOMKilled", 137, "signal 9 (SIGKILL): out of memory (OOMKilled)"),
        "OOMKilled",
        "the trainer of pod digits-0-0 ended: signal 9 (SIGKILL): out of memory (OOMKilled)",
    ),
    "a hand-over that nobody is known to have asked for": (
        lambda s: s.released(RANK, "HandedOver", 82),
        "Terminated",
        "pod digits-0-0 was told to end and handed over after step 120",
    ),
    "a preempted primary that handed over": (
        lambda s: s.pod(
            PRIMARY, deleting_since=ago(1), disruption=("PreemptionByScheduler", "preempting, for pod-7")
        ).released(RANK, "HandedOver", 82),
        "Preempted",
        "was preempted by a pod of a higher priority and handed over after step 120: preempting, for pod-7; give the",
    ),
    "a drained primary that takes too long": (
        lambda s: s.pod(
            PRIMARY, deleting_since=ago(HAND_OVER_S), disruption=("EvictionByEvictionAPI", "Eviction API: evicting")
        ),
        "EvictedByAPI",
        "was evicted through the API, as by `kubectl drain` and took longer than handOverSeconds to hand over",
    ),
    "a primary silent for a whole lease is lost when a redundant pod is fresh": (
        lambda s: s.lease(RANK, silent_s=LEASE_S),
        "LeaseExpired",
        "pod digits-0-0 on node node-a did not renew its Lease for 9 s",
    ),
    "a silent primary is lost without a redundant pod when its node is not Ready": (
        lambda s: s.lease(RANK, silent_s=LEASE_S).lease(SLOT, silent_s=LEASE_S).given(nodes={"node-a": False}),
        "LeaseExpired",
        "did not renew",
    ),
    "a silent primary is lost without a redundant pod when its container does not run": (
        lambda s: s.lease(RANK, silent_s=LEASE_S).gone(UNDERSTUDY).pod(PRIMARY, container=Waiting("", "")),
        "LeaseExpired",
        "did not renew",
    ),
    "a warm successor that does not acknowledge within a renewal interval gives way to another": (
        lambda s: s.promoted().lease(RANK, silent_s=LEASE_S / 3),
        "LeaseExpired",
        "pod digits-0-1 on node node-b never reported",
    ),
    "a container that ran for two minutes without a word from its agent is lost": (
        lambda s: s.beat(RANK, none=True).lease(RANK, silent_s=120).pod(PRIMARY, container=Running(ago(120))),
        "LeaseExpired",
        "never reported: see in the log of the one after it",
    ),
    "a cold start that finds no node gives way to a redundant pod that is ready": (
        lambda s: s.beat(RANK, none=True).pod(PRIMARY, container=None, node=None, phase="Pending"),
        "LeaseExpired",
        "has not started, and a redundant pod is ready",
    ),
    "a cold start that cannot be created gives way as well": (
        lambda s: s.beat(RANK, none=True).gone(PRIMARY).given(pending_pods=frozenset({PRIMARY})),
        "LeaseExpired",
        "was not created yet, and a redundant pod is ready",
    ),
}


@pytest.mark.parametrize("sentence", LOST)
def test_lost(sentence: str) -> None:
    bend, cause, words = LOST[sentence]
    redundancy = 2 if "acknowledge" in sentence else 1
    (promote,) = bend(Scene(redundancy=redundancy)).decide().promotions
    assert promote.promotion is not None
    assert promote.promotion.cause == cause
    assert words in promote.promotion.message


SILENT = {"silent_s": LEASE_S * 3.0}
KEPT: dict[str, tuple[Bend, float | None]] = {
    "a primary in good order is looked at when its lease would be over": (lambda s: s, ago(1) + LEASE_S),
    "a deleted primary is given time to hand over": (
        lambda s: s.pod(PRIMARY, deleting_since=ago(3)),
        ago(1) + LEASE_S,
    ),
    "a release of an older term is history": (lambda s: s.released(RANK, "ProcessExited", 1, term=0), None),
    "a release of another term than the present is not believed": (
        lambda s: s.released(RANK, "Completed", 0, term=2),
        None,
    ),
    "silence shorter than a lease is nothing": (lambda s: s.lease(RANK, silent_s=LEASE_S - 0.1), NOW.at + 0.1),
    "silence with no fresh redundant pod condemns nobody whose node is Ready": (
        lambda s: s.lease(RANK, **SILENT).lease(SLOT, silent_s=LEASE_S / 2),
        None,
    ),
    "nor does it with none that is ready": (lambda s: s.lease(RANK, **SILENT).beat(SLOT, phase=Phase.STARTING), None),
    "nor with one that is being deleted": (lambda s: s.lease(RANK, **SILENT).pod(UNDERSTUDY, deleting_since=1.0), None),
    "silence over a broken watch is nothing": (lambda s: s.lease(RANK, silent_s=-float("inf")), None),
    "a pod still to be created is not missed": (
        lambda s: (
            s.beat(RANK, none=True).gone(PRIMARY, UNDERSTUDY).given(pending_pods=frozenset({PRIMARY, UNDERSTUDY}))
        ),
        None,
    ),
    "nor is one that has reported before anybody saw it": (
        lambda s: s.gone(PRIMARY, UNDERSTUDY).given(pending_pods=frozenset({PRIMARY, UNDERSTUDY})),
        None,
    ),
    "a cold start that finds no node is waited for while nothing better is there": (
        lambda s: (
            s.beat(RANK, none=True)
            .pod(PRIMARY, container=None, node=None)
            .beat(SLOT, phase=Phase.STARTING)
            .lease(RANK, silent_s=9999)
        ),
        None,
    ),
    "a cold start that is pulling its image is waited for": (
        lambda s: (
            s.beat(RANK, none=True)
            .pod(PRIMARY, container=Waiting("ContainerCreating", ""))
            .gone(UNDERSTUDY, SLOT)
            .lease(RANK, silent_s=9999)
        ),
        None,
    ),
    "a warm successor is given a whole lease when there is no other": (
        lambda s: s.promoted().lease(RANK, silent_s=LEASE_S / 3).lease(SLOT, holder=""),
        None,
    ),
}


@pytest.mark.parametrize("sentence", KEPT)
def test_not_lost(sentence: str) -> None:
    bend, wake_at = KEPT[sentence]
    decision = bend(Scene()).settled().decide()
    assert decision.promotions == ()
    assert NOW.at < decision.wake_at <= NOW.at + LEASE_S
    if wake_at is not None:
        assert decision.wake_at == pytest.approx(wake_at)


@pytest.mark.parametrize(
    ("bend", "exact"),
    [
        (lambda s: s.released(RANK, "HandedOver", 82), True),
        (lambda s: s.released(RANK, "ProcessExited", 1), True),
        (lambda s: s.gone(PRIMARY), False),
        (lambda s: s.lease(RANK, silent_s=LEASE_S), False),
        (lambda s: s.pod(PRIMARY, container=ended(137)), False),
    ],
)
def test_the_last_known_step_is_exact_only_if_the_agent_outlived_the_trainer(bend: Bend, exact: bool) -> None:
    (promote,) = bend(Scene()).decide().promotions
    assert promote.promotion is not None
    assert (promote.promotion.known_step, promote.promotion.known_step_exact) == (120, exact)


def test_only_a_silent_primary_makes_its_node_suspect() -> None:
    silent, deleted = Scene().lease(RANK, silent_s=LEASE_S), Scene().gone(PRIMARY)
    assert [_suspect(silent), _suspect(deleted)] == ["node-a", None]


def _suspect(scene: Scene) -> str | None:
    (promote,) = scene.decide().promotions
    assert isinstance(promote, Promote)
    return promote.suspect_node
