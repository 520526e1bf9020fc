"""The benchmark of decisions measures what it says: a job that is well, and the same job with a primary lost."""

from understudy_contract.reports import Cause
from understudy_operator.core.decide import decide

from benchmarks.decide import Stage, measure


def test_every_cost_is_measured_for_a_job_of_several_ranks() -> None:
    costs = measure(3, seconds=0.0)
    assert [cost.what for cost in costs] == ["renewal", "observe", "nothing to do", "a promotion"]
    assert {cost.ranks for cost in costs} == {3}


def test_the_lost_primary_is_replaced_by_the_warm_redundant_pod() -> None:
    stage = Stage(2)
    stage.lose_primary(0)
    (promote,) = decide(stage.observe(), stage.now).promotions
    assert promote.promotion is not None
    assert (promote.target, promote.cold, promote.promotion.cause) == ("digits-0-1", False, Cause.POD_DELETED)
