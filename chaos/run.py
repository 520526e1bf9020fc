"""The run: fault after fault until the time is over, each when everything is whole again, some upon another.

Sleeps only where a fault lasts for a while, and between two that overlap.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from chaos.account import Account
from chaos.draw import Draw
from chaos.kinds import KINDS
from chaos.memory import Memory
from chaos.outcome import Outcome, Sent, attribute
from chaos.strike import Kind, Strike, Thing
from chaos.target import Target
from chaos.volume_audit import Audit, newest_step
from chaos.ward import TARGETS, Ward
from testbed import TestbedError, measure
from testbed.kube import wall

HIDING: Final = frozenset({Thing.CONTROL_PLANE, Thing.OPERATOR})
"""While one of these is away nobody counts how long a worker is silent."""


@dataclass(slots=True)
class Run:
    """Everything that happened."""

    ward: Ward
    say: Callable[[Outcome], None]
    """Told of each fault when all is whole again."""
    account: Account = field(default_factory=Account)
    audit: Audit = field(default_factory=Audit)
    memory: Memory = field(default_factory=Memory)
    outcomes: list[Outcome] = field(default_factory=list)
    events_worst_minute: int = 0

    def strike_until(self, deadline: float, sequence: Iterable[tuple[Draw, ...]]) -> None:
        """Send faults until the monotonic clock says `deadline`. TestbedError: a job has not become whole again."""
        for group in sequence:
            if time.monotonic() >= deadline:
                return
            self._strike(group)

    def _strike(self, group: tuple[Draw, ...]) -> None:
        sent: list[Sent] = []
        try:
            self._send(group, sent)
            self._undo(sent)
        except BaseException:
            for one in sent:
                with suppress(Exception):  # the run is over; nothing may stay broken
                    one.strike.undo()
            raise
        try:
            if sent:
                self._recover(sent)
        finally:
            for outcome in self.outcomes[-len(group) :]:
                self.say(outcome)
        self.memory.sample(self.ward)

    def _send(self, group: tuple[Draw, ...], sent: list[Sent]) -> None:
        aimed: list[Strike | None] = [None] * len(group)
        kinds = [KINDS[draw.kind] for draw in group]
        if len(group) > 1 and Thing.CONTROL_PLANE in kinds[0].touches:
            aimed[1] = self._aim(kinds[1], group[1])  # later nobody could ask what is where
        for place, (draw, kind) in enumerate(zip(group, kinds, strict=True)):
            if draw.after_s is not None:
                # Before the first is over, and without making it longer than it is to be.
                time.sleep(min([draw.after_s, *(one.strike.lasts_s for one in sent if one.strike.lasts_s)]))
            upon = group[0].number if place else None
            outcome = Outcome(draw.number, draw.kind, kind.title, after=upon, paired=len(group) > 1)
            self.outcomes.append(outcome)
            try:
                strike = aimed[place] or kind.aim(self.ward, draw)
                outcome.what = strike.what
                sent.append(self._fire(strike, outcome))
            except TestbedError as error:
                outcome.void = str(error)
                if len(group) == 1:  # everything was whole, so that nothing can have been in its way
                    outcome.wrong.append(f"it could not be sent: {error}")

    def _aim(self, kind: Kind, draw: Draw) -> Strike | None:
        try:
            return kind.aim(self.ward, draw)
        except TestbedError:
            return None

    def _fire(self, strike: Strike, outcome: Outcome) -> Sent:
        primaries = {t: pod for t in TARGETS if (pod := self.ward.world.rank(t.job, t.rank).primary) is not None}
        damaged = strike.damage()
        committed = {target: newest_step(self.ward.rank_folder(target), self.ward.damaged) for target in TARGETS}
        outcome.at = strike.fire()
        return Sent(strike, outcome, primaries, committed, damaged)

    def _undo(self, sent: list[Sent]) -> None:
        def order(one: Sent) -> tuple[bool, bool, float]:
            # The API server first: whatever else is to be put right may need it.
            plane = Thing.CONTROL_PLANE in KINDS[one.outcome.kind].touches
            return not plane, one.strike.waits, one.outcome.at + one.strike.lasts_s

        for one in sorted(sent, key=order):
            time.sleep(max(0.0, one.outcome.at + one.strike.lasts_s - wall()))  # so long is the fault
            if Thing.NODE in KINDS[one.outcome.kind].touches:
                self._read_disks(one)
            try:
                one.strike.undo()
            except TestbedError as error:
                one.outcome.wrong.append(str(error))
            one.outcome.ended = wall()
        if any(Thing.NODE in KINDS[one.outcome.kind].touches for one in sent):
            self.ward.testbed.logs.reconnect()

    def _read_disks(self, one: Sent) -> None:
        """Read what lost pods printed and could not send; once their node is back, it forgets them."""
        for target, pod in one.primaries.items():
            if target in one.strike.touched:
                measure.read_disk(self.ward.testbed, pod, self.ward.testbed.logs.of(pod.name))

    def _recover(self, sent: list[Sent]) -> None:
        began, ended = sent[0].outcome.at, wall()
        if missing := self.ward.wait_failovers(lambda: self._missing(sent)):
            sent[-1].outcome.wrong.append(missing)
        self.ward.wait_whole(ended)
        whole_at = wall()
        self.ward.wait_logs(ended)
        self.read()
        attribute(self.ward, sent, [seen for seen in self.account.failovers if seen.promoted_at >= began])
        for one in sent:
            one.outcome.whole_s = whole_at - one.outcome.at
        for target in TARGETS:
            self.audit.look(target, self.ward.rank_folder(target), self.ward.damaged)

    def _missing(self, sent: list[Sent]) -> list[Target]:
        """List the ranks that must lose their primary by one of these faults and have not yet."""
        self.read()
        missing = []
        for one in sent:
            others = [other for other in sent if other is not one]
            hidden = any(KINDS[other.outcome.kind].touches & HIDING for other in others)
            if hidden and one.strike.runs_on and one.strike.lasts_s:
                continue  # the silence may be over before anybody could hear it
            wanted = set(one.strike.must) - {target for other in others for target in other.strike.touched}
            missing += [target for target in wanted if not self.account.of(target, one.outcome.at)]
        return missing

    def read(self) -> None:
        """Take in what the Leases have shown since the last time."""
        with self.ward.world.changed:
            self.account.read(reversed(self.ward.world.lease_history), TARGETS)
