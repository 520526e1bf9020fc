"""What came of one fault: which primaries were lost, when that was noticed, when training went on, what it cost.

Read off the workers' logs and the ranks' Leases, not off the status, which is compared with them. `wrong` holds a
sentence for whatever should not have happened; nothing is raised, since the verdict comes at the end of the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from understudy_contract.reports import Cause
from understudy_contract.status import FailoverStatus

from chaos.account import Seen
from chaos.kinds import KINDS
from chaos.strike import Strike
from chaos.target import Target
from chaos.ward import LEASE_S, Ward
from testbed import TestbedError
from testbed.pods import Pod

STATUS_WITHIN_S: Final = 60
ACKNOWLEDGE_S: Final = 2.0
"""What the operator gives a successor to report, at least."""
UNTOLD: Final = frozenset({Cause.PROCESS_EXITED, Cause.STALLED})
"""Causes that only a release tells."""
CLOCKS_S: Final = 0.3
"""A renewal is stamped before it is sent, and heard some time after."""
LATE_ONE_IN: Final = 100
"""Primaries that faults took, for each that a busy machine may take beside them; one in any run."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One primary that was lost."""

    target: str
    term: int
    old: str
    new: str
    cause: str
    cold: bool
    decided_s: float
    """Fault to the operator's decision."""
    recovered_s: float | None
    """Fault to the rank's first step in that term or a later one."""
    lost_steps: int | None
    """Steps taken that have to be taken again; None where the logs do not tell."""
    late: bool
    """No fault asked for it: the worker had truly not renewed for as long as it may."""


@dataclass(slots=True)
class Outcome:
    """One fault and what came of it."""

    number: int
    kind: str
    what: str
    after: int | None = None
    """Number of the fault upon which it came before that was over."""
    paired: bool = False
    """It came upon another, or another upon it."""
    at: float = 0.0
    ended: float = 0.0
    """When it had been put right, wall clock."""
    void: str = ""
    """Why there was nothing to strike any more."""
    losses: list[Loss] = field(default_factory=list)
    whole_s: float | None = None
    """Fault to full redundancy of all jobs."""
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sent:
    """A fault that was sent, and what there was at that moment."""

    strike: Strike
    outcome: Outcome
    primaries: dict[Target, Pod]
    committed: dict[Target, int]
    """Newest step on the volume at the fault that was whole, by rank: nobody may go on from less."""
    damaged: Mapping[Target, int] = field(default_factory=dict)
    """Step of each checkpoint that was damaged with it: nobody may go on from that."""


def attribute(ward: Ward, sent: Sequence[Sent], failovers: Sequence[Seen]) -> None:
    """Give each failover to the fault that explains it, and note what is wrong with it."""
    unmade = [seen for seen in failovers if not ward.world.was_made(seen.old)]
    begun = {seen.new for seen in failovers if seen.cold}
    overtaken = [seen for seen in failovers if seen.old in begun and gives_up_a_start(seen)]
    for seen in failovers:
        owner = owner_of(seen, sent, made=seen not in unmade, overtaken=seen in overtaken)
        late = owner is None and excused(seen, sent)
        if owner is None and not late:
            sent[-1].outcome.wrong.append(
                f"{_passed(seen)}, which is no consequence of: {' and '.join(s.strike.what for s in sent)}"
            )
        owner = owner or sent[-1]
        loss = _loss(ward, owner, seen, late=late)
        owner.outcome.losses.append(loss)
        owner.outcome.wrong += _wrong(ward, owner, seen, loss, sent)
    for one in sent:
        for target in one.strike.touched:
            most = sum(at_most(s.strike, target) for s in sent)
            mine = [seen for seen in failovers if seen.target == target and seen not in (*unmade, *overtaken)]
            count = sum(not truly_silent(seen, sent) for seen in mine)
            if count > most and not any(target in s.strike.blurs for s in sent):
                one.outcome.wrong.append(f"{target} was passed on {count} times, where {most} would do")


def gives_up_a_start(seen: Seen) -> bool:
    """Tell whether a pod was given up that had not reported yet: as a cold start, for a redundant one that had."""
    return seen.cause == Cause.LEASE_EXPIRED and not seen.acknowledged and not seen.cold


