"""How large a number, and how long a text, may be in what workers and operator write into a Lease.

Guarantees that a report in its bounds can be copied into a status, an annotation, an Event and the spec of a Lease
without making the API server refuse that write: a worker's report harms nothing but the job that it is about. Applied
by `lease.encode` where a report is written, and by `LeaseObject.record` where it is read, to every field, also to one
that is added later: a field without an entry in the tables has the general bound. Does not guarantee that a report is
true, nor that it is consistent: a worker may still lie about its own rank. Reads no clock.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from operator import is_
from typing import Any, Final, TypeVar

import msgspec

from understudy_contract.reports import LAST_WORDS_MAX_CHARS
from understudy_contract.text import clean

NUMBER_MAX: Final = 2**53 - 1
"""The general bound of a number: steps of a training. Adding one stays within int64, as the CRD has them, and within
what every reader of JSON holds exactly."""
TERM_MAX: Final = 2**31 - 1_000_001
"""Highest term that anybody may claim. A Lease holds 32 bits: above this a million promotions still fit."""
COUNT_MAX: Final = 1_000_000_000
"""Of counts (failovers, failures, incarnations), which the CRD holds in 32 bits."""
LEASE_DURATION_MAX_S: Final = 3600
"""The longest lease that the CRD admits."""
TEXT_MAX_BYTES: Final = LAST_WORDS_MAX_CHARS
"""The general bound of a text: annotations of one object share 256 KiB, status repeats them, an Event takes 1 KiB."""
NAME_MAX_BYTES: Final = 253
LIST_MAX: Final = 16
"""Entries of a list in a report."""
LONG_AGO: Final = "1970-01-01T00:00:00Z"
"""Stands for a time that cannot be read: the CRD admits nothing that is no time."""

_NUMBERS: Final = {
    "term": TERM_MAX,
    "term_floor": TERM_MAX,
    "duration_s": LEASE_DURATION_MAX_S,
    "exit_code": 255,
    "failovers": COUNT_MAX,
    "restarts": COUNT_MAX,
    "failures": COUNT_MAX,
}
_TEXTS: Final = {
    "pod": NAME_MAX_BYTES,
    "source": NAME_MAX_BYTES,
    "target": NAME_MAX_BYTES,
    "digest": 128,
    "volume": 128,
    "reason": 128,
    "cause": 128,
    "at": 64,
}
_MOMENTS: Final = frozenset(
    {
        ("FirstStep", "at"),
        ("GivenUp", "at"),
        ("Promotion", "failed_at"),
        ("Promotion", "detected_at"),
        ("Promotion", "promoted_at"),
    }
)
"""Texts that become times of the status, by type and field. A notice's `at` does not: unreadable, it counts as new."""
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)

_T = TypeVar("_T", bound=msgspec.Struct)


def bounded(report: _T) -> _T:
    """Bring every field of a report into its bounds, those of the reports within it too."""
    changed: dict[str, Any] = {}
    for name, bound in _bounds(type(report)):
        held = getattr(report, name)
        fits = _fit(held, bound)
        if fits is not held:
            changed[name] = fits
    return msgspec.structs.replace(report, **changed) if changed else report


def clamp(number: int, most: int = NUMBER_MAX) -> int:
    """Bring a number between 0 and `most`."""
    return max(0, min(number, most))


def is_moment(text: str) -> bool:
    """Tell whether a text is a time that the API server takes for one (RFC 3339)."""
    if _RFC_3339.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def moment(text: str | None) -> str | None:
    """Keep a time; None for what is none."""
    return text if text is not None and is_moment(text) else None


@dataclass(frozen=True, slots=True)
class _Bound:
    """What one field may hold."""

    number_max: int
    text_max_bytes: int
    is_moment: bool
    is_claim: bool
    """A number above its bound is none at all: nobody can have reached that term, and raising a Lease to it would leave
    no room."""


@cache
def _bounds(kind: type[msgspec.Struct]) -> tuple[tuple[str, _Bound], ...]:
    """Name the fields of a report, each with its bound; once for each type, since every renewal is read."""
    return tuple(
        (
            name,
            _Bound(
                _NUMBERS.get(name, NUMBER_MAX),
                _TEXTS.get(name, TEXT_MAX_BYTES),
                (kind.__name__, name) in _MOMENTS,
                name == "term_floor",
            ),
        )
        for name in kind.__struct_fields__
    )


def _fit(value: Any, bound: _Bound) -> Any:
    if value is None or isinstance(value, bool | Enum):
        return value
    if isinstance(value, int):
        if 0 <= value <= bound.number_max:
            return value
        return 0 if bound.is_claim else clamp(value, bound.number_max)
    if isinstance(value, str):
        if bound.is_moment:
            return value if is_moment(value) else LONG_AGO
        return clean(value, bound.text_max_bytes)
    if isinstance(value, msgspec.Struct):
        return bounded(value)
    if isinstance(value, tuple) and value:
        fits = tuple(_fit(item, bound) for item in value[-LIST_MAX:])
        return value if len(fits) == len(value) and all(map(is_, fits, value)) else fits
    return value
