"""JSON as nobody of good will writes it: any value, valid objects with a few places changed, and depths without end."""

import copy
import json
import os
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Json = Any

EXAMPLES = os.environ.get("UNDERSTUDY_FUZZ_EXAMPLES")
"""Random examples of each test; unset: as in `make test`, a few that are the same in each run."""
fuzz = settings(
    max_examples=int(EXAMPLES or 100),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    print_blob=EXAMPLES is not None,
    suppress_health_check=list(HealthCheck),
)
"""Decorates each test."""

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.sampled_from([0, -1, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        ["", "0", "9" * 5000, "²", "\x00", "\x1b[31m", "2026-01-01T00:00:00Z", "0000-00-00", "x" * 70_000, "\ud800"]
    ),
)
ANY = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MARK = "understudy-fuzz-deep"
"""Stands where a value is nested deep: what `text_of` puts there no encoder could."""


def places(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """List the paths of all values in a value."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def replaced(value: Json, path: tuple[Any, ...], new: Json) -> Json:
    """Put a value in a place."""
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], new)
    return changed


@st.composite
def changed(draw: st.DrawFn, valid: Json) -> Json:
    """A valid value with up to three places changed, or with a field that it should not have."""
    value = valid
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value))))
        new = draw(ANY | st.just(MARK))
        if draw(st.booleans()):
            value = replaced(value, path, new)
        else:
            inner = value
            for key in path:
                inner = inner[key]
            if isinstance(inner, dict):
                value = replaced(value, path, {**inner, draw(st.text(max_size=8)): new})
    return value


DEPTHS = st.sampled_from([10, 63, 64, 65, 99, 100, 101, 200, 990, 1_100, 4_000, 9_990, 60_000])


@st.composite
def text_of(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> bytes:
    """A value as JSON; in the place of each mark it is nested deep."""
    text = json.dumps(draw(values))
    if f'"{MARK}"' in text:
        depth, (opens, closes) = draw(DEPTHS), draw(st.sampled_from([('{"a":', "}"), ("[", "]"), ('[{"":', "}]")]))
        text = text.replace(f'"{MARK}"', f"{opens * depth}1{closes * depth}")
    return text.encode()


@st.composite
def damaged(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """A text with some bytes changed, cut or repeated."""
    text = bytearray(draw(texts))
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.integers(0, max(0, len(text) - 1)))
        text[where : where + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(text)
