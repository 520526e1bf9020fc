"""What the container's environment tells the agent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from understudy_contract.lease import natural
from understudy_contract.names import RUN_DIR, Env, rank_lease_name, slot_lease_name

GRACE_MARGIN_S: Final = 10.0
"""By this much the grace period exceeds handOverSeconds, unless the template has one of its own."""


class SettingsError(Exception):
    """The environment or the command line cannot be used; the message says what to correct."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Facts about this pod."""

    namespace: str
    pod: str
    rank: int
    rank_lease: str
    slot_lease: str | None
    hand_over_s: float
    progress_s: float
    """A primary that does nothing for this long has stalled."""
    startup_s: float
    """The same for a trainer that has not come to its first step, or is not warm yet."""
    max_failures: float
    """A trainer that has failed so often without progress is not left to its launcher again."""
    grace_s: float
    """The pod's termination grace period."""
    end_s: float
    """How long the script may run on after its training is complete."""
    run_dir: Path
    serves_probes: bool
    """Whether to listen on the probes' port; not in the node's network, where the port is no pod's own."""
    command: tuple[str, ...]

    @property
    def script(self) -> str:
        """Name the trainer in messages: `python train.py` for a longer command of the same."""
        return " ".join(self.command[:2])


def read_settings(environ: Mapping[str, str], argv: Sequence[str]) -> Settings:
    """Read the environment and the command line `[--] COMMAND ARGS…`."""
    command = tuple(argv[1:] if argv[:1] == ["--"] else argv)
    if not command:
        raise SettingsError(
            "no command after `understudy-agent --`; the template's container `trainer` needs a command"
        )
    needed = (Env.JOB, Env.NAMESPACE, Env.POD_NAME, Env.RANK, Env.HAND_OVER_S)
    if missing := [name for name in needed if not environ.get(name)]:
        raise SettingsError(
            f"{', '.join(missing)} not set; the agent is started by the operator, run the script itself elsewhere"
        )
    job, slot = environ[Env.JOB], environ.get(Env.SLOT)
    try:
        rank = int(environ[Env.RANK])
        slot_lease = slot_lease_name(job, rank, int(slot)) if slot else None
    except ValueError as error:
        raise SettingsError(f"{Env.RANK} and {Env.SLOT} must be numbers: {error}") from error
    return Settings(
        namespace=environ[Env.NAMESPACE],
        pod=environ[Env.POD_NAME],
        rank=rank,
        rank_lease=rank_lease_name(job, rank),
        slot_lease=slot_lease,
        hand_over_s=_seconds(environ, Env.HAND_OVER_S),
        # An operator of an earlier release sets none of these: no deadline then, and the grace period that it gives.
        progress_s=_seconds(environ, Env.PROGRESS_S, math.inf),
        startup_s=_seconds(environ, Env.STARTUP_S, math.inf),
        max_failures=natural(environ.get(Env.MAX_FAILURES)) or math.inf,
        grace_s=_seconds(environ, Env.GRACE_S, _seconds(environ, Env.HAND_OVER_S) + GRACE_MARGIN_S),
        end_s=_seconds(environ, Env.END_S, math.inf),
        run_dir=Path(environ.get(Env.RUN_DIR, RUN_DIR)),
        serves_probes=environ.get(Env.SERVE_PROBES) != "false",
        command=command,
    )


def _seconds(environ: Mapping[str, str], name: Env, absent: float = math.nan) -> float:
    text = environ.get(name)
    if not text:
        return absent
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise SettingsError(f"{name} must be a number of seconds, not {text}")
    return found
