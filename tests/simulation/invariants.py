"""What must hold whatever happens, checked against the truth that no part of the product sees.

 1. At most one pod holds a rank in a term, and starts it, ever; terms of a rank only grow while its Lease lives.
 2. The durable floor of a rank names a checkpoint that was committed, and only grows while its Lease lives.
 3. Nothing reported is lost: the volume shows the floor or a descendant of it, and a primary starts from one.
 4. What is committed for a step is what a run without faults has after that step.
 5. A primary starts from the line of the terms that count: never from what a superseded one committed afterwards.
 6. Complete stays complete; a job whose program never fails for good never fails.
 7. No primary is replaced that renewed within its lease, unless it let go, ended or was deleted; an outage of the API
    server, which nobody can renew through, proves nothing, nor does the silence of all workers of several nodes. The
    operator deletes no pod that a Lease names, unless the job is suspended.
 8. No two pods are labelled as primary of one term; in the end, the holder alone is labelled primary.
 9. A pod's name is used once, unless a request made it, somebody deleted it by force, and the request came once more.
10. A worker takes itself for superseded only if somebody else was given the rank, or its slot.
11. No part of the product meets an error that it should not.
12. Who hands over loses no step, and who completes has taken all of them.
13. A rank is not passed on without end.
14. Once the faults are over the job reaches its last step.
15. The status of a job that has succeeded tells of every failover, from whom to whom and whether cold, and of no other.

A Lease that somebody deletes, and an etcd that is restored, take along what only they knew: of the floor, the terms and
the names that were given, 1, 2, 3, 8 and 9 then start anew, but no term is ever started twice, because the volume
remembers. A checkpoint that is damaged behind everybody's back may be passed over, but only along its line.
"""

import math
from typing import TYPE_CHECKING

import msgspec
from understudy import protocol
from understudy.errors import CheckpointDamaged, VolumeTrouble
from understudy_contract.exits import ExitCode, ReleaseReason
from understudy_contract.lease import LeaseRecord, decode_lease
from understudy_contract.names import Annotation, Label, rank_lease_name
from understudy_contract.reports import CheckpointRef

from tests.simulation.account import Account
from tests.simulation.ledger import Ledger, Rank
from tests.simulation.server import Change, Json
from tests.simulation.worker import Container

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

PATIENCE = 0.85
"""Of a lease: what clocks that run a little fast leave of it."""
PASSED_ON_MAX = 60
"""Times that a rank may be passed on in one run: far more than faults can ask for."""
LATE_S = 20.0
"""How long what was decided on before a suspension was taken back, a Lease deleted, or etcd restored, may still be
carried out."""


