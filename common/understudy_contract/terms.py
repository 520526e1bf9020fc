"""Which numbers can be a term of a rank.

A term is a Lease's `leaseTransitions`, an int32, and grows by one with each promotion. Only one rule lets it grow by
more: a primary that finds a higher term on the volume asks for a term above that one (`termFloor`), since the Lease may
be older than the volume (etcd was restored from a backup). A volume is written by whoever mounts it, so this rule is
bounded:

1. A term more than TERM_LEAP_MAX above one that the rank is known to have had is not the rank's own.
2. Nobody asks for a term above TERM_CEILING, and the operator grants none. So a billion promotions are left to every
   rank, whatever lies on the volume.

Does not tell a forged term within these bounds from a real one. Reads no clock.
"""

from typing import Final

from understudy_contract.bounds import TERM_MAX

TERM_CEILING: Final = 2**30
"""The highest term that may be asked for because of what lies on a volume."""

TERM_LEAP_MAX: Final = 100_000
"""How far a volume may be ahead of a Lease: two months of one promotion a minute, lost with an etcd."""


def highest_plausible(known: int | None) -> int:
    """Return the highest term that can be a rank's own, if it has had the term `known`; None: none is known yet."""
    return TERM_CEILING if known is None else min(known + TERM_LEAP_MAX, TERM_MAX)
