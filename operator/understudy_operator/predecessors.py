"""What an earlier job of the same name has left, and which Leases are worth keeping at all. Without side effects.

Anybody may make a Lease and label it as a job's, so that only those are kept that can be a known job's, by owner and
name; and, up to a limit, those that an earlier job left without an owner before the job of that name was made.
"""

from collections.abc import Mapping
from typing import Final

from understudy_contract import names
from understudy_contract.lease import LeaseObject, LeaseRecord
from understudy_contract.names import Label, lease_names
from understudy_kube.informer import Key

from understudy_operator.core import model
from understudy_operator.core.adoption import is_child
from understudy_operator.jobs import Jobs
from understudy_operator.objects import PodObject

RANKS_MAX: Final = 256
"""The most ranks of a job that the API admits."""
ORPHANS_MAX: Final = 1024
"""Leases without an owner that are remembered, of all namespaces, until a job of their name is made."""


def predecessor_pods(
    job: model.Job, pods: Mapping[Key, PodObject], nodes: Mapping[Key, tuple[str, bool]]
) -> Mapping[str, bool]:
    """Find the pods that an earlier job of this name has left, and whether each may still save.

    A pod of a lost node saves nothing any more.
    """
    return {
        name: pod.status.phase not in ("Succeeded", "Failed")
        and nodes.get(("", pod.spec.node_name or ""), ("", False))[1]
        for (namespace, name), pod in pods.items()
        if namespace == job.namespace
        and pod.metadata.labels.get(Label.JOB) == job.name
        and pod.metadata.labels.get(Label.JOB_UID) != job.identity
    }


def leftovers(job: model.Job, leases: Mapping[Key, LeaseRecord]) -> tuple[model.Leftover, ...]:
    """Find the Leases that an earlier job of this name has left, if one stands where this job needs one.

    Then those of ranks that this job has not are named as well.
    """
    left = [
        model.Leftover(record.name, (record.labels or {}).get(Label.JOB_UID, ""), going=bool(record.owner_uid))
        for (namespace, _), record in leases.items()
        if namespace == job.namespace
        and (record.labels or {}).get(Label.JOB) == job.name
        and names.is_lease_name(record.name, job.name)
        and not is_child(record, job.name, job.uid, job.identity)
    ]
    needed = set(lease_names(job.name, job.policy.ranks))
    return tuple(left) if any(lease.name in needed for lease in left) else ()


def is_of_a_job(lease: LeaseObject, jobs: Jobs, leases: Mapping[Key, LeaseRecord]) -> bool:
    """Tell whether a Lease can be one of a known job, or of one that is still to be made."""
    meta = lease.metadata
    if meta.owner_references and (job := jobs.find(meta.owner_references[0].uid)) is not None:
        return names.is_lease_name(meta.name, job.name, job.policy.ranks)
    name = meta.labels.get(Label.JOB, "")
    # Of a job that cannot be read just now nobody knows the ranks. Its workers go on, and so it will be read again.
    if meta.owner_references and jobs.is_aside(meta.owner_references[0].uid, name):
        return names.is_lease_name(meta.name, name, RANKS_MAX)
    if (job := jobs.known((meta.namespace, name))) is not None:
        # With one rank more than the job has, it is not this job's shape that was left.
        return names.is_lease_name(meta.name, name, job.policy.ranks + 1)
    if not names.is_lease_name(meta.name, name):
        return False
    return not meta.owner_references and sum(not record.owner_uid for record in leases.values()) < ORPHANS_MAX
