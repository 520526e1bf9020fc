"""The work queue, read as rules. A virtual clock drives the delays."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from understudy_kube.workqueue import WorkQueue


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 0.0

    def time(self) -> float:
        return getattr(self, "_virtual", 0.0)

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._virtual = max(self._virtual, self._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


def test_a_key_added_twice_is_worked_on_once(loop: VirtualLoop) -> None:
    async def run() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        queue.add("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    loop.run_until_complete(run())


def test_a_key_added_while_it_is_worked_on_comes_again_afterwards_and_not_before(loop: VirtualLoop) -> None:
    async def run() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"

    loop.run_until_complete(run())


def test_of_several_delays_the_earliest_counts_and_the_later_ones_are_dropped(loop: VirtualLoop) -> None:
    async def run() -> list[float]:
        queue: WorkQueue[str] = WorkQueue()
        for delay_s in (5.0, 1.0, 3.0):
            queue.add_after("a", delay_s)
        times = []
        try:
            async with asyncio.timeout(100):
                while True:
                    queue.done(await queue.get())
                    times.append(loop.time())
        except TimeoutError:
            return times

    assert loop.run_until_complete(run()) == [1.0]


def test_retries_back_off_from_5_ms_to_30_s_and_forget_starts_anew(loop: VirtualLoop) -> None:
    async def run() -> tuple[list[float], float]:
        queue: WorkQueue[str] = WorkQueue()
        gaps = []
        for _ in range(15):
            before = loop.time()
            queue.retry("a")
            queue.done(await queue.get())
            gaps.append(loop.time() - before)
        queue.forget("a")
        before = loop.time()
        queue.retry("a")
        queue.done(await queue.get())
        return gaps, loop.time() - before

    gaps, first = loop.run_until_complete(run())
    assert gaps[0] == pytest.approx(0.005) and gaps[1] == pytest.approx(0.01)
    assert gaps[-1] == pytest.approx(30.0) and max(gaps) == gaps[-1]
    assert first == pytest.approx(0.005)


def test_a_cancelled_getter_passes_its_key_on(loop: VirtualLoop) -> None:
    async def run() -> str:
        queue: WorkQueue[str] = WorkQueue()
        first, second = asyncio.ensure_future(queue.get()), asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        return await asyncio.wait_for(second, 10)

    assert loop.run_until_complete(run()) == "a"


class QueueMachine(RuleBasedStateMachine):
    """No key is lost, none is held twice, however adds and dones interleave."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[int] = WorkQueue()
        self.held: set[int] = set()
        self.wanted: set[int] = set()

    @rule(key=st.integers(0, 3))
    def add(self, key: int) -> None:
        self.queue.add(key)
        self.wanted.add(key)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def get(self) -> None:
        getter: Any = self.queue.get()
        try:
            getter.send(None)
        except StopIteration as answer:
            key = answer.value
        assert key not in self.held and key in self.wanted
        self.held.add(key)
        self.wanted.discard(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.held.discard(key)
        self.queue.done(key)

    @invariant()
    def every_wanted_key_waits_or_is_held(self) -> None:
        assert len(self.queue) == len(self.wanted - self.held)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
