"""What is read off API objects."""

import msgspec
import pytest
from understudy_operator.objects import PodObject, pod_view


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
    body = {"metadata": {"name": "p", "uid": "u", "resourceVersion": "1", **metadata}}
    view = pod_view(msgspec.convert(body, PodObject), seen_since=0, running_since=0, deleting_since=None)
    assert view.deletion_time == asked_at
