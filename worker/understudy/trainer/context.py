"""Who this process is: read once from the environment that the operator and the agent set, or made up on a laptop.

Without $UNDERSTUDY_SOCKET the process is standalone: one rank, and a folder of its own for checkpoints. Standalone
runs are numbered; starting over makes the next number and leaves the earlier runs where they are.

A standalone script may hold several trainings, one after the other, as it may hold several calls of `fit`. Each
training that this process has finished in a folder is counted (`finish`), and the next one gets a folder of its own
below the run: `run-1`, then `run-1/training-2`. The position in the script is what identifies a training. So a script
that is started again finds its first training finished, which returns at once, and goes on with the second one. A
training that was interrupted is not counted: the next call goes on with it. Reads no clock.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from understudy_contract.names import CHECKPOINT_DIR, Env, Resume

from understudy.errors import NotStarted

STANDALONE_KEEP: Final = 3
"""Checkpoints kept on a laptop: the CRD's default."""

_RUN: Final = re.compile(r"run-(\d+)\Z")

_finished: Final[Counter[Path]] = Counter()
"""Standalone trainings that this process has finished, by folder."""


@dataclass(frozen=True, slots=True)
class Context:
    """One trainer's place in its job."""

    job: str
    job_uid: str
    """Folder of the job below `root`."""
    rank: int
    ranks: int
    pod_uid: str
    keep: int
    root: Path
    """Where the volume is mounted."""
    socket: Path | None
    """The agent's; None: standalone."""
    counters: Path | None
    created: str = ""
    """When the job was made, RFC 3339; empty: not known."""
    resume: str = Resume.NEVER
    namespace: str = ""

    @property
    def standalone(self) -> bool:
        """Say whether no agent is there."""
        return self.socket is None


def read_context(
    environ: Mapping[str, str] = os.environ, *, directory: str | os.PathLike[str] | None = None, fresh: bool = False
) -> Context:
    """Read the environment; `directory` and `fresh` count standalone only. Raises NotStarted for a missing variable."""
    if Env.SOCKET not in environ:
        return _standalone(directory, fresh)
    try:
        return Context(
            job=environ[Env.JOB],
            job_uid=environ[Env.JOB_UID],
            rank=int(environ[Env.RANK]),
            ranks=int(environ[Env.RANKS]),
            pod_uid=environ[Env.POD_UID],
            keep=int(environ.get(Env.KEEP, STANDALONE_KEEP)),
            root=Path(environ.get(Env.CHECKPOINT_DIR, CHECKPOINT_DIR)),
            socket=Path(environ[Env.SOCKET]),
            counters=Path(environ[Env.COUNTERS]) if Env.COUNTERS in environ else None,
            created=environ.get(Env.JOB_CREATED, ""),
            resume=environ.get(Env.RESUME, Resume.NEVER),
            namespace=environ.get(Env.NAMESPACE, ""),
        )
    except KeyError as error:
        raise NotStarted(
            f"${Env.SOCKET} is set but ${error.args[0]} is not: start the script through the operator, "
            f"or unset ${Env.SOCKET} to train standalone"
        ) from None


def finish(context: Context) -> None:
    """Count a training that has come to its end: a further one of this process is another."""
    if context.standalone:
        _finished[context.root.resolve()] += 1


def forget_finished() -> None:
    """Count from zero, as a new process does. For tests that play several processes in one."""
    _finished.clear()


def _standalone(directory: str | os.PathLike[str] | None, fresh: bool) -> Context:
    script = Path(sys.argv[0]).stem or "session"
    root = Path(directory) if directory is not None else Path("checkpoints") / script
    runs = [int(m[1]) for entry in (root.iterdir() if root.is_dir() else ()) if (m := _RUN.match(entry.name))]
    run = max(runs, default=0)
    if fresh or run == 0:
        run += 1
        _finished.pop(root.resolve(), None)
    number = _finished[root.resolve()] + 1
    return Context(
        job=script,
        job_uid=f"run-{run}" if number == 1 else f"run-{run}/training-{number}",
        rank=0,
        ranks=1,
        pod_uid=f"pid-{os.getpid()}",
        keep=STANDALONE_KEEP,
        root=root,
        socket=None,
        counters=None,
    )
