"""Decoding of JSON that anybody may have nested: no object, however deep, raises RecursionError here.

The API server stores what is nested up to 10,000 levels deep. msgspec and Python's own decoder descend into a value by
recursion, even to skip it, and give up somewhere between 1,000 levels and that, depending on the version of Python. So
`decode` decodes a text as it is where that works, and otherwise without what is nested too deep. What the operator
reads of an object lies flat: nothing of use is lost.

Guarantees that time and memory are linear in the size of the text, and that `cut` itself never recurses. Does not judge
whether a text is JSON: of a text that is not, the decoder says so. Reads no clock.
"""

import re
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

DEPTH_MAX: Final = 100
"""Levels that are kept. The deepest place of a Pod is about 15 levels deep, a list of them two more."""

_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
"""A string, whose brackets mean nothing, or a bracket. Possessive: a string is never looked at twice."""


def cut(text: bytes, depth: int = DEPTH_MAX) -> bytes:
    """Put null in the place of each object or array that begins below `depth` levels; the same text if none does."""
    kept = bytearray()
    level, start = 0, 0
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case 0x5B | 0x7B:  # [ {
                level += 1
                if level == depth + 1:
                    kept += text[start : token.start()] + b"null"
            case 0x5D | 0x7D:  # ] }
                if level == depth + 1:
                    start = token.end()
                level -= 1
    return bytes(kept + text[start:]) if kept else text


def decode(text: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a text, without what is nested too deep for the decoder; raises msgspec.MsgspecError, nothing else."""
    try:
        return decoder.decode(text)
    except RecursionError:
        return decoder.decode(cut(bytes(text)))
    except UnicodeDecodeError as error:  # of a string that is not UTF-8
        raise msgspec.DecodeError(str(error)) from error
