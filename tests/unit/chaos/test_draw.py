"""The sequence of faults: the same for the same seed, fair, and never more than two at once."""

from itertools import islice, pairwise

import pytest

from chaos.draw import OVERLAP_WITHIN_S, Draw, between, draws, groups, pick
from chaos.kinds import KINDS
from chaos.strike import Thing, combinable

NAMES = tuple(KINDS)


def sequence(seed: int, count: int) -> list[Draw]:
    return list(islice(draws(seed, NAMES, lambda first, second: combinable(KINDS[first], KINDS[second])), count))


def test_a_seed_gives_the_same_faults_each_time_and_another_seed_others() -> None:
    assert sequence(7, 200) == sequence(7, 200)
    assert sequence(7, 200) != sequence(8, 200)


def test_every_kind_comes_up_once_before_any_comes_up_again() -> None:
    found = [draw.kind for draw in sequence(3, 3 * len(NAMES))]
    for start in range(0, len(found), len(NAMES)):
        assert sorted(found[start : start + len(NAMES)]) == sorted(NAMES)


def test_faults_overlap_in_pairs_of_kinds_that_can_be_combined() -> None:
    pairs = [group for group in islice(groups(iter(sequence(5, 1000))), 500) if len(group) > 1]
    assert len(pairs) > 100, "a good share of them"
    for first, second in pairs:
        assert combinable(KINDS[first.kind], KINDS[second.kind])
        assert second.after_s is not None
        assert 0 <= second.after_s <= OVERLAP_WITHIN_S


def test_some_of_the_pairs_hit_the_same_place_and_some_do_not() -> None:
    pairs = [group for group in groups(iter(sequence(5, 1000))) if len(group) > 1]
    same = sum(first.where == second.where for first, second in pairs)
    assert len(pairs) / 4 < same < 3 * len(pairs) / 4


@pytest.mark.parametrize("seed", range(20))
def test_faults_that_end_operators_leave_one_alive_for_longer_than_a_round(seed: int) -> None:
    together = {name for name in NAMES if KINDS[name].ends_operators}
    dealt = [draw.kind for draw in islice(draws(seed, NAMES, lambda *_: True, together), 3 * len(NAMES))]
    for start in range(0, len(dealt), len(NAMES)):
        assert sorted(dealt[start : start + len(NAMES)]) == sorted(NAMES)
    ends = [place for place, kind in enumerate(dealt) if kind in together]
    assert ends[0] <= len(together), "a short run has them, too"
    assert max(later - earlier for earlier, later in pairwise(ends)) > len(NAMES)


def test_kinds_that_are_all_kept_together_come_without_a_pause() -> None:
    dealt = [draw.kind for draw in islice(draws(3, ("a", "b", "c"), lambda *_: True, {"a", "b", "c"}), 9)]
    assert [sorted(dealt[start : start + 3]) for start in (0, 3, 6)] == [["a", "b", "c"]] * 3


def test_groups_lose_no_fault_and_keep_their_order() -> None:
    drawn = sequence(11, 300)
    assert [draw for group in groups(iter(drawn)) for draw in group] == drawn
    assert {len(group) for group in groups(iter(drawn))} == {1, 2}


def test_two_nodes_are_never_broken_at_once() -> None:
    for group in groups(iter(sequence(13, 2000))):
        broken = [draw for draw in group if Thing.NODE in KINDS[draw.kind].touches]
        assert len(broken) <= 1


def test_nothing_is_asked_of_an_api_server_that_is_away() -> None:
    for first in KINDS.values():
        for second in KINDS.values():
            if Thing.CONTROL_PLANE in first.touches and second.asks:
                assert not combinable(first, second)
    assert combinable(KINDS["delete"], KINDS["api-outage"]), "the other way round is a case of interest"


def test_a_fault_that_takes_records_back_comes_alone() -> None:
    (alone,) = (kind for kind in KINDS.values() if kind.alone)
    assert alone.name == "etcd-restored"
    for other in KINDS.values():
        assert not combinable(alone, other)
        assert not combinable(other, alone)


def test_shares_reach_both_ends_of_what_they_choose_from() -> None:
    assert [pick(share, 3) for share in (0.0, 0.34, 0.999)] == [0, 1, 2]
    assert (between(0.0, 2, 6), between(0.5, 2, 6)) == (2, 4)
