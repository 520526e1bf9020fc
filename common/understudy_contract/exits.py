"""Exit codes of the worker's container, and the reasons with which a worker gives up its Lease.

The agent passes the trainer's own code through; a trainer ended by signal n gives 128 + n, as a shell would. The
reserved codes lie between the codes that scripts use and those of signals.
"""

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Reserved exit codes of the agent."""

    SUPERSEDED = 81
    """A higher term exists: another pod trains this rank."""
    HANDED_OVER = 82
    """SIGTERM arrived, the state was saved and the Lease released."""
    NOT_INTEGRATED = 83
    """The script ended without one call of the SDK."""
    MISCONFIGURED = 84
    """The agent itself could not start: the message says why."""


class ReleaseReason(StrEnum):
    """Why a worker released the Lease that it held."""

    HANDED_OVER = "HandedOver"
    """Planned: the last step is committed."""
    PROCESS_EXITED = "ProcessExited"
    """The trainer died or failed."""
    OOM_KILLED = "OOMKilled"
    """The kernel killed the trainer for want of memory."""
    STALLED = "Stalled"
    """The trainer lived and did nothing for its deadline: it was killed."""
    VOLUME_TROUBLE = "VolumeTrouble"
    """The trainer could not go on for want of the volume, or of what must lie on it."""
    NOT_INTEGRATED = "NotIntegrated"
    """The trainer ended without one call of the SDK."""
    COMPLETED = "Completed"
    """The last checkpoint is committed and the script exited 0."""


def describe_exit(code: int) -> str:
    """Say an exit code in words: `exit code 1`, `signal 9 (SIGKILL)`."""
    names = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
    if 128 < code < 193:
        number = code - 128
        return f"signal {number} ({names[number]})" if number in names else f"signal {number}"
    return f"exit code {code}"
