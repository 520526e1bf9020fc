"""The operator's log: one record is one line, whatever a tenant has put into the words that it repeats.

Guarantees that no name, message or answer that is logged can begin a line of its own, and so look like a record, nor
reach a terminal as an escape sequence. A traceback follows its record, each line of it set in and cleaned alike.
"""

import logging
import sys
from typing import Final

from understudy_contract.text import clean

LINE_MAX_BYTES: Final = 8192
TRACEBACK_MAX_LINES: Final = 200
_INDENT: Final = "    "


class OneLine(logging.Formatter):
    """Formats a record as one clean line, and what was raised as lines that are set in."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Render the line."""
        return clean(super().formatMessage(record), LINE_MAX_BYTES)

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's own name
        """Render a traceback, its last lines if it is long."""
        return _set_in(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's own name
        """Render a stack."""
        return _set_in(super().formatStack(stack_info))


def _set_in(text: str) -> str:
    lines = text.splitlines()[-TRACEBACK_MAX_LINES:]
    return "\n".join(_INDENT + _keep_depth(line) for line in lines)


def _keep_depth(line: str) -> str:
    depth = len(line) - len(line.lstrip(" "))
    return " " * min(depth, 16) + clean(line, LINE_MAX_BYTES)


def set_up_logs(level: str) -> None:
    """Write the log of all parts of the process to its standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
