"""The place that the Leases give this pod in its rank. Pure.

The operator makes a pod for one of two purposes. It appoints a pod as primary: the rank's Lease names this pod before
the pod exists. Or it makes a redundant pod for a slot, which has a Lease of its own for the pod's heartbeat. Only the
rank's Lease makes a pod primary, and once primary it is never redundant again.

A place is left for another one, or for the end of the pod, on positive evidence alone: a Lease that was read. A read
that fails proves nothing.

    place      | the Lease that was read says                 | what follows
    -----------+----------------------------------------------+---------------------------------------------
    any        | rank: this pod holds it                      | Primary
    Appointed  | rank: another pod holds it (by a GET)        | superseded: the pod ends
    Appointed  | rank: anything else                          | read again
    Undecided  | rank: this pod does not hold it              | Redundant
    Redundant  | rank: this pod does not hold it              | follow its checkpoints
    Redundant  | slot: another pod holds it                   | Displaced
    Displaced  | slot: another pod holds it                   | Displaced, counted from now
    Displaced  | rank: another pod holds it (by a later GET)  | superseded: the pod ends
    Displaced  | rank: anything else                          | read again
    Primary    | rank: this pod holds it, in another term     | go on in that term
    Primary    | rank: another pod holds it, in this term     | superseded: the pod ends
    Primary    | rank: a higher term, held by another, or not | superseded: the pod ends
    Primary    | rank: anything else                          | nothing: the Lease is older than our own term

A displaced pod may be the one that was just promoted: the operator gives the slot of a promoted pod to a new pod, and
the watch of the rank's Lease can be slower than the read of the slot's. So only a GET of the rank's Lease that was sent
after the displacement was noticed says whether the pod is promoted or superseded. What the watch brings may be older.

A primary can be told another term: its Lease was deleted and made again, or comes from an older backup of etcd. It is
still the only holder, and the volume keeps any other writer out. Times are the machine's (monotonic seconds).
"""

from dataclasses import dataclass
from enum import Enum, auto

from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Term


@dataclass(frozen=True, slots=True)
class Appointed:
    """Made as the rank's primary; its Lease was not read yet."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Made for a slot; the rank's Lease was not read yet."""


@dataclass(frozen=True, slots=True)
class Redundant:
    """Keeps warm beside the primary."""


@dataclass(frozen=True, slots=True)
class Displaced:
    """Another pod has its slot: it is promoted, or superseded."""

    since: float


@dataclass(frozen=True, slots=True)
class Primary:
    """Holds the rank's Lease."""


Place = Appointed | Undecided | Redundant | Displaced | Primary


class Finding(Enum):
    """What a Lease says of this pod."""

    GRANTED = auto()
    """The pod is primary from now on."""
    RENUMBERED = auto()
    """The primary holds its Lease in another term."""
    REDUNDANT = auto()
    """The pod is redundant from now on."""
    FOLLOWS = auto()
    """Still redundant; the primary may have a newer checkpoint."""
    SUPERSEDED = auto()
    UNCLEAR = auto()
    """Read again."""
    NOTHING = auto()


def judge_rank(place: Place, record: LeaseRecord, pod: str, term: Term | None, asked_at: float | None) -> Finding:
    """Judge the rank's Lease. `term` is that of the Lease held; `asked_at` is when the GET was sent, None: watched."""
    if record.holder == pod:
        if not isinstance(place, Primary):
            return Finding.GRANTED
        return Finding.RENUMBERED if record.term != term else Finding.NOTHING
    match place:
        case Primary():
            assert term is not None
            is_newer = record.term > term or (record.holder and record.term == term)
            return Finding.SUPERSEDED if is_newer else Finding.NOTHING
        case Undecided():
            return Finding.REDUNDANT
        case Redundant():
            return Finding.FOLLOWS
        case Appointed():
            return Finding.SUPERSEDED if record.holder and asked_at is not None else Finding.UNCLEAR
        case Displaced(since):
            later = asked_at is not None and asked_at >= since
            return Finding.SUPERSEDED if record.holder and later else Finding.UNCLEAR


@dataclass(slots=True)
class Standing:
    """The place that the pod has now; the machine alone changes it."""

    place: Place

    @property
    def is_primary(self) -> bool:
        """Return whether the pod is its rank's primary, as far as it knows."""
        return isinstance(self.place, Primary)

    @property
    def is_redundant(self) -> bool:
        """Return whether the pod waits beside a primary, with or without its slot."""
        return isinstance(self.place, Redundant | Displaced)

    @property
    def is_undecided(self) -> bool:
        """Return whether the rank's Lease has not decided yet."""
        return isinstance(self.place, Appointed | Undecided)
