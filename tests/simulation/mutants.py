"""The product with one of its protections taken out, to see whether the simulation notices.

Each mutant names what is broken and edits the source of the functions that protect from it. An edit whose text is not
found exactly once fails: a mutant that has lost its target says so instead of passing. The edited code is put under the
very same function objects, so that it holds wherever they were imported. The last ones take out what was put in since a
seed had failed.

    python -m tests.simulation.mutants          tells which seed finds each, and how, for `found_by` and `breaks`
"""

import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from understudy.agent.machine import Machine
from understudy.checkpoint import format as checkpoint_format
from understudy.checkpoint import lineage
from understudy.checkpoint.folder import RankFolder
from understudy.checkpoint.store import RankStore
from understudy.checkpoint.writer import TermWriter
from understudy.trainer.content import Content
from understudy.trainer.loading import Loader
from understudy.trainer.restore import Restorer
from understudy.trainer.session import Session
from understudy_contract import lease as lease_contract
from understudy_contract.lease import LeaseRecord
from understudy_operator.core import decide, detection, provisioning, silence, states, succession
from understudy_operator.core.actions import Promote
from understudy_operator.core.fleet import Fleet
from understudy_operator.hearing import Hearing
from understudy_operator.ranks import Ranks

from tests.simulation.simulation import simulate


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a function's source."""

    function: Callable[..., Any]
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A protection taken out."""

    name: str
    breaks: int
    """Number of the invariant that notices."""
    found_by: int
    """A seed of test_simulation that finds it."""
    edits: tuple[Edit, ...]


def _property(owner: type, name: str) -> Callable[..., Any]:
    getter: Callable[..., Any] = inspect.getattr_static(owner, name).fget
    return getter


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Run the product with this mutant's edits."""
    with ExitStack() as stack:
        for function in {edit.function: None for edit in mutant.edits}:
            stack.enter_context(_edited(function, [edit for edit in mutant.edits if edit.function is function]))
        yield


