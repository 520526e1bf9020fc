"""Leases and pods that an earlier job of the same name left without an owner.

`kubectl delete --cascade=orphan` and a restore from a backup both leave a job's children with their labels and without
an owner, under the uid of a TrainingJob that is no more. A job that is then made under the same name adopts them. It
takes over the IDENTITY of the earlier one: the uid by which its children are labelled and the folder of its checkpoints
is named. So nothing about the children changes but their owner. The primary trains on in its term, the Lease stays the
authority, terms go on above those that were, and no second pod writes beside the first.

An identity is adopted only whole, and only where nobody else has it (`find_identity`):
1. Every rank of the job has a Lease of the right name, with the label of this job's name, all with one uid; and there
   is no rank more.
2. None of them has another owner. One with an owner that is gone is about to be collected: that job was deleted with
   its children, and the user wants a new one.
3. No other TrainingJob has that uid.
Once adopted, the status remembers it, so that a Lease which is deleted later does not start the job anew.

Where a rule fails, the Leases are leftovers, and nothing is opened, made or adopted beside them. The message names all
of them, and who still runs under them; no Lease is advised to be deleted while a pod of that job is known to run. Does
not compare templates: pods that were adopted keep theirs. Pure; looks at no clock.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from understudy_contract.events import EventReason
from understudy_contract.lease import LeaseRecord
from understudy_contract.names import Label, rank_lease_name

from understudy_operator.core.actions import Action, Adopt, Emit
from understudy_operator.core.model import Observation
from understudy_operator.core.pending import Finding

_UID: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""A label's value: also the name of a folder, so no path."""
NAMED_MAX: Final = 12
"""Names in one message; a person who deletes that many finds the rest by the label."""


def find_identity(
    name: str,
    uid: str,
    told: str | None,
    ranks: int,
    lease: Callable[[str], LeaseRecord | None],
    taken: Callable[[str], bool],
) -> str:
    """Find the uid of the earlier job that the job `name` (`uid`) has adopted or is to adopt; empty for none.

    `told`: what the status says; `lease` gives a Lease by its name; `taken` tells whether a uid is another job's.
    """
    if told is not None and _UID.fullmatch(told) and told != uid and not taken(told):
        return told
    found = [lease(rank_lease_name(name, rank)) for rank in range(ranks)]
    more = lease(rank_lease_name(name, ranks))
    whole = [r for r in found if r is not None and _label(r, Label.JOB) == name and r.owner_uid in ("", uid)]
    left = {_label(record, Label.JOB_UID) for record in whole}
    if len(whole) < ranks or len(left) != 1 or (more is not None and _label(more, Label.JOB) == name):
        return ""
    (other,) = left
    return other if other != uid and _UID.fullmatch(other) and not taken(other) else ""


def is_child(record: LeaseRecord, job: str, uid: str, identity: str) -> bool:
    """Tell whether a Lease is a job's: it owns it, or it has adopted it and is still to become the owner."""
    if record.owner_uid:
        return record.owner_uid == uid
    return _label(record, Label.JOB) == job and _label(record, Label.JOB_UID) == identity


def adopt(observation: Observation) -> list[Adopt]:
    """List the Leases and pods that have no owner yet."""
    found: list[Adopt] = []
    for view in observation.ranks:
        leases = [lease.record for lease in (view.lease, *view.slots, *view.surplus) if lease is not None]
        found += [Adopt(view.rank, "leases", r.name, r.uid, r.resource_version) for r in leases if not r.owner_uid]
        # But no copy that somebody made for debugging.
        pods = [pod for pod in view.pods.values() if pod.orphaned and pod.is_of(observation.job.name)]
        found += [Adopt(view.rank, "pods", pod.name, pod.uid, pod.resource_version) for pod in pods]
    return found


def in_the_way(observation: Observation) -> Finding | None:
    """Say which Leases of an earlier job are in the way, who still trains under them, and what to do, in one go."""
    left = observation.leftovers
    if not left:
        return None
    job, names = observation.job, _list(sorted(lease.name for lease in left))
    if all(lease.going for lease in left):
        return Finding(False, "Starting", f"Leases of an earlier job of this name are being removed: {names}")
    said = (
        f"Leases {names} in namespace {job.namespace} are left of an earlier job of this name "
        f"(uid {_list(sorted({lease.job_uid for lease in left}))}) and cannot be adopted, since they are not those of "
        f"{job.policy.ranks} ranks of one job"
    )
    where = f"-n {job.namespace}"
    if running := sorted(name for name, runs in observation.predecessor_pods.items() if runs):
        todo = (
            "its pods still run, and may train: wait until they have ended, or stop them with "
            f"`kubectl delete pod {' '.join(running)} {where}`: each saves before it ends. Leave the Leases until then"
        )
    else:
        todo = (
            "none of its pods is known to run any more: remove them with "
            f"`kubectl delete lease {' '.join(sorted(lease.name for lease in left))} {where}`. To go on from its "
            "checkpoints, apply this job with spec.checkpoint.resume: Latest"
        )
    return Finding(False, str(EventReason.NAME_TAKEN), f"{said}; {todo}.")


def events(observation: Observation) -> list[Action]:
    """Tell of what was adopted, or of what is in the way."""
    job = observation.job
    found: list[Action] = []
    if job.adopted_uid:
        message = (
            f"Adopted what an earlier job of this name (uid {job.adopted_uid}) had left without an owner: its Leases, "
            f"and its pods if there are any. Training goes on where that one was, in its folder {job.adopted_uid}"
        )
        found.append(Emit(f"adopted {job.adopted_uid}", EventReason.ADOPTED, message))
    if (left := in_the_way(observation)) is not None and left.reason == EventReason.NAME_TAKEN:
        found.append(Emit(f"leftovers {left.message}", EventReason.NAME_TAKEN, left.message))
    return found


def _label(record: LeaseRecord | None, label: Label) -> str:
    labels: Mapping[str, str] = (record.labels or {}) if record is not None else {}
    return labels.get(label, "")


def _list(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
