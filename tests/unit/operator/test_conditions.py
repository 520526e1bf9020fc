"""Bad input and bad luck: each gets one sentence that says what is wrong and what to do."""

import pytest
from understudy_contract.events import EventReason, event_type
from understudy_contract.reports import Notice, Phase
from understudy_operator.core.model import Claim, Terminated, Waiting

from tests.unit.operator.builders import (
    LEASE_S,
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    a_problem,
    a_promotion,
    ago,
    ended,
)

INITIALIZING = Waiting("PodInitializing", "")
GATE = "queue.example/admission"
NO_NODE = "0/2 nodes are available: 2 Insufficient cpu."


def starting() -> Scene:
    """The primary has yet to report; there is no redundant pod to take its place."""
    return Scene(redundancy=0).beat(RANK, none=True)


BAD = {
    "an image that cannot be pulled": (
        starting().pod(PRIMARY, container=Waiting("ImagePullBackOff", 'Back-off pulling image "nope"')),
        "ImagePullBackOff",
        'Back-off pulling image "nope"; check the image\'s name',
    ),
    "a template that makes no container": (
        starting().pod(PRIMARY, container=Waiting("CreateContainerConfigError", 'secret "s" not found')),
        "CreateContainerConfigError",
        'secret "s" not found; correct the pod template',
    ),
    "an init container whose image cannot be pulled": (
        starting().pod(PRIMARY, container=INITIALIZING, waiting=(("fetch", Waiting("ErrImagePull", "no such tag")),)),
        "ErrImagePull",
        "Container fetch of pod digits-0-0 cannot start (ErrImagePull): no such tag; check the image's name",
    ),
    "a sidecar whose image cannot be pulled, beside a trainer that has yet to begin": (
        starting().pod(PRIMARY, waiting=(("logs", Waiting("ImagePullBackOff", "")),)),
        "ImagePullBackOff",
        "Container logs of pod digits-0-0 cannot start (ImagePullBackOff): no details",
    ),
    "a native sidecar that ends again and again": (
        starting().pod(
            PRIMARY, container=INITIALIZING, waiting=(("proxy", Waiting("CrashLoopBackOff", "back-off 20s")),)
        ),
        "CrashLoopBackOff",
        "Container proxy of pod digits-0-0 ends again and again (back-off 20s): see `kubectl logs digits-0-0 -c proxy",
    ),
    "an init container that does not end": (
        starting().pod(PRIMARY, container=INITIALIZING),
        "Starting",
        "Pod digits-0-0 of rank 0 is starting (its init containers have not ended)",
    ),
    "a pod that finds no node": (
        starting().pod(PRIMARY, node=None, container=None, scheduling=NO_NODE),
        "Unschedulable",
        "Insufficient cpu. Free resources, or lower the template's requests",
    ),
    "a pod that finds no node with its ports free": (
        starting().pod(PRIMARY, node=None, container=None, scheduling="2 node(s) didn't have free ports."),
        "Unschedulable",
        "free ports. Take the host ports out of the template, or add nodes",
    ),
    "a pod that no node suits": (
        starting().pod(PRIMARY, node=None, container=None, scheduling="2 node(s) didn't match Pod's node affinity."),
        "Unschedulable",
        "affinity. Compare the template's nodeSelector, affinity, tolerations and volumes with the nodes",
    ),
    "a pod that waits for its queue": (
        starting().pod(PRIMARY, node=None, container=None, gates=(GATE, "b")),
        "SchedulingGated",
        "Pod digits-0-0 is held back by scheduling gates (queue.example/admission, b): it is scheduled once whoever",
    ),
    "a pod that waits for its queue, with a claim that waits for the pod": (
        starting()
        .pod(PRIMARY, node=None, container=None, gates=(GATE,))
        .given(claim=Claim("digits-checkpoints", "Pending", ())),
        "SchedulingGated",
        GATE,
    ),
    "an image whose registry asks for a password": (
        starting().pod(PRIMARY, container=Waiting("ErrImagePull", "401")),
        "ErrImagePull",
        "secret in imagePullSecrets of ServiceAccount digits-worker in namespace default, then delete pod digits-0-0",
    ),
    "a claim that never binds": (
        starting()
        .pod(PRIMARY, node=None, container=None, scheduling="unbound immediate PersistentVolumeClaims")
        .given(claim=Claim("digits-checkpoints", "Pending", ())),
        "ClaimPending",
        "kubectl describe pvc digits-checkpoints",
    ),
    "a claim that one pod alone can mount": (
        Scene(access="ReadWriteOncePod"),
        "ClaimRefused",
        "ReadWriteOnce (all pods on one node) or ReadWriteMany",
    ),
    "a template that the API refuses": (
        starting().given(
            problems={
                ("Prepare", None): a_problem(
                    "InvalidTemplate", 'The pod template is refused: unknown field "spec.imagee"'
                )
            }
        ),
        "InvalidTemplate",
        "spec.imagee",
    ),
    "a pod after one that never reported": (
        starting().lease(RANK, promotion=a_promotion(term=1, cold=True, message="pod digits-0-9 never reported")),
        "Starting",
        "Pod digits-0-0 of rank 0 is starting in place of another: pod digits-0-9 never reported",
    ),
    "a script that fails again and again": (
        starting()
        .pod(PRIMARY, container=Waiting("ContainerCreating", ""))
        .lease(RANK, promotion=a_promotion(failures=3, message="the trainer of pod digits-0-0 ended: exit code 1")),
        "Failing",
        "has failed 3 times without a new checkpoint; last: the trainer of pod digits-0-0 ended: exit code 1. Correct",
    ),
    "a pod that its node refuses": (
        starting().pod(PRIMARY, container=None, phase="Failed", reason="OutOfcpu").lease(RANK, failures=5, silent_s=0),
        "Ended",
        "Pod digits-0-0 was refused by its node (OutOfcpu). A new pod is made",
    ),
    "a program that has failed for the first time, before its pause is over": (
        Scene(redundancy=0)
        .released(RANK, "ProcessExited", 1, "ValueError: boom")
        .lease(RANK, silent_s=0.2)
        .pod(PRIMARY, container=ended(1), phase="Failed"),
        "Ended",
        "Rank 0 has lost its primary: the trainer of pod digits-0-0 ended: ValueError: boom. A new pod is made, after",
    ),
    "a trainer that has ended, and a redundant pod that is late": (
        Scene().released(RANK, "ProcessExited", 1, "ValueError: boom").lease(SLOT, silent_s=LEASE_S / 2 + 0.1),
        "Ended",
        "ended: ValueError: boom. A redundant pod is to take over once it is heard.",
    ),
    "a pod that is gone, and a redundant pod that is late": (
        Scene().gone(PRIMARY).lease(SLOT, silent_s=LEASE_S / 2 + 0.1),
        "Ended",
        "pod digits-0-0 is gone, deleted without a hand-over. A redundant pod is to take over once it is heard.",
    ),
    "a pod that perhaps was never made": (
        Scene(redundancy=0).gone(PRIMARY).beat(RANK, none=True),
        "Starting",
        "Pod digits-0-0 of rank 0 is starting",
    ),
    "a primary that was deleted and saves": (
        Scene().pod(PRIMARY, deleting_since=ago(3)),
        "HandingOver",
        "Pod digits-0-0 was deleted: it saves, and hands over",
    ),
    "a primary that is cut off with all others": (
        Scene()
        .lease(RANK, silent_s=LEASE_S)
        .lease(SLOT, silent_s=LEASE_S)
        .given(silent_workers_by_node={"node-a": 1, "node-b": 1}),
        "Silent",
        "taken for cut off, not for dead",
    ),
    "a primary on the only node that could run it, which is lost": (
        Scene(redundancy=0, access="ReadWriteOnce").lease(RANK, silent_s=LEASE_S).given(nodes={"node-a": False}),
        "Silent",
        "Node node-a is not Ready, and its volume can be mounted on no other",
    ),
    "a primary that hangs with nobody to replace it": (
        Scene(redundancy=0).lease(RANK, silent_s=LEASE_S),
        "Silent",
        "delete it if it hangs",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_training_is_false_and_says_why(what: str) -> None:
    scene, reason, words = BAD[what]
    condition = scene.condition("Training")
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert words in condition["message"]


@pytest.mark.parametrize(
    ("what", "key", "reason"),
    [
        ("an image that cannot be pulled", "stuck digits-0-0 ImagePullBackOff", "PodPending"),
        ("an init container whose image cannot be pulled", "stuck digits-0-0 ErrImagePull", "PodPending"),
        ("a pod that finds no node", "stuck digits-0-0 Unschedulable", "PodPending"),
        ("a claim that never binds", "stuck digits-0-0 ClaimPending", "PodPending"),
        ("a pod that waits for its queue", "stuck digits-0-0 SchedulingGated", "PodGated"),
        ("a claim that one pod alone can mount", "claim refused", "ClaimRefused"),
    ],
)
def test_an_event_says_it_too(what: str, key: str, reason: str) -> None:
    event = BAD[what][0].events()[key]
    assert event.reason == reason
    assert event.message == BAD[what][0].condition("Training")["message"]


def test_what_pods_have_otherwise_than_the_template_says_is_told_once() -> None:
    trainer = {"name": "trainer", "command": ["true"], "readinessProbe": {"exec": {"command": ["true"]}}}
    scene = Scene().asked(template={"spec": {"containers": [trainer]}})
    (event,) = scene.events().values()
    assert (event.reason, event_type(event.reason)) == ("TemplateChanged", "Normal")
    assert "docs/reference/template.md: the readinessProbe of container trainer is Understudy's" in event.message


def test_a_sidecar_that_cannot_start_is_told_and_stops_no_training() -> None:
    scene = Scene().pod(PRIMARY, waiting=(("logs", Waiting("ErrImagePull", "no such tag")),))
    assert scene.condition("Training")["status"] == "True"
    assert "Container logs of pod digits-0-0" in scene.events()["stuck digits-0-0 ErrImagePull"].message


def test_a_redundant_pod_that_is_warm_is_not_named_for_the_one_that_is_not() -> None:
    scene = Scene(redundancy=2).pod(UNDERSTUDY, waiting=(("logs", Waiting("ErrImagePull", "")),))
    scene.beat("digits-0-s1", none=True).pod("digits-0-2", node=None, container=None, scheduling=NO_NODE)
    assert scene.condition("Redundant")["reason"] == "Unschedulable"


def test_a_redundant_pod_that_a_quota_refuses_does_not_stop_the_training() -> None:
    scene = (
        Scene()
        .gone(UNDERSTUDY)
        .given(problems={("CreatePod", 0): a_problem("Refused", "Pod digits-0-1 is refused: exceeded quota")})
    )
    assert scene.condition("Training")["status"] == "True"
    assert scene.condition("Redundant")["message"] == "Pod digits-0-1 is refused: exceeded quota"


DENIED = Notice("VolumeTrouble", "term 1 cannot begin yet, retrying: Permission denied at /v: uid 10001, owner 0")


def test_a_primary_that_waits_for_the_volume_says_so_at_once() -> None:
    scene = Scene().beat(RANK, phase=Phase.STARTING, checkpoint=None).lease(RANK, notice=DENIED)
    condition = scene.condition("Training")
    assert (condition["status"], condition["reason"]) == ("False", "VolumeTrouble")
    assert condition["message"] == f"Pod {PRIMARY} of rank 0 waits for its volume: {DENIED.message}"


def test_a_primary_that_trains_is_not_held_up_by_what_it_said_before() -> None:
    assert Scene().lease(RANK, notice=DENIED).condition("Training")["status"] == "True"


def test_a_redundant_pod_that_may_not_read_the_volume_says_so() -> None:
    scene = Scene().beat(SLOT, phase=Phase.STARTING, loaded=None).lease(SLOT, notice=DENIED)
    condition = scene.condition("Redundant")
    assert (condition["reason"], UNDERSTUDY in condition["message"]) == ("VolumeTrouble", True)
    assert scene.condition("Training")["status"] == "True"
    assert Scene().lease(SLOT, notice=DENIED).condition("Redundant")["status"] == "True"


def test_an_image_without_the_agent_is_named_and_backed_off_from() -> None:
    message = 'exec: "understudy-agent": executable file not found in $PATH'
    start_error = Terminated(128, "StartError", f"failed to create containerd task: {message}", "")
    scene = starting().pod(PRIMARY, container=start_error, phase="Failed").lease(RANK, silent_s=1)
    (promote,) = scene.decide().promotions
    assert promote.failures == 1
    assert promote.promotion is not None
    assert "its image has no understudy-agent: build it FROM understudy-worker" in promote.promotion.message
    assert scene.lease(RANK, failures=1).decide().promotions == ()


def test_a_workers_notice_becomes_an_event() -> None:
    scene = Scene().lease(RANK, notice=Notice(EventReason.CHECKPOINT_FAILED, "no space left on the volume"))
    (event,) = scene.events().values()
    assert (event.reason, event.message) == ("CheckpointFailed", "digits-0-0: no space left on the volume")


@pytest.mark.parametrize("reason", ["WhatOnlyALaterWorkerKnows", EventReason.COMPLETED, EventReason.FAILED])
def test_a_reason_that_is_not_a_workers_to_give_is_told_as_a_notice(reason: str) -> None:
    (event,) = Scene().lease(RANK, notice=Notice(reason, "believe me")).events().values()
    assert (event.reason, event.message) == (EventReason.WORKER_NOTICE, f"digits-0-0: {reason}: believe me")


@pytest.mark.parametrize(
    ("scene", "status", "reason"),
    [
        (Scene(), "True", "OtherNodes"),
        (Scene().pod(UNDERSTUDY, node="node-a"), "False", "SameNode"),
        (Scene().pod(UNDERSTUDY, container=ended()), "False", "SameNode"),
        (Scene().lease(SLOT, silent_s=LEASE_S), "False", "SameNode"),
        (Scene(access="ReadWriteOnce"), "False", "ReadWriteOnce"),
        (Scene().given(claim=None), "False", "ClaimPending"),
    ],
)
def test_node_fault_tolerant(scene: Scene, status: str, reason: str) -> None:
    condition = scene.condition("NodeFaultTolerant")
    assert (condition["status"], condition["reason"]) == (status, reason)


def test_who_shares_the_primarys_node_is_named_and_can_be_moved() -> None:
    assert "delete" not in Scene().gone(PRIMARY).condition("NodeFaultTolerant")["message"]
    told = Scene().pod(UNDERSTUDY, node="node-a").condition("NodeFaultTolerant")["message"]
    assert f"once another node has room, delete {UNDERSTUDY}, and its successor may go there" in told


@pytest.mark.parametrize(
    ("scene", "status", "reason"),
    [
        (Scene(), "True", "Ready"),
        (Scene(redundancy=0), "False", "NotRequested"),
        (Scene().gone(UNDERSTUDY), "False", "Starting"),
        (Scene().lease(SLOT, silent_s=LEASE_S), "False", "Silent"),
        (Scene().beat(SLOT, none=True).lease(SLOT, failures=2), "False", "Failing"),
        (
            Scene().beat(SLOT, none=True).pod(UNDERSTUDY, node=None, container=None, scheduling=NO_NODE),
            "False",
            "Unschedulable",
        ),
    ],
)
def test_redundant(scene: Scene, status: str, reason: str) -> None:
    condition = scene.condition("Redundant")
    assert (condition["status"], condition["reason"]) == (status, reason)
