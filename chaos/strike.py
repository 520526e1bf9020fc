"""A fault that has been aimed: what it will hit, how to send it, how to end it, and what must come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from understudy_contract.reports import Cause

from chaos.draw import Draw
from chaos.target import Target
from chaos.ward import Ward
from testbed.kube import wall

Causes = frozenset[Cause]


class Thing(Enum):
    """What two faults at once must not both break: one would end what the other still needs, or has to put right."""

    CONTROL_PLANE = "control plane"
    NODE = "node"
    VOLUME = "volume"
    RECORD = "record"
    OPERATOR = "operator"
    SUSPENSION = "suspension"


def nothing() -> None:
    """There is nothing to put right."""


def undamaged() -> Mapping[Target, int]:
    """No checkpoint is damaged."""
    return {}


def timed(send: Callable[[], object]) -> Callable[[], float]:
    """Make a trigger of whatever sends a fault: it tells the wall-clock time just before."""

    def fire() -> float:
        at = wall()
        send()
        return at

    return fire


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault, ready to be sent."""

    what: str
    """One line: which fault, upon what."""
    fire: Callable[[], float]
    """Sends it; returns the wall-clock time just before."""
    must: Mapping[Target, Causes] = field(default_factory=dict)
    """Ranks that lose their primary by it, and what the status may call that."""
    may: Mapping[Target, Causes] = field(default_factory=dict)
    """Ranks that may lose a primary, or one more, and what that may be called: a redundant pod may turn out to be lost
    after its promotion."""
    takes: frozenset[str] = frozenset()
    """Names of the pods that it takes, where it takes pods: it explains the loss of no other primary."""
    damage: Callable[[], Mapping[Target, int]] = undamaged
    """Damages checkpoints right before it is sent; returns the step of each."""
    undo: Callable[[], None] = nothing
    lasts_s: float = 0.0
    """From the fault to its undoing."""
    waits: bool = False
    """Its undoing waits for what another fault may hold up: it comes last."""
    lossless: bool = False
    """The primary hands over."""
    deafens: bool = False
    """Workers cannot renew in time while it lasts, and nobody may be replaced for it."""
    cut: frozenset[str] = frozenset()
    """Names of all workers, where it cuts off all that there are: one that is made meanwhile is heard."""
    slows: bool = False
    """What is said gets through, but later than a successor is given to report: that one may be given up for it."""
    runs_on: bool = False
    """The old primary may take further steps, and save them: those are not lost."""

    blurs: frozenset[Target] = frozenset()
    """Ranks whose records it takes away: what else befalls them then may be called otherwise, or be forgotten."""

    @property
    def touched(self) -> frozenset[Target]:
        """Ranks that it may disturb."""
        return frozenset(self.must) | frozenset(self.may) | self.blurs


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    name: str
    title: str
    aim: Callable[[Ward, Draw], Strike]
    """Looks up all that the fault needs. TestbedError: another fault has left nothing to aim at."""
    touches: frozenset[Thing] = frozenset()
    asks: bool = False
    """Sending it needs the API server."""
    ends_operators: bool = False
    """By itself, or with the node that it takes."""
    alone: bool = False
    """Of what befalls ranks meanwhile nobody could tell whether it was taken back."""


def combinable(first: Kind, second: Kind) -> bool:
    """Tell whether the second may strike while the first lasts."""
    unreachable = Thing.CONTROL_PLANE in first.touches and second.asks
    return not (first.touches & second.touches or unreachable or first.alone or second.alone)
