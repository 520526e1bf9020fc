"""What is read off API objects."""

import msgspec
import pytest
from understudy_operator.core.model import Pod, Terminated, Waiting
from understudy_operator.objects import PodObject, pod_view


def viewed(metadata: dict[str, object] | None = None, **body: object) -> Pod:
    meta = {"name": "p", "uid": "u", "resourceVersion": "1", **(metadata or {})}
    pod = msgspec.convert({"metadata": meta, **body}, PodObject)
    return pod_view(pod, seen_since=0, running_since=0, deleting_since=None)


@pytest.mark.parametrize(
    ("metadata", "asked_at"),
    [
        ({}, ""),
        (
            {"deletionTimestamp": "2026-11-22T10:00:30Z", "deletionGracePeriodSeconds": 30},
            "2026-11-22T10:00:00.000000Z",
        ),
        (
            {"deletionTimestamp": "2026-11-22T10:00:30Z", "deletionGracePeriodSeconds": 0},
            "2026-11-22T10:00:30.000000Z",
        ),
    ],
    ids=["not deleted", "with a grace period", "without one"],
)
def test_a_deletion_counts_from_when_it_was_asked_for(metadata: dict[str, object], asked_at: str) -> None:
    assert viewed(metadata).deletion_time == asked_at


def test_containers_that_wait_are_known_by_name_whichever_their_kind() -> None:
    def waits(name: str, reason: str) -> dict[str, object]:
        return {"name": name, "state": {"waiting": {"reason": reason, "message": f"about {name}"}}}

    status = {
        "initContainerStatuses": [
            {"name": "done", "state": {"terminated": {"exitCode": 0}}},
            waits("fetch", "ErrImagePull"),
        ],
        "containerStatuses": [waits("trainer", "PodInitializing"), waits("logs", "ImagePullBackOff")],
    }
    view = viewed(status=status)
    assert view.container == Waiting("PodInitializing", "about trainer")
    assert view.waiting == (
        ("fetch", Waiting("ErrImagePull", "about fetch")),
        ("logs", Waiting("ImagePullBackOff", "about logs")),
    )


def test_gates_are_known_by_name() -> None:
    assert viewed().gates == ()
    assert viewed(spec={"schedulingGates": [{"name": "a/b"}, {"name": "c"}]}).gates == ("a/b", "c")


@pytest.mark.parametrize(
    ("reason", "scheduling"), [("SchedulingGated", ""), ("Unschedulable", "0/2 nodes are available")]
)
def test_a_pod_whose_gates_are_off_is_not_taken_for_one_without_a_node(reason: str, scheduling: str) -> None:
    """Until the scheduler has looked at it, its condition speaks of the gates that it had."""
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/2 nodes are available"}
    assert viewed(status={"conditions": [unscheduled]}).scheduling == scheduling


@pytest.mark.parametrize(
    ("codes", "failed"),
    [
        ({"proxy": 143, "fetch": 3}, ("fetch", Terminated(3, "Error", "no such bucket", "2026-11-22T10:00:00Z"))),
        ({"proxy": 143, "fetch": 0}, None),
        ({"proxy": 143}, None),
        ({}, None),
    ],
    ids=["one that failed", "one that did its work", "a sidecar alone", "none"],
)
def test_an_init_container_fails_by_its_exit_code_and_a_sidecar_never(
    codes: dict[str, int], failed: tuple[str, Terminated] | None
) -> None:
    end = {"reason": "Error", "message": "no such bucket", "finishedAt": "2026-11-22T10:00:00Z"}
    view = viewed(
        spec={"initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "fetch"}]},
        status={
            "initContainerStatuses": [
                {"name": name, "state": {"terminated": {**end, "exitCode": code}}} for name, code in codes.items()
            ]
        },
    )
    assert view.failed_init == failed


@pytest.mark.parametrize(
    ("text", "term"), [("2", 2), ("", None), ("²", None), ("٣", None), ("9" * 5000, None)], ids=range(5)
)
def test_a_term_that_was_garbled_is_none(text: str, term: int | None) -> None:
    assert viewed({"annotations": {"understudy.dev/term": text}}).term == term
