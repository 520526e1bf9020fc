"""The election, in virtual time: who leads, who does not, and how long nobody does."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from understudy_kube.election import Durations
from understudy_kube.leadership import Leadership

from tests.unit.kube.lease_server import NAME, Client, Server, Wall
from tests.unit.operator import virtual

LEASE_S = Durations().lease_s
HOUR = 3600.0


class Process:
    """A process that stands for election, and does nothing but to know whether it leads."""

    def __init__(self, server: Server, name: str, *, ends_in_s: float = 0.0) -> None:
        self.name = name
        self.led = asyncio.Event()
        self.terms = 0
        self.led_until = 0.0
        self.wall = Wall()
        self._ends_in_s = ends_in_s
        loop = asyncio.get_running_loop()
        client: Any = Client(server, name)
        self.leadership = Leadership(client, "system", NAME, name, clock=loop.time, wall=self.wall)
        self.task = loop.create_task(self.leadership.run(self.work))

    @property
    def leads(self) -> bool:
        return self.led.is_set()

    async def work(self) -> None:
        self.terms += 1
        self.led.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            try:
                await asyncio.sleep(self._ends_in_s)  # an action that is under way
            finally:
                self.led.clear()
                self.led_until = asyncio.get_running_loop().time()

    async def stop(self) -> None:
        """Tell it to stop, as a SIGTERM does."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Election:
    """Two processes, `first` leading and `second` following, and their API server."""

    def __init__(self) -> None:
        self.server = Server()
        self.first = Process(self.server, "first")
        self.second: Process

    async def begin(self) -> None:
        await asyncio.sleep(1)
        self.second = Process(self.server, "second")
        await asyncio.sleep(1)
        assert self.leaders == ["first"]

    @property
    def leaders(self) -> list[str]:
        return [process.name for process in (self.first, self.second) if process.leads]

    def kill_first(self) -> None:
        """End the first as a power cut does: it neither renews nor releases."""
        self.server.cut_off.add("first")
        self.server.deaf.add("first")

    async def until_leads(self, process: Process) -> float:
        """Wait until a process leads; tell how long that took."""
        began = asyncio.get_running_loop().time()
        await process.led.wait()
        return asyncio.get_running_loop().time() - began


