"""What must hold whatever happens, checked against the truth that no part of the product sees.

 1. At most one pod holds a rank in a term, and starts it, ever; terms of a rank only grow while its Lease lives.
 2. The durable floor of a rank names a checkpoint that was committed, and only grows while its Lease lives.
 3. Nothing reported is lost: the volume shows the floor or a descendant of it, and a primary starts from one.
 4. What is committed for a step is what a run without faults has after that step.
 5. A primary starts from the line of the terms that count: never from what a superseded one committed afterwards.
 6. Complete stays complete; a job whose program never fails for good never fails.
 7. No primary is replaced that renewed within its lease, unless it let go, ended or was deleted; an outage of the API
    server, which nobody can renew through, proves nothing. The operator deletes no pod that a Lease names.
 8. No two pods are labelled as primary of one term; at rest, the holder alone is labelled primary.
 9. A pod's name is used once.
10. A worker takes itself for superseded only if somebody else was given the rank, or its slot.
11. No part of the product meets an error that it should not.

A Lease that somebody deletes takes along what only it knew: of the floor and of the terms that were granted, 1, 2 and 3
then start anew, but no term is ever started twice, because the volume remembers. A checkpoint that is damaged behind
everybody's back may be passed over, but only along its line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from understudy import protocol
from understudy.checkpoint.filesystem import FileSystem
from understudy.checkpoint.folder import BASE
from understudy.checkpoint.format import read, read_manifest
from understudy.checkpoint.store import RankStore
from understudy.errors import CheckpointDamaged, UnderstudyError, VolumeTrouble
from understudy_contract.exits import ExitCode, ReleaseReason
from understudy_contract.lease import LeaseRecord, decode_lease
from understudy_contract.names import Annotation, Label, rank_lease_name
from understudy_contract.reports import CheckpointRef

from tests.simulation.server import Change
from tests.simulation.volume import ROOT
from tests.simulation.worker import Container
from tests.simulation.workload import undisturbed

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Line = tuple[CheckpointRef, ...]
PATIENCE = 0.85
"""Of a lease: what clocks that run a little fast leave of it."""
SETTLED_S = 30.0


class ViolationError(AssertionError):
    """The product broke a promise; the message says which, and how."""


class Rank:
    """What is known of one rank."""

    def __init__(self) -> None:
        self.holders: dict[int, str] = {}
        """Who was given each term, since the Lease was made."""
        self.starters: dict[int, str] = {}
        self.history: list[str] = []
        """Every pod that the rank was given to, in order."""
        self.granted_at: dict[int, float] = {}
        self.floors: dict[int, CheckpointRef | None] = {}
        """The floor when a term was granted."""
        self.floor: CheckpointRef | None = None
        self.renewed_at = 0.0
        self.passed_on_at = 0.0
        self.lines: dict[CheckpointRef, Line] = {}
        """Every commit, and the line of its term."""
        self.counting: dict[int, tuple[float, Line]] = {}
        """Terms with a BASE: since when, and on what they are based."""
        self.damaged = False


class Invariants:
    """Watches one simulation."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self.ranks = [Rank() for _ in range(sim.plan.ranks)]
        self._names: set[str] = set()
        self._stores: list[RankStore] = []
        sim.server.observers.append(self._on_change)
        sim.volume.renamed.append(self._on_rename)

    # What the API server takes in

    def _on_change(self, change: Change) -> None:
        match change.resource:
            case "leases":
                self._on_lease(change)
            case "pods":
                self._on_pod(change)
            case "trainingjobs" if change.old is not None and change.new is not None:
                before, after = (body.get("status", {}).get("phase") for body in (change.old, change.new))
                self._require(6, before != "Succeeded" or after == "Succeeded", f"the job was {before} and is {after}")
                self._require(6, after != "Failed", "the job has failed")

    def _on_lease(self, change: Change) -> None:
        number = next((n for n in range(len(self.ranks)) if change.name == rank_lease_name(self._sim.job, n)), None)
        if number is None:
            return
        rank = self.ranks[number]
        if change.new is None:
            rank.floor = None
            rank.holders.clear()
            return
        new = decode_lease(self._sim.server.raw("leases", change.name))
        old = _decode(change.old)
        passed_on = old is None or (old.holder, old.term) != (new.holder, new.term)
        if passed_on:
            self._on_grant(rank, old, new)
        if passed_on or change.who == new.holder:
            rank.renewed_at = self._sim.timeline.now
        self._on_floor(rank, new)
        if old is not None and _completed(old):
            self._require(6, _completed(new), f"{change.name} was complete and is not")

    def _on_grant(self, rank: Rank, old: LeaseRecord | None, new: LeaseRecord) -> None:
        held = rank.holders.setdefault(new.term, new.holder)
        self._require(1, held == new.holder, f"{held} and {new.holder} both hold term {new.term}")
        self._require(1, new.term >= max(rank.holders), f"term {new.term} comes after {max(rank.holders)}")
        rank.history.append(new.holder)
        if old is not None:
            self._require(1, new.term > old.term, f"{old.holder} -> {new.holder} without a new term")
            if old.holder != new.holder:
                self._on_replacement(rank, old, new)
        rank.granted_at[new.term] = rank.passed_on_at = self._sim.timeline.now
        rank.floors[new.term] = new.floor
        self.look_at_volume()

    def _on_replacement(self, rank: Rank, old: LeaseRecord, new: LeaseRecord) -> None:
        pod = self._sim.server.find("pods", old.holder)
        if old.current_release is not None or old.current_heartbeat is None or pod is None:
            return
        if pod["metadata"].get("deletionTimestamp") or pod["status"]["phase"] != "Running":
            return
        now, outage = self._sim.timeline.now, self._sim.outage
        silent_s, needed_s = now - rank.renewed_at, PATIENCE * old.duration_s
        what = f"{old.holder} was replaced by {new.holder} in term {new.term}"
        self._require(7, silent_s >= needed_s, f"{what}, {silent_s:.2f} s after a renewal")
        if outage.length_s > 0.7 * old.duration_s and rank.renewed_at < outage.ended_at:
            since_s = now - outage.ended_at
            self._require(7, since_s >= needed_s, f"{what}, {since_s:.2f} s after the API server came back")

    def _on_floor(self, rank: Rank, new: LeaseRecord) -> None:
        floor = new.floor
        if floor == rank.floor:
            return
        self._require(2, floor is not None, f"the floor {rank.floor} is forgotten")
        assert floor is not None
        self._require(2, floor in rank.lines, f"the floor {floor} was never committed")
        self._require(2, rank.floor is None or floor >= rank.floor, f"the floor goes back: {rank.floor} -> {floor}")
        rank.floor = floor

    def _on_pod(self, change: Change) -> None:
        if change.old is None:
            self._require(9, change.name not in self._names, f"the name {change.name} is used again")
            self._names.add(change.name)
        elif change.who.startswith("operator") and _ends(change):
            self._on_deletion(change.name)
        if change.new is not None and (term := change.new["metadata"].get("annotations", {}).get(Annotation.TERM)):
            labels = change.new["metadata"]["labels"]
            for pod in self._sim.server.all("pods"):
                meta = pod["metadata"]
                same = meta["labels"][Label.RANK] == labels[Label.RANK] and meta["name"] != change.name
                both = {meta["labels"].get(Label.ROLE), labels.get(Label.ROLE)} == {"primary"}
                twice = same and both and meta.get("annotations", {}).get(Annotation.TERM) == term
                self._require(8, not twice, f"{meta['name']} and {change.name} are labelled primary of term {term}")

    def _on_deletion(self, name: str) -> None:
        for lease in self._sim.server.all("leases"):
            record = _decode(lease)
            if record is None or record.holder != name or self._sim.complete(int(record.labels[Label.RANK])):  # type: ignore[index]
                continue
            serves = Label.SLOT not in (record.labels or {}) or self._serves(record)
            if serves and not record.switches_over and record.current_release is None:
                self._require(7, False, f"the operator deletes {name}, which {record.name} names")

    def _serves(self, slot: LeaseRecord) -> bool:
        """Tell whether a slot's Lease counts: once primary, a pod never is redundant again."""
        rank = self.ranks[int(slot.labels[Label.RANK])]  # type: ignore[index]
        return slot.holder not in rank.history

    # What happens on the volume

    def _on_rename(self, path: Path) -> None:
        folder = path.parent
        if not folder.name.startswith("term-"):
            return
        number = int(folder.parent.name.removeprefix("rank-"))
        rank, term = self.ranks[number], int(folder.name.split("-")[1])
        fs: FileSystem = self._sim.volume
        if path.name == BASE:
            self._on_base(number, rank, term, folder)
        elif path.name.startswith("step-"):
            with self._no_error(4, f"{path.name} of term {term}"):
                if read_manifest(fs, path)[0].term != term:
                    return  # a copy of its base
                found = read(fs, path)
            ref = found.ref
            value, steps = int(found.tensors["value"][0]), int(found.tensors["steps"])
            right = (value, steps) == (undisturbed(number, ref.step), ref.step)
            self._require(4, right, f"{path.name} of term {term} holds another state, after {steps} steps")
            rank.lines[ref] = found.line

    def _on_base(self, number: int, rank: Rank, term: int, folder: Path) -> None:
        steps = [name for name in self._sim.volume.names(folder) if name.startswith("step-")]
        self._require(3, bool(steps), f"term {term} of rank {number} counts and holds no checkpoint")
        with self._no_error(4, f"BASE of term {term}"):
            rank.counting[term] = (
                self._sim.timeline.now,
                self._store(number)._rank.line_of(
                    self._store(number)._rank.term_folder(term, folder.name.split("-", 2)[2])
                ),
            )

    def look_at_volume(self) -> None:
        """Require that whoever would start now, on a node without caches, finds what was reported."""
        for number, rank in enumerate(self.ranks):
            if rank.floor is None or rank.damaged:
                continue
            with self._no_error(3, f"rank {number}: {rank.floor} was reported"):
                found = self._store(number).newest(rank.floor, wait_s=0.0)
            shown = found is not None and not found.damaged and self._descends(rank, found.ref, rank.floor)
            self._require(3, shown, f"rank {number}: {rank.floor} was reported, the volume shows {found and found.ref}")

    # What workers do

    def on_message(self, container: Container, message: protocol.FromTrainer) -> None:
        """Take in what a trainer tells its agent."""
        if not isinstance(message, protocol.Started):
            return
        rank, term, start = self.ranks[container.context.rank], message.term, message.checkpoint
        first = rank.starters.setdefault(term, container.name)
        self._require(1, first == container.name, f"{first} and {container.name} both start term {term}")
        self._require(4, start in rank.lines, f"{container.name} starts from {start}, which nobody committed")
        floor = rank.floors.get(term)
        what = f"{container.name} starts term {term} from {start}"
        if floor is not None:
            keeps = self._descends(rank, start, floor)
            back = rank.damaged and self._leads_to(rank, floor, start)
            self._require(3, keeps or back, f"{what}, the floor being {floor}")
        if not rank.damaged:
            self._on_start(rank, term, start, floor, what)

    def _on_start(self, rank: Rank, term: int, start: CheckpointRef, floor: CheckpointRef | None, what: str) -> None:
        """Require that the start is of the line of the highest term that every node can see to count."""
        sure = rank.granted_at.get(term, 0.0) - self._sim.plan.cache_s
        counting = [other for other, (since, _) in rank.counting.items() if start.term < other < term and since <= sure]
        if not counting:
            return
        highest = max(counting)
        line = rank.counting[highest][1]
        if floor is not None and not any(b.term == floor.term and b.step >= floor.step for b in line):
            return  # the floor goes before a line that does not hold it
        of_line = any(base.term == start.term and start.step <= base.step for base in line)
        self._require(5, of_line, f"{what}, but term {highest} counts, which is based on {line}")

    def on_exit(self, container: Container) -> None:
        """Take in the end of a container."""
        for text in container.agent.trouble:
            self._require(11, False, f"{container.name}: {text}")
        if container.code == ExitCode.SUPERSEDED:
            what = f"{container.name} takes itself for superseded, and nobody else was given its Lease"
            self._require(10, self._has_successor(container), what)
        self.look_at_volume()

    def _has_successor(self, container: Container) -> bool:
        history = self.ranks[container.context.rank].history
        if container.name in history:
            return history[-1] != container.name
        slot = self._sim.server.find("leases", container.settings.slot_lease or "")
        return slot is None or slot["spec"].get("holderIdentity") != container.name

    def on_failure(self, container: Container, error: BaseException) -> None:
        """Take in an exception that ends a script."""
        rank = self.ranks[container.context.rank]
        expected = isinstance(error, VolumeTrouble) or (rank.damaged and isinstance(error, CheckpointDamaged))
        self._require(11, expected, f"the script of {container.name} fails: {type(error).__name__}: {error}")

    # At rest

    def at_rest(self) -> None:
        """Check what holds when nothing has happened for a while."""
        if self._sim.is_over():
            return
        for number, rank in enumerate(self.ranks):
            lease = self._sim.server.find("leases", rank_lease_name(self._sim.job, number))
            if lease is None or self._sim.timeline.now < rank.passed_on_at + SETTLED_S:
                continue
            holder = lease["spec"]["holderIdentity"]
            labelled = [
                pod["metadata"]["name"]
                for pod in self._sim.server.all("pods")
                if pod["metadata"]["labels"][Label.RANK] == str(number)
                and pod["metadata"]["labels"].get(Label.ROLE) == "primary"
            ]
            self._require(8, set(labelled) <= {holder}, f"rank {number}: {labelled} are primary, {holder} holds it")

    def at_end(self) -> None:
        """Compare what was reached with a run without faults."""
        self.look_at_volume()
        last = self._sim.plan.script.steps
        for number, rank in enumerate(self.ranks):
            if rank.damaged:
                continue
            with self._no_error(4, f"the end of rank {number}"):
                found = self._store(number).newest(rank.floor, wait_s=0.0)
            value = int(found.tensors["value"][0]) if found is not None else None
            right = found is not None and found.ref.step == last and value == undisturbed(number, last)
            self._require(4, right, f"rank {number} ends with {found and found.ref}, not with step {last}")

    # Means

    def store(self, number: int) -> RankStore:
        """Open a rank's store on the volume itself."""
        return self._store(number)

    def _store(self, number: int) -> RankStore:
        if not self._stores:
            uid = self._sim.job_uid
            self._stores = [RankStore(ROOT, uid, n, keep=1, fs=self._sim.volume) for n in range(len(self.ranks))]
        return self._stores[number]

    def _descends(self, rank: Rank, ref: CheckpointRef, floor: CheckpointRef) -> bool:
        if ref.term == floor.term:
            return ref.step >= floor.step
        return any(base.term == floor.term and base.step >= floor.step for base in rank.lines.get(ref, ()))

    def _leads_to(self, rank: Rank, floor: CheckpointRef, ref: CheckpointRef) -> bool:
        line = (floor, *rank.lines.get(floor, ()))
        return any(base.term == ref.term and ref.step <= base.step for base in line)

    def require(self, number: int, holds: bool, what: str) -> None:
        """Raise a ViolationError unless the invariant holds."""
        self._require(number, holds, what)

    def _require(self, number: int, holds: bool, what: str) -> None:
        if not holds:
            self._sim.violate(f"invariant {number}: {what}")

    @contextmanager
    def _no_error(self, number: int, what: str) -> Iterator[None]:
        try:
            yield
        except (UnderstudyError, OSError) as error:
            self._require(number, False, f"{what}: {error}")


def _decode(body: object) -> LeaseRecord | None:
    return decode_lease(msgspec.json.encode(body)) if body is not None else None


def _completed(record: LeaseRecord) -> bool:
    return record.current_release is not None and record.current_release.reason == ReleaseReason.COMPLETED


def _ends(change: Change) -> bool:
    assert change.old is not None
    asked = change.new is None or bool(change.new["metadata"].get("deletionTimestamp"))
    running = change.old["status"]["phase"] in ("Pending", "Running")
    return asked and running and not change.old["metadata"].get("deletionTimestamp")
