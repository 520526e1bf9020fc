"""The changes of a Lease that make no new holder: what each writes, and how it is guarded. Pure.

| change | guard | why |
|---|---|---|
| give a rank up | version | what a release says that has arrived since, complete above all, must not be lost |
| raise a term | version | a release counts in its own term only, and one that has arrived since would be lost |
| vacate | version | a holder that has renewed since is not gone |
| take a switchover | holder | only operators write it; a renewal in between changes nothing about the request |
| set the duration | holder | only operators write it; a holder reads it in the answer to its next renewal |

A new holder comes by `Promote` and `AssignSlot` alone (ranks.py).
"""

from understudy_contract.lease import LeaseRecord, encode
from understudy_contract.names import Annotation, Rank, Term
from understudy_contract.reports import CheckpointRef, GivenUp

from understudy_operator.core.actions import Guard, PatchLease


def give_up(rank: Rank, record: LeaseRecord, why: GivenUp) -> PatchLease:
    """Write down that a rank has failed too often: the job has failed."""
    return PatchLease(rank, record, Guard.VERSION, {Annotation.GIVEN_UP: encode(why)}, {}, f"given up: {why.message}")


def raise_term(rank: Rank, record: LeaseRecord, term: Term) -> PatchLease:
    """Let the holder go on in a term above all that the volume has seen."""
    seen = f"since the volume has seen term {term - 1}: was etcd restored?"
    said = f"{record.holder} goes on in term {term}, {seen}"
    return PatchLease(rank, record, Guard.VERSION, {}, {"leaseTransitions": term}, said)


def vacate(rank: Rank, record: LeaseRecord, floor: CheckpointRef | None = None) -> PatchLease:
    """Leave a Lease to nobody; of a rank's own Lease the term stays, and the floor is kept in the operator's words."""
    notes: dict[Annotation, str | None] = {Annotation.RELEASED: None, Annotation.NOTICE: None}
    if floor is not None:
        notes[Annotation.FLOOR] = encode(floor)
    return PatchLease(rank, record, Guard.VERSION, notes, {"holderIdentity": None})


def take_switchover(rank: Rank, record: LeaseRecord) -> PatchLease:
    """Write down that the present term is to end by a switchover."""
    return PatchLease(rank, record, Guard.HOLDER, {Annotation.SWITCHOVER: str(record.term)}, {})


def set_duration(rank: Rank, record: LeaseRecord, duration_s: int) -> PatchLease:
    """Let a change of leaseDurationSeconds reach a holder, and keep the longest by which it may still go."""
    longest_s = max(record.duration_s, record.former_duration_s)
    notes = {Annotation.FORMER_DURATION: str(longest_s)}
    return PatchLease(rank, record, Guard.HOLDER, notes, {"leaseDurationSeconds": duration_s})
