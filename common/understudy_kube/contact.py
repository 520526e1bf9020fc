"""Since when has a watch been heard without a gap?

A silence tells of a lost sender only if the listener could have heard it. Guarantees that `since(limit_s)` is never
before the end of the last gap longer than `limit_s`, whatever made it: a broken connection, an API server that did not
answer, or this very process standing still. Does not guarantee that every change arrived: a watch can be late. Trusts
the monotonic clock that it is given.
"""

import math
from collections.abc import Callable
from typing import Final

_GAP_MIN_S: Final = 0.25
"""Shorter gaps are not kept: nobody asks for them."""


class Contact:
    """The gaps in what was heard."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open = False
        self._gaps: list[tuple[float, float]] = []
        """End and length, each longer than the next: a gap before a longer one answers no question."""
        self.heard_at: float = -math.inf
        """When something came last."""

    def opened(self) -> None:
        """Take note that the watch is connected."""
        self._open = True
        self.heard()

    def closed(self) -> None:
        """Take note that the watch has ended as it should: until the next is open, only silence is heard."""
        self._open = False

    def lost(self) -> None:
        """Take note that the watch is not connected any more."""
        self._open = False
        self.heard_at = -math.inf

    def heard(self) -> None:
        """Take note of any sign that the server answers; of no use while the watch is not connected."""
        if not self._open:
            return
        now = self._clock()
        gap_s = now - self.heard_at
        self.heard_at = now
        if gap_s < _GAP_MIN_S:
            return
        while self._gaps and self._gaps[-1][1] <= gap_s:
            self._gaps.pop()
        self._gaps.append((now, gap_s))

    def since(self, limit_s: float) -> float:
        """Since when there was no gap longer than this; infinite while there is one now."""
        if self._clock() - self.heard_at > limit_s:
            return math.inf
        return max((end for end, length in self._gaps if length > limit_s), default=-math.inf)
