"""A switchover that somebody asked for: once, and only when somebody can take over."""

from dataclasses import replace

from understudy_contract.exits import ReleaseReason
from understudy_contract.names import Annotation, Term
from understudy_contract.reports import Cause, Phase
from understudy_operator.core.actions import ClearSwitchover, DeletePod

from tests.unit.operator.builders import LEASE_S, PRIMARY, RANK, SLOT, UNDERSTUDY, Scene, ago, of, patches


def asked(rank: str, scene: Scene | None = None) -> Scene:
    """The job carries the annotation."""
    scene = scene or Scene()
    scene.job = replace(scene.job, switchover=rank)
    return scene


def taken(scene: Scene | None = None) -> Scene:
    """The rank's Lease carries the request, for its first term."""
    return (scene or Scene()).lease(RANK, switchover=Term(1))


def todo(scene: Scene) -> tuple[int, int, list[str]]:
    """Count the requests taken and cleared, and name the pods deleted."""
    rest = scene.decide().rest
    return (
        len(patches(rest, Annotation.SWITCHOVER)),
        len(of(rest, ClearSwitchover)),
        [d.pod.name for d in of(rest, DeletePod)],
    )


def test_the_request_is_put_on_the_lease_then_taken_off_the_job_then_the_pod_is_deleted() -> None:
    assert todo(asked("0")) == (1, 0, [])
    assert todo(asked("0", taken())) == (0, 1, [])
    assert todo(taken()) == (0, 0, [PRIMARY])
    assert todo(taken().pod(PRIMARY, deleting_since=ago(1))) == (0, 0, [])


def test_the_hand_over_is_told_as_a_switchover() -> None:
    scene = taken().pod(PRIMARY, deleting_since=ago(1)).released(RANK, ReleaseReason.HANDED_OVER)
    (promote,) = scene.decide().promotions
    assert promote.target == UNDERSTUDY and promote.promotion is not None
    assert promote.promotion.cause == Cause.SWITCHOVER
    assert promote.promotion.message == "pod digits-0-0 was asked to switch over and handed over after step 120"


def test_a_request_of_an_older_term_has_been_served() -> None:
    scene = taken().promoted().beat(RANK, pod=UNDERSTUDY, term=2)
    scene.lease(SLOT, holder="digits-0-2").beat(SLOT, pod="digits-0-2").pod("digits-0-2", node="node-c")
    assert todo(scene) == (0, 0, [])


def not_able() -> list[Scene]:
    """Jobs in which nobody could take over just now."""
    return [
        Scene().beat(SLOT, phase=Phase.STARTING, loaded=None),
        Scene().lease(SLOT, silent_s=LEASE_S / 2),
        Scene().beat(RANK, phase=Phase.STARTING),
    ]


def test_nothing_begins_and_nothing_is_deleted_before_somebody_can_take_over() -> None:
    for scene in not_able():
        assert todo(asked("0", scene)) == (0, 0, [])
        assert scene.events()["switchover 0 1"].reason == "SwitchoverWaits"
    for scene in not_able():
        assert todo(taken(scene)) == (0, 0, [])


def test_what_can_never_be_served_is_refused_and_removed() -> None:
    nobody = asked("0", Scene(redundancy=0))
    over = asked("0", Scene(ranks=2).released(RANK, ReleaseReason.COMPLETED))
    for scene, why in ((nobody, "spec.redundancy is 0"), (over, "its training is over")):
        assert todo(scene)[:2] == (0, 1)
        (event,) = [e for e in scene.events().values() if e.reason == "SwitchoverRefused"]
        assert why in event.message


def test_a_hand_over_that_is_late_is_told_as_a_switchover_too() -> None:
    late = taken().pod(PRIMARY, deleting_since=ago(21))
    (promote,) = late.decide().promotions
    assert promote.promotion is not None and promote.promotion.cause == Cause.SWITCHOVER


def test_a_request_that_is_made_again_is_refused_again() -> None:
    keys = []
    for version in ("7", "7", "9"):
        scene = asked("all")
        scene.job = replace(scene.job, resource_version=version)
        keys += list(scene.events())
    assert keys[0] == keys[1] != keys[2]


def test_another_rank_is_left_alone() -> None:
    scene = asked("1", Scene(ranks=2))
    (take,) = patches(scene.decide().rest, Annotation.SWITCHOVER)
    assert take.rank == 1


def test_a_request_that_names_no_rank_is_refused_and_removed() -> None:
    for wrong in ("1", "all", "", "-1", "00"):
        scene = asked(wrong)
        assert todo(scene) == (0, 1, [])
        (event,) = scene.events().values()
        assert event.message == f"The annotation understudy.dev/switchover={wrong} was removed: give a rank, 0 to 0."
