"""Changes of a Lease that make no new holder: a renewal in between refuses some, and does no harm to the others."""

import logging
from collections.abc import Callable
from typing import cast

import pytest
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Rank, Term
from understudy_contract.reports import Cause, GivenUp
from understudy_kube.client import Api, Conflict
from understudy_operator.core.actions import Guard, PatchLease
from understudy_operator.core.patches import give_up, raise_term, set_duration, take_switchover, vacate
from understudy_operator.ranks import Ranks

from tests.unit.operator.moves import both_at_work
from tests.unit.operator.stage import LEASES, Stage, stage_test

WHY = GivenUp(Cause.PROCESS_EXITED, "Rank 0 has failed once", "2026-01-01T00:00:00Z", 1)
CHANGES: tuple[tuple[Guard, Callable[[LeaseRecord], PatchLease]], ...] = (
    (Guard.VERSION, lambda record: give_up(Rank(0), record, WHY)),
    (Guard.VERSION, lambda record: raise_term(Rank(0), record, Term(7))),
    (Guard.VERSION, lambda record: vacate(Rank(0), record)),
    (Guard.HOLDER, lambda record: take_switchover(Rank(0), record)),
    (Guard.HOLDER, lambda record: set_duration(Rank(0), record, 30)),
)


@pytest.mark.parametrize(("guard", "change"), CHANGES)
def test_a_renewal_since_the_decision_refuses_what_it_would_make_wrong(
    guard: Guard, change: Callable[[LeaseRecord], PatchLease]
) -> None:
    @stage_test
    async def in_virtual_time(stage: Stage) -> None:
        await both_at_work(stage)
        record = stage.world.leases.records["default", "digits-0"]
        path = f"{LEASES}/digits-0"
        stage.server._put(path, stage.server.objects[path])  # a renewal that this operator has not seen
        ranks, memo = Ranks(cast(Api, stage.server), stage.world), stage.world.jobs.memo("a")
        job = stage.world.jobs.known(("default", "digits"))
        assert job is not None
        action = change(record)
        assert action.guard is guard
        if guard is Guard.VERSION:
            with pytest.raises(Conflict):
                await ranks.patch(job, action, memo)
            action = change(stage.world.leases.records["default", "digits-0"])  # it has learnt what stands there
        await ranks.patch(job, action, memo)

    in_virtual_time()


def test_what_a_person_has_to_know_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @stage_test
    async def in_virtual_time(stage: Stage) -> None:
        await both_at_work(stage)
        job = stage.world.jobs.known(("default", "digits"))
        record = stage.world.leases.records["default", "digits-0"]
        assert job is not None
        with caplog.at_level(logging.WARNING, "understudy"):
            action, memo = give_up(Rank(0), record, WHY), stage.world.jobs.memo("a")
            await Ranks(cast(Api, stage.server), stage.world).patch(job, action, memo)

    in_virtual_time()
    assert "default/digits rank 0: given up: Rank 0 has failed once" in caplog.messages
