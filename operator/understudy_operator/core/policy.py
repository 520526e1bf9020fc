"""A TrainingJob's spec as typed values, with the defaults that the CRD fills in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from understudy_contract import names

DEFAULT_LEASE_DURATION_S: Final = 10
DEFAULT_HAND_OVER_S: Final = 20
DEFAULT_PROGRESS_DEADLINE_S: Final = 60
DEFAULT_STARTUP_DEADLINE_S: Final = 600
DEFAULT_END_DEADLINE_S: Final = 600
DEFAULT_MAX_FAILURES: Final = 5
DEFAULT_KEEP: Final = 3
GRACE_MARGIN_S: Final = 10
"""The grace period of a pod exceeds its hand-over by this much: room to write the release and to end the trainer."""


class InvalidSpecError(Exception):
    """The spec cannot be read although the API server accepted it; the message names the field."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a job asks for. Durations in seconds."""

    ranks: int
    redundancy: int
    template: Mapping[str, Any]
    claim_name: str
    claim_template: Mapping[str, Any] | None
    """spec of the claim to make; None: `claim_name` is the user's own."""
    keep: int
    resume: str
    """A Resume."""
    lease_duration_s: int
    hand_over_s: int
    progress_deadline_s: int
    startup_deadline_s: int
    max_failures: int
    """Consecutive failures of the application without a new checkpoint, at which the job has failed."""
    sub_path: str | None = None
    """The folder of the claim that the pods see, alone; None: all of it."""
    redundant_template: Mapping[str, Any] = field(default_factory=dict)
    """What differs for pods that are made as redundant ones."""
    end_deadline_s: int = DEFAULT_END_DEADLINE_S
    """How long the script may run on after its training is complete."""
    suspend: bool = False
    active_deadline_s: int | None = None
    """How long the job may be active; a suspension starts it again."""
    ttl_s: int | None = None
    """How long the job stays after its end."""

    @property
    def grace_period_s(self) -> int:
        """Termination grace period of the job's pods."""
        own = self.template.get("spec", {}).get("terminationGracePeriodSeconds")
        return int(own) if own is not None else self.hand_over_s + GRACE_MARGIN_S

    @property
    def account_name(self) -> str | None:
        """The template's own ServiceAccount, if it names one, be it by the field's old name."""
        spec = self.template.get("spec", {})
        name = spec.get("serviceAccountName") or spec.get("serviceAccount")
        return str(name) if name else None


def read_policy(job: str, spec: Mapping[str, Any]) -> Policy:
    """Read a spec; raises InvalidSpecError where a required part is missing."""
    template = spec.get("template")
    if not isinstance(template, Mapping):
        raise InvalidSpecError("spec.template is missing: give a pod template with a container named trainer")
    checkpoint = spec.get("checkpoint") or {}
    failover = spec.get("failover") or {}
    existing = checkpoint.get("claimName")
    default_claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = (checkpoint.get("volumeClaimTemplate") or {}).get("spec") or default_claim
    return Policy(
        ranks=int(spec.get("ranks", 1)),
        redundancy=int(spec.get("redundancy", 1)),
        template=template,
        claim_name=existing or names.claim_name(job),
        claim_template=None if existing else made,
        keep=int(checkpoint.get("keep", DEFAULT_KEEP)),
        resume=str(checkpoint.get("resume", names.Resume.NEVER)),
        lease_duration_s=int(failover.get("leaseDurationSeconds", DEFAULT_LEASE_DURATION_S)),
        hand_over_s=int(failover.get("handOverSeconds", DEFAULT_HAND_OVER_S)),
        progress_deadline_s=int(failover.get("progressDeadlineSeconds", DEFAULT_PROGRESS_DEADLINE_S)),
        max_failures=int(failover.get("maxFailuresWithoutProgress", DEFAULT_MAX_FAILURES)),
        startup_deadline_s=int(failover.get("startupDeadlineSeconds", DEFAULT_STARTUP_DEADLINE_S)),
        sub_path=checkpoint.get("subPath"),
        end_deadline_s=int(failover.get("endDeadlineSeconds", DEFAULT_END_DEADLINE_S)),
        redundant_template=spec.get("redundantTemplate") or {},
        suspend=bool(spec.get("suspend", False)),
        active_deadline_s=spec.get("activeDeadlineSeconds"),
        ttl_s=spec.get("ttlSecondsAfterFinished"),
    )
