"""The trainer's own words in a renewal, and the same renewal without them. Pure.

All that a renewal carries is within the bounds of the contract (lease.py). A policy of the cluster, or a later version
of the API server, may refuse a text all the same. The renewal is then sent again without any text of the trainer.
"""

from dataclasses import dataclass, replace

import msgspec
from understudy_contract.reports import FirstStep, Heartbeat, Notice

from understudy.agent.model import Renew


@dataclass(frozen=True, slots=True)
class Words:
    """What a renewal repeats of the trainer's own words."""

    volume: str | None
    model: str | None
    first_step: FirstStep | None
    last: str
    """Message of the release, if it is one."""
    notice: Notice | None


def words_of(renewal: Renew) -> Words:
    """Return the words of the trainer that this renewal carries."""
    beat, release = renewal.beat, renewal.release
    last = release.message if release is not None else ""
    return Words(beat.volume, beat.model, beat.first_step, last, renewal.notice)


def without_words(renewal: Renew) -> Renew:
    """Leave the trainer's words out. A field that is added to the heartbeat is left out, unless it is listed here."""
    beat, release = renewal.beat, renewal.release
    plain = Heartbeat(
        pod=beat.pod,
        term=beat.term,
        phase=beat.phase,
        step=beat.step,
        loaded=beat.loaded,
        checkpoint=beat.checkpoint,
        duration_s=beat.duration_s,
        term_floor=beat.term_floor,
        failures=beat.failures,
        restarts=beat.restarts,
    )
    silent = msgspec.structs.replace(release, message="") if release is not None else None
    return replace(renewal, beat=plain, release=silent, notice=None)
