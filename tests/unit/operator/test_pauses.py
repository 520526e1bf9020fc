"""How long a rank waits for its next pod when pods are ended again and again."""

from typing import Any

import pytest
from understudy_contract.reports import Phase
from understudy_operator.core.actions import AssignSlot
from understudy_operator.core.budget import LONG_LIFE_S
from understudy_operator.core.model import Killed

from tests.unit.operator.builders import (
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    ago,
    ended,
    init_failed,
    of,
)

SHORT: dict[str, Any] = {"seen_since": ago(40), "phase": "Failed"}
EVICTED: dict[str, Any] = {
    **SHORT,
    "container": ended(0),
    "reason": "Evicted",
    "message": "The node was low on resource",
}
PROBED: dict[str, Any] = {**SHORT, "container": ended(0), "killed": Killed("liveness", "Liveness probe failed")}


def lost(losses: int, *, silent_s: float = 0.0, **pod: Any) -> Scene:
    """A redundant pod that was ready and has ended, after so many in a row before it."""
    return Scene().lease(SLOT, failures=losses, silent_s=silent_s).pod(UNDERSTUDY, **pod)


def assigned(scene: Scene) -> AssignSlot | None:
    found = of(scene.decide().rest, AssignSlot)
    return found[0] if found else None


@pytest.mark.parametrize("pod", [EVICTED, PROBED, {**SHORT, "container": ended(1)}], ids=["evicted", "probe", "crash"])
@pytest.mark.parametrize(("losses", "pause_s"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (40, 60)])
def test_pauses_grow_whatever_ends_a_redundant_pod_although_it_was_ready(
    pod: dict[str, Any], losses: int, pause_s: int
) -> None:
    assert assigned(lost(losses, silent_s=pause_s - 0.1, **pod)) is None
    order = assigned(lost(losses, silent_s=pause_s, **pod))
    assert order is not None and order.failures == losses + 1


def test_a_pod_that_lived_long_ends_the_count() -> None:
    short = {**PROBED, "seen_since": ago(LONG_LIFE_S - 1), "ending_since": ago(0)}
    long = {**PROBED, "seen_since": ago(LONG_LIFE_S), "ending_since": ago(0)}
    assert assigned(lost(6, silent_s=59, **short)) is None
    order = assigned(lost(6, silent_s=1, **long))
    assert order is not None and order.failures == 1


def test_a_life_ends_with_the_pod_and_not_with_the_pause_after_it() -> None:
    pod = {**PROBED, "seen_since": ago(LONG_LIFE_S + 30), "ending_since": ago(50)}
    assert assigned(lost(6, silent_s=50, **pod)) is None


def test_a_pod_that_was_never_ready_has_not_lived_long() -> None:
    pod = {**PROBED, "seen_since": ago(10 * LONG_LIFE_S)}
    assert assigned(lost(6, silent_s=59, **pod).beat(SLOT, phase=Phase.STARTING)) is None


@pytest.mark.parametrize(
    "pod",
    [
        {"seen_since": ago(40), "deleting_since": ago(0)},
        {"seen_since": ago(40), "deleting_since": ago(0), "disruption": ("EvictionByEvictionAPI", "evicting")},
        {"seen_since": ago(40), "deleting_since": ago(0), "disruption": ("DeletionByTaintManager", "tainted")},
    ],
    ids=["deleted", "drained", "tainted"],
)
def test_what_a_person_takes_away_is_replaced_at_once_for_a_few_times(pod: dict[str, Any]) -> None:
    for losses in range(3):
        order = assigned(lost(losses, **pod))
        assert order is not None and order.failures == losses + 1
    assert assigned(lost(3, silent_s=0.9, **pod)) is None
    assert assigned(lost(3, silent_s=1, **pod)) is not None
    assert assigned(lost(9, silent_s=59, **pod)) is None, "the pause has its cap, and is reached"


