"""The old place of `State`. It works for one release more, with a DeprecationWarning."""

import warnings

from understudy.trainer.state import State, Tensors

warnings.warn(
    "understudy.state will be removed in the next release: write `from understudy import State`",
    DeprecationWarning,
    stacklevel=2,
)

__all__ = ["State", "Tensors"]
