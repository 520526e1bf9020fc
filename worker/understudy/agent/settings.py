"""What the container's environment tells the agent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy_contract.names import RUN_DIR, Env, rank_lease_name, slot_lease_name


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
    run_dir: Path
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
        rank, hand_over_s = int(environ[Env.RANK]), float(environ[Env.HAND_OVER_S])
        slot_lease = slot_lease_name(job, rank, int(slot)) if slot else None
    except ValueError as error:
        raise SettingsError(f"{Env.RANK}, {Env.SLOT} and {Env.HAND_OVER_S} must be numbers: {error}") from error
    if not math.isfinite(hand_over_s) or hand_over_s < 0:
        raise SettingsError(f"{Env.HAND_OVER_S} must be a number of seconds, not {hand_over_s}")
    return Settings(
        namespace=environ[Env.NAMESPACE],
        pod=environ[Env.POD_NAME],
        rank=rank,
        rank_lease=rank_lease_name(job, rank),
        slot_lease=slot_lease,
        hand_over_s=hand_over_s,
        run_dir=Path(environ.get(Env.RUN_DIR, RUN_DIR)),
        command=command,
    )