def test_a_slot_whose_pod_was_promoted_is_filled_at_once() -> None:
    assert assigned(Scene().promoted().lease(SLOT, failures=3, silent_s=0)) is not None


def test_an_init_container_that_fails_is_paused_for_as_before() -> None:
    assert assigned(lost(2, silent_s=3.9, **init_failed(3)).beat(SLOT, none=True)) is None


def failover(cause: str, ago_s: int, term: int) -> dict[str, Any]:
    stamp = f"2026-01-01T11:{59 - ago_s // 60:02d}:{59 - ago_s % 60:02d}.000000Z"
    return {"rank": 0, "term": term, "cause": cause, "promotedAt": stamp, "from": "p", "to": "q", "message": ""}


def evicted(*causes: str, every_s: int = 20) -> Scene:
    """A primary that has handed over, after failovers of these causes."""
    entries = [failover(cause, every_s * (len(causes) - n), n) for n, cause in enumerate(causes)]
    return Scene(redundancy=0).status({"failovers": entries}).released(RANK, "HandedOver", 82)


class TestPrimaries:
    """A primary that is evicted saves first, so progress does not show that all is well."""

    @pytest.mark.parametrize(("times", "pause_s"), [(0, 0), (1, 1), (2, 2), (3, 4), (12, 60)])
    def test_cold_starts_come_with_growing_pauses(self, times: int, pause_s: int) -> None:
        scene = evicted(*["Evicted"] * times).beat(RANK, step=130)
        if pause_s:
            assert scene.lease(RANK, silent_s=pause_s - 0.1).decide().promotions == ()
        assert len(scene.lease(RANK, silent_s=pause_s).decide().promotions) == 1

    @pytest.mark.parametrize(
        "scene",
        [
            evicted("Evicted", "Evicted", "PodDeleted"),
            evicted("ProcessExited", "ProcessExited"),
            evicted("Terminated", "Terminated"),
            evicted("Evicted", "Evicted", every_s=int(LONG_LIFE_S)),
        ],
        ids=["another end since", "crashes, which have a count of their own", "reasons that nobody gave", "long ago"],
    )
    def test_none_follow_from(self, scene: Scene) -> None:
        assert len(scene.lease(RANK, silent_s=0).decide().promotions) == 1

    def test_so_do_redundant_pods(self) -> None:
        entries = [failover("Evicted", 40, 2), failover("Evicted", 20, 3)]
        scene = Scene().status({"failovers": entries}).promoted().lease(SLOT, silent_s=1.9)
        assert assigned(scene) is None
        assert assigned(scene.lease(SLOT, silent_s=2)) is not None

    @pytest.mark.parametrize(("last", "pause_s"), [("Terminated", 4), ("PodDeleted", 0)])
    def test_one_whose_reason_is_not_known_yet_counts_with_those_before(self, last: str, pause_s: int) -> None:
        entries = [failover(cause, ago_s, 2) for cause, ago_s in (("Evicted", 40), ("Evicted", 20), (last, 0))]
        scene = Scene().status({"failovers": entries}).promoted()
        assert assigned(scene.lease(SLOT, silent_s=pause_s)) is not None
        if pause_s:
            assert assigned(scene.lease(SLOT, silent_s=pause_s - 0.1)) is None

    def test_an_entry_without_a_time_ends_the_count(self) -> None:
        entry = {"rank": 0, "term": 2, "cause": "Evicted", "promotedAt": ""}
        assert len(evicted().status({"failovers": [entry]}).lease(RANK, silent_s=0).decide().promotions) == 1


def test_the_condition_says_how_often_and_of_what() -> None:
    said = lost(2, silent_s=1, **PROBED).condition("Redundant")
    assert said["reason"] == "Failing"
    assert said["message"].startswith(
        "Redundant slot 0 of rank 0 has lost 2 pods in a row; now pod digits-0-1 was killed by the liveness probe"
    )
