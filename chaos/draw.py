"""Which fault comes next, upon what, for how long: a function of the seed alone.

Kinds are dealt like cards: every one comes up once before any comes up again, so that a short run misses few and a long
one favours none. Some are kept together, at one end of each round. Reads no clock and no cluster.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

OVERLAP_SHARE: Final = 0.35
"""How many faults are followed by another before they are over, where the two kinds can be combined."""
SAME_SHARE: Final = 0.5
"""How many of these come upon the very rank that the first one hit."""
OVERLAP_WITHIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Draw:
    """One fault to come."""

    number: int
    kind: str
    where: float
    """0 to 1: which of the ranks, jobs or nodes that there are."""
    amount: float
    """0 to 1: how long it lasts, or which of its variants it is."""
    after_s: float | None
    """How long after the fault before it; None: when everything is whole again."""


def draws(
    seed: int,
    kinds: Sequence[str],
    combinable: Callable[[str, str], bool],
    together: AbstractSet[str] = frozenset(),
) -> Iterator[Draw]:
    """Yield faults without end. `combinable(first, second)`: the second may come while the first lasts.

    Kinds of `together` come among as many others, first in one round, which a short run needs, and last in the next:
    so most of two rounds passes without any, and what they end can be watched for so long.
    """
    chance = random.Random(seed)  # noqa: S311 - not a secret
    before: Draw | None = None
    number = 0
    first = True
    while True:
        dealt = chance.sample(kinds, len(kinds))
        others = [kind for kind in dealt if kind not in together]
        beside = others[: len(dealt) - len(others)]
        near = [kind for kind in dealt if kind in together or kind in beside]
        far = others[len(beside) :]
        for kind in near + far if first else far + near:
            number += 1
            where, amount, wish, same = (chance.random() for _ in range(4))
            after_s = OVERLAP_WITHIN_S * chance.random()
            # Three at once are not drawn: nobody could say any more which of them a failover belongs to.
            overlaps = before is not None and before.after_s is None and wish < OVERLAP_SHARE
            alone = not (overlaps and before is not None and combinable(before.kind, kind))
            if not alone and before is not None and same < SAME_SHARE:
                where = before.where
            before = Draw(number, kind, where, amount, None if alone else after_s)
            yield before
        first = not first


def groups(sequence: Iterator[Draw]) -> Iterator[tuple[Draw, ...]]:
    """Join faults that overlap."""
    group: list[Draw] = []
    for draw in sequence:
        if draw.after_s is None and group:
            yield tuple(group)
            group = []
        group.append(draw)
    if group:
        yield tuple(group)


def pick(share: float, count: int) -> int:
    """Turn a share from 0 to 1 into one of `count` numbers."""
    return min(int(share * count), count - 1)


def between(share: float, low: float, high: float) -> float:
    """Turn a share from 0 to 1 into a number of a range."""
    return low + share * (high - low)