def owner_of(seen: Seen, sent: Sequence[Sent], *, made: bool, overtaken: bool) -> Sent | None:
    """Find the fault that explains a failover, the latest first.

    A pod that was promoted and not `made` is lost by the end of the operator that was to make it, and by nothing else:
    the next one gives the rank to a redundant pod that has become warm, or, without a word, to another that it makes.
    A cold start that is `overtaken` by a redundant pod belongs to whatever the cold start comes of.
    """
    before = [one for one in reversed(sent) if one.outcome.at <= seen.promoted_at]
    if overtaken:
        return next((one for one in before if seen.target in one.strike.touched), None)
    if not made:
        return next((one for one in before if KINDS[one.outcome.kind].ends_operators), None)
    return next((one for one in before if explains(one, seen, sent) or is_spoken_against(one, seen, sent)), None)


def is_spoken_against(one: Sent, seen: Seen, sent: Sequence[Sent]) -> bool:
    """Tell whether all workers were cut off, and a pod that another fault had made necessary meanwhile was heard.

    Beside one that is heard, nobody can tell a primary that is cut off from a dead one.
    """
    silent = seen.cause == Cause.LEASE_EXPIRED and seen.promoted_at - seen.renewed_at >= LEASE_S - CLOCKS_S
    return silent and len(sent) > 1 and seen.old in one.strike.cut and seen.new not in one.strike.cut


def at_most(strike: Strike, target: Target) -> int:
    """Say how often a fault can cost a rank its primary: each pod that it takes is lost once."""
    if strike.takes:
        return sum(name.rpartition("-")[0] == f"{target.job}-{target.rank}" for name in strike.takes)
    return (target in strike.must) + (target in strike.may)


def excused(seen: Seen, sent: Sequence[Sent]) -> bool:
    """Tell whether a failover that no fault asked for may be that of a busy machine.

    A fault of which nothing may come is sent to see just that: without another, it excuses no silence.
    """
    harmless = not any(one.strike.touched for one in sent)
    return truly_silent(seen, sent) and not harmless


