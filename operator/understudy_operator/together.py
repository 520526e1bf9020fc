"""Work that is done side by side: all of it is waited for, whatever fails."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def settle(work: Iterable[Awaitable[T]]) -> tuple[list[T], BaseException | None]:
    """Wait for every piece of work; return the results, and the first failure in the order of `work`."""
    results = await asyncio.gather(*work, return_exceptions=True)
    failures = (result for result in results if isinstance(result, BaseException))
    return [result for result in results if not isinstance(result, BaseException)], next(failures, None)


async def all_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """Wait for every piece of work; then raise the first failure, if there is one, or return the results."""
    results, failure = await settle(work)
    if failure is not None:
        raise failure
    return results
