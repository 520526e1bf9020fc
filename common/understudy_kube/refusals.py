"""Which part of the API server refused a request, and what a person can do about it.

A request passes authorization, mutating admission, the validation of the object, and validating admission: plugins,
policies, webhooks, the quota last. Most of them answer 403 with reason Forbidden, so the code alone does not say who
refused: only authorization misses a right. The server gives no code for the part, so its words are compared. Each row
of `TABLE` is one part: the codes that it answers with, words of its message, and the remedy. The first row that fits
counts. A 403 that fits none was refused by an admission plugin that this table does not know; no missing right is
blamed for it. The words are those of Kubernetes 1.30 to 1.36.

Guarantees that the advice never names a part of the server which did not refuse. Does not guarantee that a remedy is
enough: a quota may be followed by a policy. Pure.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Refusal(StrEnum):
    """The part of the API server that refused."""

    QUOTA = "Quota"
    """A ResourceQuota is used up."""
    QUOTA_UNSTATED = "QuotaUnstated"
    """A ResourceQuota wants a request or a limit that the pod does not state."""
    LIMIT_RANGE = "LimitRange"
    POD_SECURITY = "PodSecurity"
    POLICY = "Policy"
    """A ValidatingAdmissionPolicy."""
    WEBHOOK = "Webhook"
    """An admission webhook said no."""
    WEBHOOK_DOWN = "WebhookDown"
    """An admission webhook cannot be called."""
    TERMINATING = "Terminating"
    """The namespace is being deleted."""
    ACCOUNT_MISSING = "AccountMissing"
    """The ServiceAccount that the pod names does not exist."""
    PRIORITY_MISSING = "PriorityMissing"
    RIGHT = "Right"
    """RBAC, or another authorizer: the caller lacks a right."""
    ADMISSION = "Admission"
    """Another admission plugin."""
    INVALID = "Invalid"
    """The object itself is wrong: a field that is unknown, missing or out of range."""
    TOO_LARGE = "TooLarge"


@dataclass(frozen=True, slots=True)
class Row:
    """One part of the server: it answers with one of `codes`, and its message matches `words`."""

    refusal: Refusal
    codes: frozenset[int]
    words: re.Pattern[str]
    advice: str
    """What to do; the named groups of `words` may be used."""


def _row(refusal: Refusal, codes: tuple[int, ...], words: str, advice: str) -> Row:
    return Row(refusal, frozenset(codes), re.compile(words), advice)


TABLE: Final = (
    _row(
        Refusal.WEBHOOK_DOWN,
        (500, 503, 504),
        r'failed calling webhook "(?P<name>[^"]+)"',
        "mend the service behind webhook {name}, or exempt this namespace in its configuration",
    ),
    _row(
        Refusal.WEBHOOK,
        (),  # a webhook answers with whatever code it likes
        r'admission webhook "(?P<name>[^"]+)" denied the request',
        "do what webhook {name} asks for, or exempt this namespace in its configuration",
    ),
    _row(
        Refusal.POLICY,
        (401, 403, 413, 422),  # the reasons that a policy may give
        r"ValidatingAdmissionPolicy '(?P<name>[^']+)'",
        "it lacks no right: ValidatingAdmissionPolicy {name} refused; do what it asks for, or change its binding",
    ),
    _row(
        Refusal.TERMINATING,
        (403,),
        r"because it is being terminated",
        "nothing can be made there any more",
    ),
    _row(
        Refusal.QUOTA,
        (403,),
        r"exceeded quota: (?P<name>[^,\s]+), requested: (?P<requested>\S+), used: \S+, limited: \S+",
        "raise spec.hard of ResourceQuota {name} for {resources}, or remove what it counts in this namespace",
    ),
    _row(
        Refusal.QUOTA_UNSTATED,
        (403,),
        r"failed quota: (?P<name>[^:\s]+): must specify (?P<missing>.+)",
        "ResourceQuota {name} counts what each container states: set it in the pod template (resources), or make a "
        "LimitRange with defaults",
    ),
    _row(
        Refusal.QUOTA,
        (403,),
        r"exceeded quota",
        "raise spec.hard of the ResourceQuota that is named, or remove what it counts in this namespace",
    ),
    _row(
        Refusal.LIMIT_RANGE,
        (403,),
        r"(?:minimum|maximum) \S+ usage per (?:Container|Pod|PersistentVolumeClaim)"
        r"|max limit to request ratio per (?:Container|Pod)",
        "a LimitRange of this namespace bounds it: set requests and limits of the template within it "
        "(`kubectl describe limitrange`), or change the LimitRange",
    ),
    _row(
        Refusal.POD_SECURITY,
        (403,),
        r'violates PodSecurity "(?P<name>[^"]+)"',
        "change in the pod template what is named, or give the namespace a label "
        "pod-security.kubernetes.io/enforce that allows it",
    ),
    _row(
        Refusal.ACCOUNT_MISSING,
        (403,),
        r"error looking up service account (?P<name>\S+):",
        "create ServiceAccount {name}, or name another one in serviceAccountName of the pod template",
    ),
    _row(
        Refusal.PRIORITY_MISSING,
        (403,),
        r"no PriorityClass with name (?P<name>\S+) was found",
        "create PriorityClass {name}, or name another one in priorityClassName of the pod template",
    ),
    _row(
        Refusal.RIGHT,
        (403,),
        r'User "(?P<name>[^"]*)" cannot|attempting to grant RBAC permissions',
        "grant the account this verb on this resource",
    ),
    _row(Refusal.ADMISSION, (403,), r"", "it lacks no right: an admission plugin of the cluster refused"),
    _row(
        Refusal.TOO_LARGE,
        (413,),
        r"",
        "make the object smaller",
    ),
    _row(Refusal.INVALID, (400, 422), r"", "correct the request"),
)


def classify(code: int, message: str) -> tuple[Refusal, str] | None:
    """Tell which part refused, from the code and the server's own words, and what to do; None if it is no refusal."""
    for row in TABLE:
        if row.codes and code not in row.codes:
            continue
        if (found := row.words.search(message)) is not None:
            parts = {name: text or "" for name, text in found.groupdict().items()}
            return row.refusal, row.advice.format_map({**parts, "resources": _resources(parts.get("requested", ""))})
    return None


def exceeded(message: str) -> frozenset[str]:
    """Name the resources of which a quota has no more, such as count/pods; empty if the message is of no quota."""
    found = re.search(r"exceeded quota: [^,\s]+, requested: (\S+), used: ", message)
    return frozenset(_split(found[1])) if found is not None else frozenset()


def _split(amounts: str) -> list[str]:
    return [amount.partition("=")[0] for amount in amounts.split(",") if amount]


def _resources(amounts: str) -> str:
    return " and ".join(_split(amounts))