def lost_without_fault(outcomes: Sequence[Outcome], failovers: Sequence[Seen]) -> list[str]:
    """Say which primaries were lost though no fault asked for it, if they are more than a busy machine explains.

    From outside, an agent that stops renewing looks like one that gets no CPU. No measure of the machine tells them
    apart: two cores under chaos are always short of CPU (/proc/pressure/cpu: a third of the time), so that this would
    excuse everything. How many there are does: long runs had none or one. So one is let pass in any run, and of more
    than a hundred primaries one in a hundred; an agent that falls silent less often than that is not found here. A
    failover between two faults counts like one beside them, and is wrong at once if it was not for silence.
    """
    losses = [(outcome.number, loss) for outcome in outcomes for loss in outcome.losses]
    known = {(loss.target, loss.term, loss.new) for _, loss in losses}
    late = [f"{loss.old} beside fault {number}" for number, loss in losses if loss.late]
    most = max(1, (len(losses) - len(late)) // LATE_ONE_IN)
    wrong = []
    for seen in failovers:
        if (str(seen.target), seen.term, seen.new) in known:
            continue
        if truly_silent(seen, ()):
            late.append(f"{seen.old} between two faults")
        else:
            wrong.append(f"{_passed(seen)}, which belongs to no fault")
    if len(late) > most:
        wrong.append(f"{len(late)} primaries fell silent and no fault asked for it, {most} would do: {', '.join(late)}")
    return wrong


def truly_silent(seen: Seen, sent: Sequence[Sent]) -> bool:
    """Tell whether a primary was silent for as long as it may be, at a time when it could have been heard.

    What was not renewed while nobody could hear it counts from the end of that on. A successor that has not reported
    yet is given less than a slow API server may take for it.
    """
    deaf = [one for one in sent if one.strike.deafens and (seen.acknowledged or not one.strike.slows)]
    audible = max([seen.renewed_at, *(one.outcome.ended for one in deaf)])
    patience_s = LEASE_S if seen.acknowledged else ACKNOWLEDGE_S
    return seen.cause == Cause.LEASE_EXPIRED and seen.promoted_at - audible >= patience_s - CLOCKS_S


def explains(one: Sent, seen: Seen, sent: Sequence[Sent]) -> bool:
    """Tell whether a failover is a consequence of this fault, sent together with others."""
    target, strike = seen.target, one.strike
    if any(target in other.strike.blurs for other in sent if other is not one):
        return target in strike.touched
    if strike.takes and seen.old not in strike.takes:
        return False
    told = {seen.cause}
    if seen.cause == Cause.CONTAINER_EXITED and any(other.strike.deafens for other in sent):
        told |= UNTOLD  # an agent that cannot write its release for a whole lease ends without it
    first = (was := one.primaries.get(target)) is not None and was.name == seen.old
    allowed = (strike.must,) if first and target in strike.must else (strike.must, strike.may)
    return any(told & causes.get(target, frozenset()) for causes in allowed)


def _passed(seen: Seen) -> str:
    return f"{seen.target} passed from {seen.old} to {seen.new} (term {seen.term}, {seen.cause}: {seen.message})"


def _loss(ward: Ward, sent: Sent, seen: Seen, *, late: bool) -> Loss:
    logs, at = ward.testbed.logs, sent.outcome.at
    old, new = logs.of(seen.old), logs.of(seen.new)
    firsts = [
        step
        for log in logs.all()
        if log.rank == seen.target.rank and log.pod.startswith(f"{seen.target.job}-")
        if (step := log.first_step(above_term=seen.old_term))
    ]
    first = min((step.at for step in firsts), default=None)
    # Not by its term: a rank whose Lease was made anew has another one than its trainer goes by.
    steps = [step.step for step in old.steps if not sent.strike.runs_on or step.at <= at]
    resumed = new.resumed_at(seen.term)
    lost = max(0, steps[-1] - resumed[1]) if steps and resumed is not None else None
    return Loss(
        target=str(seen.target),
        term=seen.term,
        old=seen.old,
        new=seen.new,
        cause=seen.cause,
        cold=seen.cold,
        decided_s=seen.promoted_at - at,
        recovered_s=first - at if first is not None else None,
        lost_steps=lost,
        late=late,
    )


def wrongly_resumed(owner: Sent, seen: Seen, at: float, step: int, sent: Sequence[Sent]) -> list[str]:
    """Say what is wrong with the step that a successor went on from at this moment.

    What has been damaged since the fault cannot be gone on from; where no other fault leaves anybody with that state in
    memory, nobody may.
    """
    damages = [one for one in sent if seen.target in one.damaged and one.outcome.at <= at]
    committed = min(one.committed.get(seen.target, 0) for one in (owner, *damages))
    if step < committed:
        return [f"{seen.new} went on from step {step} of {seen.target}, where {committed} was on the volume"]
    if len(sent) == 1 and step == owner.damaged.get(seen.target):
        return [f"{seen.new} went on from step {step} of {seen.target}, which was damaged"]
    return []


def _wrong(ward: Ward, owner: Sent, seen: Seen, loss: Loss, sent: Sequence[Sent]) -> list[str]:
    wrong, alone, strike = [], len(sent) == 1, owner.strike
    if (resumed := ward.testbed.logs.of(seen.new).resumed_at(seen.term)) is not None:
        wrong += wrongly_resumed(owner, seen, *resumed, sent)
    if strike.lossless and alone and not loss.late and loss.lost_steps:
        wrong.append(f"{seen.target} lost {loss.lost_steps} steps in a hand-over")
    if ward.world.rank(seen.target.job, seen.target.rank).term != seen.term:
        return wrong  # not the rank's last one: a status that was deleted does not know it any more
    try:
        told = ward.testbed.wait_until(
            lambda: _status_entry(ward, seen),
            timeout_s=STATUS_WITHIN_S,
            what=f"the failover of {seen.target} to {seen.new} at term {seen.term} ({seen.cause}) in the status",
        )
    except TestbedError as error:
        return [*wrong, str(error)]
    if alone and loss.lost_steps is not None and not strike.runs_on:
        wrong += _lost_steps_told(seen, told, loss.lost_steps)
    return wrong


def _status_entry(ward: Ward, seen: Seen) -> FailoverStatus | None:
    listed = ward.testbed.status(seen.target.job).failovers_of(seen.target.rank)
    wanted = (seen.term, seen.old, seen.new, seen.cause)
    same = (entry for entry in listed if (entry.term, entry.source, entry.target, entry.cause) == wanted)
    return next((entry for entry in same if entry.first_step_at is not None), None)


def _lost_steps_told(seen: Seen, told: FailoverStatus, lost: int) -> list[str]:
    """Compare lost steps; one more may be told, since a step is counted before its line is printed."""
    said, bound = told.lost_steps or 0, bool(told.lost_steps_is_lower_bound)
    if (0 if bound else lost) <= said <= lost + 1:
        return []
    least = "at least " if bound else ""
    return [f"the status says that {seen.target} lost {least}{said} steps at term {seen.term}; the logs say {lost}"]
