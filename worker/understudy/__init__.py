"""The worker's side: the SDK that a training script imports, and the agent beside it.

    from understudy import Session, State       # a training in any framework
    import understudy.keras                     # understudy.keras.train, for a compiled Keras model

The packages, each of which may import those below it:

- `keras`: a compiled Keras model as a training. It imports Keras and TensorFlow, the others do not.
- `trainer`: `Session`, and the trainer's end of the socket to the agent.
- `checkpoint`: checkpoints on a volume.
- `agent`: the process with id 1 of the container, which starts the trainer. It imports none of the three above.

`protocol`, `counters` and `errors` belong to several of them. `session` and `state` are old names of modules, which
warn. Importing this package imports none of the others: `Session` and `State` are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.trainer.session import Session
    from understudy.trainer.state import State

__version__ = "0.1.0"
__all__ = ["Session", "State", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Session` and `State` at their first use: the agent starts without numpy."""
    match name:
        case "Session":
            from understudy.trainer.session import Session

            return Session
        case "State":
            from understudy.trainer.state import State

            return State
        case _:
            raise AttributeError(f"module 'understudy' has no attribute {name!r}")
