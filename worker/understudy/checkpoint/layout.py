"""Names of the folders of terms and steps, and the numbers in them. Pure.

A name that is not exactly one of these is nobody's: no reader enters it. The bounds are part of the names, so that no
number from a volume exceeds what a Lease or a status can hold.
"""

import re
from typing import Final

STEP_MAX: Final = 10**15 - 1
"""Highest step: JSON's numbers are exact up to 2^53, and a status holds an int64."""

_TERM: Final = re.compile(r"term-(0|[1-9][0-9]{0,9})-([A-Za-z0-9][A-Za-z0-9._-]{0,63})")
_STEP: Final = re.compile(r"step-(0|[1-9][0-9]{0,14})")


def term_of(name: str) -> tuple[int, str] | None:
    """Read the term and the pod's uid in the name of a term's folder; None for any other name."""
    match = _TERM.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def step_of(name: str) -> int | None:
    """Read the step in the name of a checkpoint's folder; None for any other name."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None