def in_virtual_time(test: Callable[[Election], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test with an election that has been decided."""

    async def main() -> None:
        election = Election()
        await election.begin()
        await test(election)

    def run() -> None:
        virtual.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_virtual_time
async def test_a_follower_never_takes_over_a_holder_that_keeps_renewing_however_long_we_wait(it: Election) -> None:
    await asyncio.sleep(HOUR)
    assert it.leaders == ["first"]
    assert (it.first.terms, it.second.terms) == (1, 0)


@in_virtual_time
async def test_a_leader_costs_one_request_a_second_and_a_follower_none(it: Election) -> None:
    it.server.asked.clear()
    await asyncio.sleep(100)
    assert 95 <= it.server.asked.pop(("first", "PATCH")) <= 101
    assert not {verb for _, verb in it.server.asked} - {"WATCH", "LIST"}


@in_virtual_time
async def test_a_follower_leads_half_a_second_after_the_lease_of_a_dead_leader_at_the_latest(it: Election) -> None:
    it.kill_first()
    took_s = await it.until_leads(it.second)
    assert LEASE_S - Durations().renewal_s <= took_s <= LEASE_S + 0.5


@in_virtual_time
async def test_a_follower_that_hears_nothing_asks_before_it_takes_the_lease_of_a_leader_that_lives(
    it: Election,
) -> None:
    it.server.deaf.add("second")
    await asyncio.sleep(10 * LEASE_S)
    assert it.leaders == ["first"]
    assert it.server.asked["second", "PATCH"] >= 8, "each was refused: the record had changed"


@in_virtual_time
async def test_jumps_of_the_wall_clocks_change_nothing(it: Election) -> None:
    for jump in (timedelta(days=400), timedelta(days=-400), timedelta(seconds=-5)):
        it.first.wall.offset += jump
        it.second.wall.offset -= jump
        await asyncio.sleep(10 * LEASE_S)
        assert it.leaders == ["first"]
    it.kill_first()
    assert await it.until_leads(it.second) <= LEASE_S + 0.5


@in_virtual_time
async def test_wall_clocks_that_stand_still_change_nothing(it: Election) -> None:
    it.first.wall.stands_still = it.second.wall.stands_still = True
    await asyncio.sleep(10 * LEASE_S)
    assert it.leaders == ["first"]


@in_virtual_time
async def test_a_leader_that_stops_hands_over_at_once(it: Election) -> None:
    await it.first.stop()
    assert it.server.holder == ""
    assert await it.until_leads(it.second) <= 0.1
    assert it.server.lease is not None and it.server.lease["spec"]["leaseTransitions"] == 1


@in_virtual_time
async def test_a_leader_that_stops_amid_a_renewal_hands_over_all_the_same(it: Election) -> None:
    """The server carries out what nobody waits for any more."""
    it.server.entered.clear()
    await it.server.entered.wait()
    await it.server.touch(renewTime="by the renewal that was under way")
    await it.first.stop()
    assert it.server.holder == ""


@in_virtual_time
async def test_a_follower_that_stops_changes_nothing(it: Election) -> None:
    await it.second.stop()
    assert (it.server.holder, it.leaders) == ("first", ["first"])


@in_virtual_time
async def test_a_leader_that_cannot_renew_stops_before_another_may_lead_and_follows_when_it_hears_again(
    it: Election,
) -> None:
    last = it.server.version
    it.server.cut_off.add("first")
    await it.until_leads(it.second)
    assert not it.first.leads and it.first.led_until < asyncio.get_running_loop().time()
    assert it.server.version == last + 1
    it.server.cut_off.clear()
    await asyncio.sleep(10 * LEASE_S)
    assert it.leaders == ["second"]
    await it.second.stop()
    assert await it.until_leads(it.first) <= 0.1, "in the same process"
    assert it.first.terms == 2


@in_virtual_time
async def test_an_outage_of_the_api_server_ends_all_leading_and_somebody_leads_when_it_is_over(it: Election) -> None:
    it.server.cut_off |= {"first", "second"}
    await asyncio.sleep(10 * LEASE_S)
    assert it.leaders == []
    it.server.cut_off.clear()
    await asyncio.sleep(LEASE_S + 0.5)
    assert len(it.leaders) == 1


@in_virtual_time
async def test_a_renewal_whose_answer_is_lost_costs_no_leadership(it: Election) -> None:
    for _ in range(3):
        it.server.answers_are_lost = True
        await asyncio.sleep(0.8)
        it.server.answers_are_lost = False
        await asyncio.sleep(5)
    assert (it.leaders, it.first.terms) == (["first"], 1)


@in_virtual_time
async def test_a_lease_that_somebody_touched_is_renewed_all_the_same(it: Election) -> None:
    for _ in range(20):
        await it.server.touch(strategy="of no meaning")
        await asyncio.sleep(0.7)
    assert (it.leaders, it.first.terms) == (["first"], 1)


@in_virtual_time
async def test_a_leader_whose_lease_was_given_to_another_ends_its_work(it: Election) -> None:
    await it.server.touch(holderIdentity="somebody")
    await asyncio.sleep(1.5)
    assert it.leaders == []
    await asyncio.sleep(LEASE_S + 0.5)
    assert len(it.leaders) == 1, "somebody did not renew"


@in_virtual_time
async def test_a_lease_that_was_deleted_is_remade_by_its_leader_and_taken_by_nobody(it: Election) -> None:
    await it.server.delete()
    await asyncio.sleep(10)
    assert (it.server.holder, it.leaders, it.first.terms) == ("first", ["first"], 1)


@in_virtual_time
async def test_of_many_that_stand_for_a_free_lease_one_leads(it: Election) -> None:
    others = [Process(it.server, f"other-{number}") for number in range(5)]
    await asyncio.sleep(1)
    await it.first.stop()
    await asyncio.sleep(LEASE_S)
    assert len([process for process in (it.second, *others) if process.leads]) == 1


@in_virtual_time
async def test_what_is_under_way_may_end_before_the_lease_is_released_but_not_for_ever(it: Election) -> None:
    await it.first.stop()
    await it.second.stop()
    loop = asyncio.get_running_loop()
    for ends_in_s, takes_s in ((0.5, 0.5), (100.0, LEASE_S - Durations().deadline_s)):
        slow = Process(it.server, f"slow-{ends_in_s}", ends_in_s=ends_in_s)
        await it.until_leads(slow)
        began = loop.time()
        await slow.stop()
        assert not slow.leads
        assert slow.led_until - began == pytest.approx(takes_s, abs=0.01)
        assert it.server.holder == ""


def test_work_that_fails_ends_the_process() -> None:
    async def broken() -> None:
        raise RuntimeError("the work is broken")

    async def main() -> None:
        client: Any = Client(Server(), "only")
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="the work is broken"):
            await Leadership(client, "system", NAME, "only", clock=loop.time).run(broken)

    virtual.run(main())


@pytest.mark.parametrize("durations", [(3, 3.0, 1.0), (3, 1.0, 1.0), (3, 2.0, 0.0), (1, 2.0, 1.0)])
def test_durations_that_cannot_work_are_refused(durations: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        Durations(*durations)
