"""leaseDurationSeconds is changed while the job runs."""

from understudy_contract.names import Annotation

from tests.unit.operator.builders import LEASE_S, RANK, SLOT, Scene, patches


def written(scene: Scene) -> list[str]:
    """Leases into which a duration is written."""
    return [action.record.name for action in patches(scene.decide().rest, Annotation.FORMER_DURATION)]


def knowing(duration_s: int) -> Scene:
    """A job whose workers say by which duration they go."""
    return Scene().beat(RANK, duration_s=duration_s).beat(SLOT, duration_s=duration_s)


def test_it_is_written_into_every_lease_that_is_held() -> None:
    assert written(knowing(LEASE_S)) == []
    assert written(knowing(LEASE_S).asked(lease_duration_s=3)) == [RANK, SLOT]
    assert written(knowing(LEASE_S).asked(lease_duration_s=30)) == [RANK, SLOT]


def test_until_the_holder_goes_by_a_shorter_one_the_longer_one_counts() -> None:
    shortened = {"duration_s": 3, "former_duration_s": LEASE_S}
    scene = knowing(LEASE_S).asked(lease_duration_s=3).lease(RANK, silent_s=4, **shortened).lease(SLOT, **shortened)
    assert scene.decide().promotions == ()
    assert len(scene.beat(RANK, duration_s=3).decide().promotions) == 1


def test_a_longer_one_counts_at_once() -> None:
    scene = knowing(LEASE_S).asked(lease_duration_s=30).lease(RANK, duration_s=30, silent_s=LEASE_S + 1)
    assert scene.decide().promotions == ()


def test_a_worker_of_an_earlier_release_is_not_expected_to_renew_faster() -> None:
    assert written(Scene().asked(lease_duration_s=3)) == []
    assert written(Scene().asked(lease_duration_s=30)) == [RANK, SLOT]
