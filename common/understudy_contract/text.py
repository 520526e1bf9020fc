"""Words from a worker, a user or the volume, made fit to be shown: the one place where foreign text is cleaned.

Guarantees that what `clean` returns is one line of at most so many bytes of UTF-8, which every API server, JSON encoder
and terminal accepts: no control character, no escape sequence, no character that hides or reorders others, no lone
surrogate. Text is cleaned where it is written and once more where it is read, since a worker may write into its Lease
whatever it likes. Does not guarantee that the text is true. Reads no clock.
"""

import re
from typing import Final

_ESCAPES: Final = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: a title, a link, the clipboard
    r"|\x1b[PX^_][^\x1b]*\x1b\\"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, the cursor
    r"|\x1b[ -/]*[0-~]"  # all others
)
_HIDDEN: Final = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
"""Characters without a width, and those that reorder what is beside them. Joiners (U+200C, U+200D) are letters' own."""
_BLANK: Final = re.compile(r"[\x00-\x20\x7f-\x9f\s]+")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MORE: Final = "…"
_LOOKED_AT: Final = 8
"""Characters that are looked at for each byte that is wanted: cleaning a text of a megabyte costs what a page does."""


def clean(text: str, max_bytes: int) -> str:
    """Make one line of a text, at most `max_bytes` of UTF-8 long; one that is cut ends with an ellipsis."""
    if text.isascii() and len(text) <= max_bytes and text.isprintable() and text == text.strip() and "  " not in text:
        return text
    seen = text[: max_bytes * _LOOKED_AT]
    seen = _HIDDEN.sub("", _ESCAPES.sub("", seen))
    seen = _SURROGATE.sub("\ufffd", _BLANK.sub(" ", seen)).strip()
    encoded = seen.encode()
    if len(encoded) <= max_bytes and len(text) <= max_bytes * _LOOKED_AT:
        return seen
    room = max(0, max_bytes - len(_MORE.encode()))
    return encoded[:room].decode(errors="ignore").rstrip() + _MORE


def clean_lines(text: str, max_bytes: int) -> str:
    """Clean a text of several lines, and keep the last of them, at most `max_bytes` in all."""
    lines = [clean(line, max_bytes) for line in text[-max_bytes * _LOOKED_AT :].splitlines()]
    kept, room = [], max_bytes
    for line in reversed(lines):
        room -= len(line.encode()) + 1
        if room < -1:
            break
        kept.append(line)
    return "\n".join(reversed(kept))
