"""Names on the wire: the API group, labels, annotations, environment variables, and the names of a job's children."""

import hashlib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NewType

GROUP: Final = "understudy.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "TrainingJob"
PLURAL: Final = "trainingjobs"
API_VERSION: Final = f"{GROUP}/{VERSION}"

TRAINER_CONTAINER: Final = "trainer"
AGENT_COMMAND: Final = "understudy-agent"
AGENT_PORT: Final = 8476
"""TCP port of the agent's probes; nothing registered uses it."""

CHECKPOINT_DIR: Final = "/understudy/checkpoints"
RUN_DIR: Final = "/run/understudy"
"""An emptyDir of the pod: the agent's socket, the step counters, and the file that says that the pod is ready."""
READY_FILE: Final = "ready"
"""In RUN_DIR, while the pod is ready."""
READY_COMMAND: Final = ("/usr/bin/test", "-e", f"{RUN_DIR}/{READY_FILE}")
"""What the kubelet runs in a pod that has no port of its own; the worker's image has it, as every Debian has."""

ACCOUNT_DIR: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a process in a pod finds its token, by Kubernetes' convention."""

WORKER_UID: Final = 10001
"""User and group of a worker's processes; the pod's fsGroup, so that every pod of a job can write the volume."""

Rank = NewType("Rank", int)
Term = NewType("Term", int)
Step = NewType("Step", int)


MAX_REDUNDANCY: Final = 5
"""Redundant pods of a rank at most, as the CRD has it."""


_LEASE: Final = re.compile(r"(0|[1-9][0-9]{0,8})(?:-s([0-9]))?", re.ASCII)
"""What follows the job's name in that of a Lease: the rank, and the slot of a redundant pod."""


class Role(StrEnum):
    """Value of the role label."""

    PRIMARY = "primary"
    REDUNDANT = "redundant"


class Resume(StrEnum):
    """What a new job does with the checkpoints of an earlier one of its name."""

    NEVER = "Never"
    LATEST = "Latest"


class Label(StrEnum):
    """Labels of a job's children."""

    JOB = "understudy.dev/job"
    JOB_UID = "understudy.dev/job-uid"
    RANK = "understudy.dev/rank"
    ROLE = "understudy.dev/role"
    """On pods only; a pod that lost its role has none."""
    SLOT = "understudy.dev/slot"
    """On Leases of redundant pods and on pods created for one."""


class Annotation(StrEnum):
    """Annotations; who writes each is said in lease.py."""

    TERM = "understudy.dev/term"
    """On a primary pod: the term in which it holds the role."""
    INCARNATION = "understudy.dev/incarnation"
    FLOOR = "understudy.dev/floor"
    PROMOTION = "understudy.dev/promotion"
    FAILURES = "understudy.dev/failures"
    GIVEN_UP = "understudy.dev/given-up"
    ACTIVE_SINCE = "understudy.dev/active-since"
    FORMER_DURATION = "understudy.dev/former-duration"
    """The longest duration in seconds that a Lease had before a change of it, under the same holder."""
    SWITCHOVER = "understudy.dev/switchover"
    """On a TrainingJob: the rank that a person wants moved. On a rank's Lease: the term that is to end by it."""
    HEARTBEAT = "understudy.dev/heartbeat"
    RELEASED = "understudy.dev/released"
    NOTICE = "understudy.dev/notice"


