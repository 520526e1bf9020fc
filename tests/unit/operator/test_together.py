"""Work that is done side by side is waited for as a whole."""

import asyncio

import pytest
from understudy_operator.together import all_of, settle


async def test_a_failure_is_raised_only_when_all_else_is_done() -> None:
    last = asyncio.Event()
    done: list[str] = []

    async def fails(name: str) -> str:
        raise ValueError(name)

    async def succeeds() -> str:
        await last.wait()
        done.append("slow")
        return "slow"

    work = asyncio.ensure_future(all_of([succeeds(), fails("first"), fails("second")]))
    await asyncio.sleep(0)
    assert not work.done()
    last.set()
    with pytest.raises(ValueError, match="first"):
        await work
    assert done == ["slow"]


async def test_results_come_in_the_order_of_the_work_beside_the_first_failure() -> None:
    async def gives(value: int) -> int:
        if value == 2:
            raise ValueError("2")
        return value

    results, failure = await settle(map(gives, (1, 2, 3)))
    assert results == [1, 3]
    assert isinstance(failure, ValueError)