class Invariants:
    """Watches one simulation."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self.ledger = Ledger(sim.plan, sim.volume, lambda: sim.timeline.now, self._require)
        self.ranks = self.ledger.ranks
        self._account = Account(self._require)
        self._names: set[str] = set()
        self._suspended_at = -LATE_S
        self._forgotten_at: dict[int, float] = {}
        """When the Lease of a rank was deleted that was complete: what follows from that may be under way."""
        self._restored_at = self._heard_at = -math.inf
        sim.server.observers.append(self._on_change)

    def _on_change(self, change: Change) -> None:
        match change.resource:
            case "leases":
                self._on_lease(change)
            case "pods":
                self._on_pod(change)
            case "trainingjobs" if change.old is not None and change.new is not None:
                if change.old["spec"].get("suspend") or change.new["spec"].get("suspend"):
                    self._suspended_at = self._sim.timeline.now
                before, after = (body.get("status", {}).get("phase") for body in (change.old, change.new))
                self._require(6, before != "Succeeded" or after == "Succeeded", f"the job was {before} and is {after}")
                self._require(6, after != "Failed", "the job has failed")
                if before and not after:
                    self._account.forget()

    def _on_lease(self, change: Change) -> None:
        if change.new is not None and change.who == change.new["spec"].get("holderIdentity"):
            self._heard_at = self._sim.timeline.now
        number = next((n for n in range(len(self.ranks)) if change.name == rank_lease_name(self._sim.job, n)), None)
        if number is None:
            return
        rank = self.ranks[number]
        if change.new is None:
            if (gone := _decode(change.old)) is not None and _completed(gone):
                self._forgotten_at[number] = self._sim.timeline.now
            rank.floor = None
            rank.holders.clear()
            self._names.clear()
            self._account.forget()
            return
        if change.who == change.new["spec"].get("holderIdentity"):
            rank.renewed_at = self._sim.timeline.now
        if change.old is not None and _says_the_same(change.old, change.new):
            return
        new = decode_lease(self._sim.server.raw("leases", change.name))
        old = _decode(change.old)
        passed_on = bool(new.holder) and (old is None or (old.holder, old.term) != (new.holder, new.term))
        if passed_on:
            self._on_grant(rank, old, new)
            rank.renewed_at = self._sim.timeline.now
        self._on_floor(rank, new)
        if old is not None and _completed(old):
            self._require(6, _completed(new), f"{change.name} was complete and is not")

    def _on_grant(self, rank: Rank, old: LeaseRecord | None, new: LeaseRecord) -> None:
        held = rank.holders.setdefault(new.term, new.holder)
        self._require(1, held == new.holder, f"{held} and {new.holder} both hold term {new.term}")
        self._require(1, new.term >= max(rank.holders), f"term {new.term} comes after {max(rank.holders)}")
        rank.history.append(new.holder)
        self._account.on_grant(self.ranks.index(rank), old, new)
        self._require(13, len(rank.history) < PASSED_ON_MAX, f"{new.name} was passed on {len(rank.history)} times")
        if old is not None:
            self._require(1, new.term > old.term, f"{old.holder} -> {new.holder} without a new term")
            if old.holder != new.holder:
                self._on_replacement(rank, old, new)
        rank.granted_at[new.term] = self._sim.timeline.now
        rank.floors[new.term] = self._whole(rank, new.floor)
        self.ledger.look_at_volume()

    def _on_replacement(self, rank: Rank, old: LeaseRecord, new: LeaseRecord) -> None:
        pod = self._sim.server.find("pods", old.holder)
        if old.current_release is not None or old.current_heartbeat is None or pod is None or self._may_lag():
            return
        if not old.holder or pod["metadata"].get("deletionTimestamp") or pod["status"]["phase"] != "Running":
            return
        now, outage = self._sim.timeline.now, self._sim.outage
        silent_s, needed_s = now - rank.renewed_at, PATIENCE * old.patience_s
        what = f"{old.holder} was replaced by {new.holder} in term {new.term}"
        self._require(7, silent_s >= needed_s, f"{what}, {silent_s:.2f} s after a renewal")
        self._require(7, not self._nobody_is_heard(old), f"{what}, while no worker of several nodes was heard")
        if outage.length_s > 0.7 * old.patience_s and rank.renewed_at < outage.ended_at:
            since_s = now - outage.ended_at
            self._require(7, since_s >= needed_s, f"{what}, {since_s:.2f} s after the API server came back")

    def _nobody_is_heard(self, old: LeaseRecord) -> bool:
        """Tell whether workers that have reported run on several nodes, and none has renewed for long.

        What was reported before an etcd was restored may be forgotten.
        """
        records = [record for lease in self._sim.server.all("leases") if (record := _decode(lease)) is not None]
        holders = {record.holder for record in records if record.current_heartbeat is not None} | {old.holder}
        nodes = {
            node.name
            for node in self._sim.nodes
            for container in node.containers.values()
            if container.code is None and container.name in holders
        }
        return len(nodes) > 1 and self._sim.timeline.now >= self._heard_at + old.patience_s + LATE_S

    def _on_floor(self, rank: Rank, new: LeaseRecord) -> None:
        floor = self._whole(rank, new.floor)
        if floor == rank.floor:
            return
        lately = self._sim.timeline.now < self._restored_at + LATE_S
        if lately and rank.floor is not None and (floor is None or floor < rank.floor):
            rank.floor = floor  # a pod that is started once more, as etcd has it, knows of no checkpoint at first
            return
        self._require(2, floor is not None, f"the floor {rank.floor} is forgotten")
        assert floor is not None
        self._require(2, floor in rank.lines, f"the floor {floor} was never committed")
        self._require(2, rank.floor is None or floor >= rank.floor, f"the floor goes back: {rank.floor} -> {floor}")
        rank.floor = floor

    def _whole(self, rank: Rank, floor: CheckpointRef | None) -> CheckpointRef | None:
        """Add the digest to a floor that comes from the status: a Lease that is made anew has it from there."""
        if floor is None or floor.digest:
            return floor
        return next((ref for ref in rank.lines if (ref.term, ref.step) == (floor.term, floor.step)), floor)

    def _on_pod(self, change: Change) -> None:
        if change.old is None:
            self._account.on_birth(change.name)
            if self._sim.timeline.now >= self._restored_at + LATE_S:  # else as it was decided on before, and forgotten
                used = change.name in self._names and not self._sim.network.again
                self._require(9, not used, f"the name {change.name} is used again")
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
                known = self._sim.timeline.now >= self._restored_at + LATE_S  # else by one who knows what was before
                self._require(
                    8, not (twice and known), f"{meta['name']} and {change.name} are labelled primary of term {term}"
                )

    def _on_deletion(self, name: str) -> None:
        job = self._sim.server.find("trainingjobs", self._sim.job)
        if job is None or job["spec"].get("suspend") or self._sim.timeline.now < self._suspended_at + LATE_S:
            return
        if self._may_lag():
            return
        for lease in self._sim.server.all("leases"):
            record = _decode(lease)
            if record is None or record.holder != name or not record.labels:
                continue
            number = int(record.labels[Label.RANK])
            if self._sim.complete(number) or self._sim.timeline.now < self._forgotten_at.get(number, -LATE_S) + LATE_S:
                continue
            serves = Label.SLOT not in record.labels or self._serves(record)
            if serves and not record.switches_over and record.current_release is None:
                self._require(7, False, f"the operator deletes {name}, which {record.name} names")

    def _may_lag(self) -> bool:
        """Tell whether 7 is not promised, since an operator may see Leases and pods of different moments.

        So it is where several act, without election, and when etcd has just been restored, or one hears again that
        stood still or was cut off then, and knows what was before: it deletes a pod before it sees the Lease that names
        it, or passes a rank on whose primary it cannot see. Nothing is lost by it.
        """
        together = len(self._sim.operators) > 1 and not self._sim.plan.elected
        operators = [operator.process for operator in self._sim.operators.values() if operator is not None]
        heard_at = [process.resumed_at for process in operators if process.paused_at <= self._restored_at]
        links = [link for link in self._sim.operator_links.values() if link.cut_at <= self._restored_at]
        heard_at += [link.mended_at if link.whole else math.inf for link in links]
        return together or self._sim.timeline.now < max([self._restored_at, *heard_at]) + LATE_S

    def _serves(self, slot: LeaseRecord) -> bool:
        """Tell whether a slot's Lease counts: once primary, a pod never is redundant again."""
        rank = self.ranks[int(slot.labels[Label.RANK])]  # type: ignore[index]
        return slot.holder not in rank.history

    def forget_reports(self) -> None:
        """Expect nothing of what was written since a backup that was restored."""
        self._account.forget()
        self._names.clear()
        self._restored_at = self._sim.timeline.now
        for rank in self.ranks:
            rank.floor = None
            rank.holders.clear()

    def hear_again(self, unheard_since: float) -> None:
        """Take in that the API server answers again; what it was restored to meanwhile is seen from now on."""
        if self._restored_at >= unheard_since:
            self._restored_at = self._sim.timeline.now

    def on_message(self, container: Container, message: protocol.FromTrainer) -> None:
        """Take in what a trainer tells its agent."""
        match message:
            case protocol.HandedOver(checkpoint):
                taken = container.counters.step
                self._require(
                    12, checkpoint.step == taken, f"{container.name} hands step {checkpoint.step} of {taken} over"
                )
            case protocol.Completed(step):
                self._require(12, step == self._sim.plan.script.steps, f"{container.name} is complete at step {step}")
            case protocol.Started():
                cache_s = container.around.mount.cache_s
                self.ledger.on_started(container.name, container.context.rank, message, cache_s)

    def on_exit(self, container: Container) -> None:
        """Take in the end of a container."""
        for text in container.agent.trouble:
            self._require(11, False, f"{container.name}: {text}")
        if container.code == ExitCode.SUPERSEDED:
            what = f"{container.name} takes itself for superseded, and nobody else was given its Lease"
            self._require(10, self._has_successor(container), what)
        self.ledger.look_at_volume()

    def _has_successor(self, container: Container) -> bool:
        if any(other is not container and other.name == container.name for other in self._sim.containers()):
            return True  # the name was given again after a restore, and the volume has chosen between the two
        history = self.ranks[container.context.rank].history
        if container.name in history:  # also where it was given back since
            return any(name != container.name for name in history[history.index(container.name) :])
        if self._sim.timeline.now < self._restored_at + LATE_S:
            return True  # names are given again: its slot was another's for a moment
        slot = self._sim.server.find("leases", container.settings.slot_lease or "")
        return slot is None or slot["spec"].get("holderIdentity") != container.name

    def on_failure(self, container: Container, error: BaseException) -> None:
        """Take in an exception that ends a script."""
        rank = self.ranks[container.context.rank]
        expected = isinstance(error, VolumeTrouble) or (rank.damaged and isinstance(error, CheckpointDamaged))
        self._require(11, expected, f"the script of {container.name} fails: {type(error).__name__}: {error}")

    def mislabelled(self) -> str:
        """Tell of a rank whose primary is not the one pod that is labelled so, if there is one."""
        for number in range(len(self.ranks)):
            lease = self._sim.server.find("leases", rank_lease_name(self._sim.job, number))
            if lease is None:
                continue
            holder = lease["spec"]["holderIdentity"]
            metas = [pod["metadata"] for pod in self._sim.server.all("pods")]
            own = {meta["name"]: meta["labels"].get(Label.ROLE) for meta in metas if _is_of(meta, number)}
            labelled = sorted(name for name, role in own.items() if role == "primary")
            if labelled != [holder] * (holder in own):
                return f"rank {number}: {labelled} are labelled primary, {holder} holds it"
        return ""

    def at_end(self, mislabelled: str) -> None:
        """Check what holds when nothing happens any more."""
        self._require(8, not mislabelled, mislabelled)
        self.ledger.at_end()
        job = self._sim.server.find("trainingjobs", self._sim.job)
        leases = [self._sim.server.find("leases", rank_lease_name(self._sim.job, n)) for n in range(len(self.ranks))]
        records = [record for lease in leases if (record := _decode(lease)) is not None]
        if job is not None:
            self._account.at_end(job["status"], records, self._sim.plan.script.steps)

    def _require(self, number: int, holds: bool, what: str) -> None:
        if not holds:
            self._sim.violate(f"invariant {number}: {what}")


def _is_of(meta: Json, rank: int) -> bool:
    return bool(meta["labels"][Label.RANK] == str(rank))


def _says_the_same(old: Json, new: Json) -> bool:
    spec = {**old["spec"], "renewTime": new["spec"].get("renewTime")}
    return spec == new["spec"] and old["metadata"].get("annotations") == new["metadata"].get("annotations")


def _decode(body: object) -> LeaseRecord | None:
    return decode_lease(msgspec.json.encode(body)) if body is not None else None


def _completed(record: LeaseRecord) -> bool:
    return record.current_release is not None and record.current_release.reason == ReleaseReason.COMPLETED


def _ends(change: Change) -> bool:
    assert change.old is not None
    asked = change.new is None or bool(change.new["metadata"].get("deletionTimestamp"))
    running = change.old["status"]["phase"] in ("Pending", "Running")
    return asked and running and not change.old["metadata"].get("deletionTimestamp")