@contextmanager
def _edited(function: Any, edits: list[Edit]) -> Iterator[None]:
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        assert source.count(edit.old) == 1, f"{function.__qualname__} holds {source.count(edit.old)} times: {edit.old}"
        source = source.replace(edit.old, edit.new)
    lines = source.splitlines(keepends=True)
    while lines[0].startswith("@"):
        del lines[0]
    made: dict[str, Any] = {}
    exec(compile("".join(lines), f"<mutant of {function.__qualname__}>", "exec"), function.__globals__, made)
    before = function.__code__
    function.__code__ = made[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = before


MUTANTS: tuple[Mutant, ...] = (
    # The operator
    Mutant(
        "a Lease is written without compare-and-set",
        6,
        101,
        (Edit(Ranks._swap, '"resourceVersion": lease.resource_version, ', ""),),
    ),
    Mutant(
        "a promotion keeps the term",
        1,
        0,
        (Edit(_property(Promote, "term"), "self.lease.term + 1", "self.lease.term"),),
    ),
    Mutant(
        "silence is read off renewTime",
        7,
        11,
        (
            Edit(
                Hearing.lease,
                "max(changed_at, self._contact.since(record.patience_s / 2))",
                "self._clock() - (__import__('asyncio').get_running_loop().wall()"
                " - __import__('datetime').datetime.fromisoformat(record.renew_time)).total_seconds()"
                " if record.renew_time else changed_at",
            ),
        ),
    ),
    Mutant(
        "silence counts while nobody could be heard",
        7,
        10,
        (
            Edit(Hearing.lease, "max(changed_at, self._contact.since(record.patience_s / 2))", "changed_at"),
            Edit(Hearing.lease, "self._workers.since(record.patience_s / 2)", "float('-inf')"),
            Edit(states._judge_rank, " and c.steady_at <= fleet.at", ""),
        ),
    ),
    Mutant(
        "nobody holds still when all are silent",
        7,
        12,
        (
            Edit(_property(Fleet, "control_plane_degraded"), "return several and (", "return False and ("),
            Edit(silence.primary_lost_at, "fleet.any_worker_heard_at < due", "False"),
        ),
    ),
    Mutant(
        "a release counts in every term",
        6,
        27,
        (
            Edit(_property(LeaseRecord, "current_release"), " and self.release.term == self.term", ""),
            Edit(Ranks.promote, "Annotation.RELEASED: None,", ""),
        ),
    ),
    Mutant(
        "complete is an end like any other",
        6,
        1,
        (
            Edit(detection.judge_primary, "math.inf if release.reason == ReleaseReason.COMPLETED else ", ""),
            Edit(states.judge, " and not done", ""),
            Edit(decide._outcome, " or rank.complete", ""),
        ),
    ),
    Mutant(
        "a pod's number is not taken before the pod is made",
        9,
        0,
        (Edit(Ranks.assign_slot, "str(rank.incarnation + 1)", "str(rank.incarnation)"),),
    ),
    Mutant(
        "the holder's pod is spared by nobody",
        7,
        0,
        (Edit(provisioning.removals, "pod.finished or (pod.name == holder and not over)", "pod.finished"),),
    ),
    Mutant(
        "labels stay as they were given",
        8,
        3,
        (Edit(provisioning.labels, "if (pod.role, pod.term) != (role, pod_term):", "if False:"),),
    ),
    Mutant(
        "each failover is counted as the first",
        15,
        12,
        (Edit(succession._record, "(last.failovers if last else 0) + 1", "1"),),
    ),
    # The agent
    Mutant(
        "a renewal does not ask who holds the Lease",
        2,
        230,
        (
            Edit(
                lease_contract.renewal_patch,
                """        {"op": "test", "path": "/spec/holderIdentity", "value": beat.pod},
        {"op": "test", "path": "/spec/leaseTransitions", "value": beat.term},
""",
                "",
            ),
        ),
    ),
    Mutant(
        "a renewal that fails proves that another holds the Lease",
        10,
        3,
        (
            Edit(
                Machine._on_answer,
                "if isinstance(event, model.RenewalFailed) and event.refused:\n"
                "        self._reads.request(event.lease, self._turn.now)",
                "if isinstance(event, model.RenewalFailed) and not self._supervisor.is_ending:\n"
                "        self._supervisor.supersede(99)",
            ),
        ),
    ),
    Mutant(
        "a hand-over saves nothing",
        12,
        0,
        (Edit(Session.poll, "self._saves.commit(self._completed)", "self._saves.newest"),),
    ),
    # The checkpoints
    Mutant(
        "a checkpoint's extra state lives on until it is written",
        4,
        30,
        (Edit(Content.envelope, "as_json(self._state.extra())", "self._state.extra()"),),
    ),
    Mutant(
        "the warm-up leaves a trace in the extra state",
        4,
        27,
        (Edit(Content.warm_up, "self._state.load_extra(extra)", "pass"),),
    ),
    Mutant(
        "the path has no term",
        2,
        0,
        (
            Edit(RankFolder.term_path, 'f"term-{term}-{pod_uid}"', 'f"term-1-{pod_uid}"'),
            Edit(checkpoint_format._require_in_place, "manifest.term > term[0]", "False"),
        ),
    ),
    Mutant(
        "every term counts, with a BASE or without",
        11,
        37,
        (Edit(RankFolder.term_folder, "BASE in names", "True"),),
    ),
    Mutant(
        "BASE is a pointer",
        3,
        0,
        (
            Edit(TermWriter._open, "self._base.link()", "pass"),
            Edit(
                TermWriter._settle_base,
                """    if base.settle():
        self._declare()
        self._kept[base.ref.step] = base.ref
""",
                "    self._declare()\n",
            ),
        ),
    ),
    Mutant(
        "a commit's files are renamed before they are durable",
        3,
        70,
        (Edit(TermWriter._commit, "    self._fs.sync(temporary)\n", ""),),
    ),
    Mutant(
        "a commit's name is not made durable",
        3,
        70,
        (Edit(TermWriter._commit, "    self._fs.sync(self.path)\n", ""),),
    ),
    Mutant(
        "a stale redundant pod goes on from what it has loaded",
        3,
        3,
        (Edit(Loader.catch_up, " and loaded == self._source.peek(floor)", ""),),
    ),
    Mutant(
        "the floor is ignored",
        3,
        273,
        (
            Edit(Loader.catch_up, "self._source.peek(floor)", "self._source.peek(None)"),
            Edit(Loader.catch_up, "self._source.newest(floor)", "self._source.newest(None)"),
        ),
    ),
    Mutant(
        "the floor is not waited for",
        3,
        273,
        (Edit(RankStore._await, "self._until(shown, deadline)", "True"),),
    ),
    Mutant(
        "a writer removes older terms before its own counts",
        3,
        227,
        (
            Edit(
                TermWriter._commit,
                "    self._sweep()\n",
                "    self._sweep()\n    remove_older_terms(self._rank, self.term, spare=None)\n",
            ),
        ),
    ),
    Mutant(
        "a fallback leaves the line",
        5,
        313,
        (Edit(lineage._walk, "if step <= base.step:", "if True:"),),
    ),
    Mutant(
        "checksums are not compared",
        4,
        79,
        (Edit(checkpoint_format._verified, "(crc := zlib.crc32(part)) != entry.crc32", "crc := 0"),),
    ),
    # What the simulation has found, undone
    Mutant(
        "an id that cannot be seen yet is another volume's",
        11,
        96,
        (Edit(Restorer.begin, "wait_s=FLOOR_WAIT_S if order.volume is not None else 0.0", ""),),
    ),
    Mutant(
        "a list of pruned names is believed",
        11,
        151,
        (Edit(RankStore.newest, "if attempt.is_stale and looked_at < deadline:", "if False:"),),
    ),
)


def main() -> None:
    """Tell the first seed that finds each mutant, and what it breaks there."""
    for mutant in MUTANTS:
        with applied(mutant):
            seed, broken = next((seed, found) for seed in itertools.count() if (found := simulate(seed).violation))
        print(f"{seed:>5}  {mutant.name}: {broken}", flush=True)


if __name__ == "__main__":
    main()
