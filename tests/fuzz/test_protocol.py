"""The lines between agent and trainer, on anything; only where the worker's packages are installed."""

import msgspec
from hypothesis import given
from understudy import protocol

from tests.fuzz.strategies import ANY, changed, damaged, fuzz, text_of

MESSAGES = [
    {"type": "Committed", "checkpoint": {"term": 1, "step": 2, "digest": "d"}},
    {"type": "Notice", "reason": "NotExact", "message": "m"},
    {"type": "Failed", "message": "m"},
]


@fuzz
@given(damaged(text_of(changed(MESSAGES[0]) | changed(MESSAGES[1]) | changed(MESSAGES[2]) | ANY)))
def test_a_line(line: bytes) -> None:
    for decode in (protocol.decode_from_trainer, protocol.decode_from_agent):
        try:
            decode(line)
        except msgspec.MsgspecError:
            continue