class Env(StrEnum):
    """Environment of the container `trainer`."""

    JOB = "UNDERSTUDY_JOB"
    JOB_UID = "UNDERSTUDY_JOB_UID"
    JOB_CREATED = "UNDERSTUDY_JOB_CREATED"
    """creationTimestamp of the TrainingJob."""
    NAMESPACE = "UNDERSTUDY_NAMESPACE"
    POD_NAME = "UNDERSTUDY_POD_NAME"
    POD_UID = "UNDERSTUDY_POD_UID"
    RANK = "UNDERSTUDY_RANK"
    RANKS = "UNDERSTUDY_RANKS"
    SLOT = "UNDERSTUDY_SLOT"
    """Slot of a redundant pod; empty on a pod created as primary (absent, if an earlier operator made it)."""
    KEEP = "UNDERSTUDY_KEEP"
    RESUME = "UNDERSTUDY_RESUME"
    """A Resume."""
    HAND_OVER_S = "UNDERSTUDY_HAND_OVER_S"
    PROGRESS_S = "UNDERSTUDY_PROGRESS_S"
    STARTUP_S = "UNDERSTUDY_STARTUP_S"
    MAX_FAILURES = "UNDERSTUDY_MAX_FAILURES"
    """maxFailuresWithoutProgress as the pod was made; absent (of a release before it): the pod does not know."""
    GRACE_S = "UNDERSTUDY_GRACE_S"
    """The pod's termination grace period."""
    END_S = "UNDERSTUDY_END_S"
    """How long the script may run on after its training is complete."""
    CHECKPOINT_DIR = "UNDERSTUDY_CHECKPOINT_DIR"
    RUN_DIR = "UNDERSTUDY_RUN_DIR"
    SERVE_PROBES = "UNDERSTUDY_SERVE_PROBES"
    """`false`: listen on no port. Absent, as an earlier operator leaves it: listen on AGENT_PORT."""
    CPU_LIMIT_M = "UNDERSTUDY_CPU_LIMIT_M"
    """CPU limit in thousandths of a core; absent or empty when the template sets none."""
    SOCKET = "UNDERSTUDY_SOCKET"
    """Set by the agent for the trainer: the agent's Unix socket. Absent means standalone."""
    COUNTERS = "UNDERSTUDY_COUNTERS"
    """Set by the agent for the trainer: the mmap file of the progress counters."""


def pod_name(job: str, rank: int, incarnation: int) -> str:
    """Name the pod of one incarnation of a rank."""
    return f"{job}-{rank}-{incarnation}"


def rank_lease_name(job: str, rank: int) -> str:
    """Name the Lease that is the authority on a rank."""
    return f"{job}-{rank}"


def slot_lease_name(job: str, rank: int, slot: int) -> str:
    """Name the heartbeat Lease of a redundant slot."""
    return f"{job}-{rank}-s{slot}"


def lease_names(job: str, ranks: int) -> tuple[str, ...]:
    """List every Lease that a job may ever have, whatever its redundancy."""
    return tuple(
        name
        for rank in range(ranks)
        for name in (rank_lease_name(job, rank), *(slot_lease_name(job, rank, slot) for slot in range(MAX_REDUNDANCY)))
    )


def is_lease_name(name: str, job: str, ranks: int | None = None) -> bool:
    """Tell whether a name is one of `lease_names`; `ranks` None: of a job with any number of ranks."""
    found = _LEASE.fullmatch(name.removeprefix(f"{job}-")) if job and name.startswith(f"{job}-") else None
    if found is None or int(found[2] or 0) >= MAX_REDUNDANCY:
        return False
    return ranks is None or int(found[1]) < ranks


def budget_name(job: str, rank: int) -> str:
    """Name a rank's PodDisruptionBudget."""
    return f"{job}-{rank}"


def service_name(job: str) -> str:
    """Name the headless Service of a job's primaries."""
    return job


def claim_name(job: str) -> str:
    """Name the PersistentVolumeClaim made from a job's template."""
    return f"{job}-checkpoints"


def worker_role_name(job: str, leases: Iterable[str]) -> str:
    """Name the Role of a job's pods after the Leases that it lets them renew: a Role that exists is never changed."""
    return f"{worker_account_name(job)}-{_digest(' '.join(sorted(leases)))}"


def worker_binding_name(role: str, account: str | None) -> str:
    """Name the binding of a worker Role to an account of the template's own, or to the one made for the job."""
    return f"{role}-{_digest(account)}" if account else role


def worker_account_name(job: str) -> str:
    """Name the ServiceAccount of a job's pods."""
    return f"{job}-worker"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
