"""What this process knows of one job beyond what the API tells; lost with the process, and nothing is unsafe without.

Pods that are pending have a name and are not seen yet: a Lease names the pod before it is created. Two writes that are
under way may want the same name. So a pending pod is counted once for each write that has begun and may have taken
effect, and the write that fails leaves the name to the other one. A pod that the watch shows is pending no more.

Reads no clock: each method is told when it happened.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from understudy_operator.allowance import Allowance
from understudy_operator.core.actions import Emit
from understudy_operator.core.model import Aim, Killed, Problem

LAST_WORDS_KEPT: Final = 16
"""Notices of former primaries that wait to be posted: of a job that is lost faster than it may tell, the oldest go."""


@dataclass(slots=True)
class Memo:
    """The memory of one job."""

    identity: str = ""
    """The identity (Job.identity) for which children were made."""
    prepared_at: float = -math.inf
    """When the children that never change were made sure of."""
    prepared_generation: int = 0
    granted: frozenset[tuple[str | None, str]] = frozenset()
    """Accounts and Leases that they may renew, made sure of since the job was prepared last."""
    budgets: bool | None = None
    """Each rank has a PodDisruptionBudget, or none has; None: to be looked at."""
    problems: dict[Aim, Problem] = field(default_factory=dict)
    """What the API refuses, by action and rank."""
    pending_pods: Counter[str] = field(default_factory=Counter)
    """Pods that are to be made and were not seen yet, by how many writes may want each."""
    deleted_pods: set[str] = field(default_factory=set)
    """Pods that were seen and are no more, as long as a slot's Lease names them."""
    emitted: set[str] = field(default_factory=set)
    """Keys of Events that were posted, as long as they are wanted."""
    allowance: Allowance = field(default_factory=Allowance)
    """How many Events may still be posted."""
    last_words: dict[str, Emit] = field(default_factory=dict)
    """What former primaries said along with their end, by key, until it is posted: no Lease says it any more."""
    killed: dict[str, Killed] = field(default_factory=dict)
    """What the Events of pods said that were told to end, by uid, as long as the pods are there."""
    status_written_at: float = -math.inf
    room_made_at: dict[Aim, float] = field(default_factory=dict)
    """When an ended pod was removed last, so that a quota has room for what it had refused."""
    faults: set[str] = field(default_factory=set)
    """Parts of a decision that failed the last time: logged once."""

    def belongs_to(self, identity: str) -> None:
        """Forget the children that were made for another identity: those of this one are looked at anew."""
        if self.identity != identity:
            self.identity, self.prepared_at, self.budgets, self.granted = identity, -math.inf, None, frozenset()

    def prepared(self, generation: int, at: float) -> None:
        """Take note that the job's children were made sure of; rights and budgets are then looked at again, too."""
        self.prepared_at, self.prepared_generation, self.granted = at, generation, frozenset()
        # Where there are to be no budgets, nobody but this operator makes one.
        self.budgets = False if self.budgets is False else None

    def expect(self, pod: str) -> None:
        """Begin a write that names a pod to come. To be called before the request: the watch may be first."""
        self.pending_pods[pod] += 1

    def refused(self, pod: str) -> None:
        """Take note that the write which named a pod had no effect."""
        self.pending_pods -= Counter([pod])

    def expect_no_more(self, pod: str) -> None:
        """Take note that a pod was seen or looked for, or that it is not to be made any more."""
        self.pending_pods.pop(pod, None)

    def keep(self, *, pods: Iterable[str], named: Iterable[str]) -> None:
        """Forget what concerns only pods that are gone (`pods`: uids) and pods that no slot names any more."""
        there = set(pods)
        self.killed = {uid: killed for uid, killed in self.killed.items() if uid in there}
        self.deleted_pods.intersection_update(named)

    def over(self, aim: Aim) -> None:
        """Take note that an action succeeded."""
        self.problems.pop(aim, None)
        self.room_made_at.pop(aim, None)

    def keep_last_words(self, events: Iterable[Emit]) -> None:
        """Keep what a former primary said until it is posted: the next promotion must not wait for that."""
        self.last_words |= {event.key: event for event in events if event.key not in self.emitted}
        while len(self.last_words) > LAST_WORDS_KEPT:
            del self.last_words[next(iter(self.last_words))]

    def posted(self, event: Emit, at: float) -> None:
        """Take note that an Event was posted."""
        self.allowance.spend(event, at)
        self.emitted.add(event.key)
        self.last_words.pop(event.key, None)
