"""What one process remembers of a job."""

from understudy_contract.events import EventReason
from understudy_operator.core.actions import Emit
from understudy_operator.core.model import Killed
from understudy_operator.memo import LAST_WORDS_KEPT, Memo


def test_a_write_that_fails_leaves_the_name_to_another_that_wants_it() -> None:
    memo = Memo()
    memo.expect("digits-0-3")
    memo.expect("digits-0-3")
    memo.refused("digits-0-3")
    assert set(memo.pending_pods) == {"digits-0-3"}
    memo.refused("digits-0-3")
    assert not memo.pending_pods


def test_a_pod_that_was_seen_is_pending_no_more_however_many_writes_wanted_it() -> None:
    memo = Memo()
    memo.expect("digits-0-3")
    memo.expect("digits-0-3")
    memo.expect_no_more("digits-0-3")
    assert not memo.pending_pods


def test_children_of_another_identity_are_looked_at_anew() -> None:
    memo = Memo()
    memo.belongs_to("a")
    memo.prepared(3, 7.0)
    memo.budgets, memo.granted = True, frozenset({(None, "digits-0")})
    memo.belongs_to("a")
    assert (memo.prepared_at, memo.budgets) == (7.0, True)
    memo.belongs_to("b")
    assert (memo.prepared_at, memo.budgets, memo.granted) == (Memo().prepared_at, None, frozenset())


def test_budgets_that_are_not_to_be_there_are_not_looked_for_again() -> None:
    memo = Memo()
    for before, after in ((True, None), (None, None), (False, False)):
        memo.budgets = before
        memo.prepared(1, 0.0)
        assert memo.budgets is after


def test_what_concerns_pods_that_are_gone_is_forgotten() -> None:
    memo = Memo(killed={"u1": Killed(), "u2": Killed()}, deleted_pods={"digits-0-1", "digits-0-2"})
    memo.keep(pods=["u2"], named=["digits-0-2", "digits-0-4"])
    assert (set(memo.killed), memo.deleted_pods) == ({"u2"}, {"digits-0-2"})


def test_of_too_many_last_words_the_oldest_go_and_none_is_told_twice() -> None:
    memo = Memo()
    words = [Emit(str(n), EventReason.CHECKPOINT_FAILED, "disk full") for n in range(LAST_WORDS_KEPT + 2)]
    memo.posted(words[-1], 0.0)
    memo.keep_last_words(words)
    assert list(memo.last_words) == [str(n) for n in range(1, LAST_WORDS_KEPT + 1)]
    memo.posted(words[3], 0.0)
    assert "3" not in memo.last_words
