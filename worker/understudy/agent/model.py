"""What goes into and comes out of the agent's state machine: frozen values. Reads no clock and does nothing."""

import signal
from dataclasses import dataclass
from typing import Final

from understudy_contract.lease import LeaseRecord
from understudy_contract.reports import Heartbeat, Notice, Release

from understudy import protocol

END_WITHIN_S: Final = 2.0
"""Given to a superseded trainer, before SIGKILL, since another pod trains its rank; and to the kernel after that."""
HANDLERS_WITHIN_S: Final = 10.0
"""Given to a script that is ended after its training; below the time after which the operator ends its pod."""
RETRY_S: Final = 1.0
"""Pause after a request that the API did not answer well."""
QUICK_RETRY_S: Final = 0.2
"""The same for a release, since somebody waits to take over, and after a time-out, since the lease runs."""
RELEASE_WAIT_S: Final = 0.1
"""How long a release waits for a renewal in flight; later it overtakes it. A renewal takes 2 to 20 ms."""
DEFAULT_DURATION_S: Final = 10
"""Lease duration assumed until a Lease has been read."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the agent knows before it asks anyone."""

    pod: str
    rank: int
    rank_lease: str
    slot_lease: str | None
    """None: this pod was made as a primary."""
    hand_over_s: float
    progress_s: float
    startup_s: float
    max_failures: float
    grace_s: float
    """The pod's termination grace period."""
    end_s: float
    """How long the script may run on after its training is complete."""
    script: str
    """The trainer's command, for messages."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: the machine's `wake_at` has come."""


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """A Lease was read."""

    record: LeaseRecord
    watched: bool
    """By the watch; else by a GET that the machine asked for."""


@dataclass(frozen=True, slots=True)
class LeaseUnread:
    """A GET that the machine asked for failed."""

    lease: str
    message: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewal was accepted."""

    lease: str
    number: int
    duration_s: int
    """Of the Lease, as it is now."""


@dataclass(frozen=True, slots=True)
class RenewalFailed:
    """A renewal was not accepted, or may not have been."""

    lease: str
    number: int
    refused: bool
    """422: holder or term may have changed. Anything else proves nothing."""
    message: str
    gone: bool = False
    """404: there is no such Lease, so that nobody would read a release."""
    unfit: bool = False
    """400, 413, 422, or refused by admission: this very request is, and one that says less may be accepted."""


@dataclass(frozen=True, slots=True)
class TrainerExited:
    """The trainer's process ended: its code, or 128 + n for signal n."""

    code: int
    shortage: str = ""
    """What memory.py says of a process that the kernel killed for want of memory since it was last asked; empty: it
    killed none."""


@dataclass(frozen=True, slots=True)
class TrainerLost:
    """The process that said Hello has ended, or has closed its connection; what the container runs may live on."""

    below: bool = True
    """It was not the container's program itself, but started by that: by a shell, or a launcher."""
    shortage: str = ""
    """As in TrainerExited."""


@dataclass(frozen=True, slots=True)
class SecondTrainer:
    """Another process connected while the first one was connected: it was refused."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """SIGTERM: the pod is being deleted."""


Event = (
    Tick
    | LeaseSeen
    | LeaseUnread
    | Renewed
    | RenewalFailed
    | TrainerExited
    | TrainerLost
    | SecondTrainer
    | Terminated
    | protocol.FromTrainer
)


@dataclass(frozen=True, slots=True)
class Send:
    """Say this to the trainer."""

    message: protocol.FromAgent


@dataclass(frozen=True, slots=True)
class Renew:
    """PATCH this Lease; a request still in flight for it is abandoned."""

    lease: str
    number: int
    beat: Heartbeat
    timeout_s: float
    release: Release | None = None
    notice: Notice | None = None


@dataclass(frozen=True, slots=True)
class GetLease:
    """GET this Lease; answered by LeaseSeen or LeaseUnread."""

    lease: str


@dataclass(frozen=True, slots=True)
class RestartWatch:
    """Watch the rank's Lease anew: the watch missed something."""


@dataclass(frozen=True, slots=True)
class SignalTrainer:
    """Send this signal to the trainer."""

    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class Exit:
    """End the agent with this code; the message is the container's termination message."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Log:
    """Say this to people."""

    text: str


Action = Send | Renew | GetLease | RestartWatch | SignalTrainer | Exit | Log
