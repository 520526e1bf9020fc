"""The old place of `Session`. It works for one release more, with a DeprecationWarning."""

import warnings

from understudy.trainer.session import Export, Session
from understudy.trainer.state import State

warnings.warn(
    "understudy.session will be removed in the next release: write `from understudy import Session, State`",
    DeprecationWarning,
    stacklevel=2,
)

__all__ = ["Export", "Session", "State"]
