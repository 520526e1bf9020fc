"""The table of refusals: each part of the API server is known by its words, and blamed for nothing that another did.

The messages are those of a real API server 1.36; tests/integration/operator/test_refusals.py asks it again.
"""

import json

import pytest
from understudy_kube.errors import error_of
from understudy_kube.refusals import Refusal, exceeded

EXCEEDED = (
    'pods "counted-0-4" is forbidden: exceeded quota: objects, requested: count/pods=1, used: count/pods=3, '
    "limited: count/pods=3"
)
RIGHT = (
    'pods is forbidden: User "system:serviceaccount:a:b" cannot create resource "pods" in API group "" in the '
    'namespace "x"'
)
REFUSALS = [
    (403, EXCEEDED, Refusal.QUOTA, "raise spec.hard of ResourceQuota objects for count/pods"),
    (
        403,
        'pods "a" is forbidden: exceeded quota: small, requested: cpu=1,pods=1, used: cpu=2,pods=4, limited: x',
        Refusal.QUOTA,
        "ResourceQuota small for cpu and pods",
    ),
    (
        403,
        'pods "a" is forbidden: failed quota: cpu: must specify limits.cpu for: trainer; requests.cpu for: trainer',
        Refusal.QUOTA_UNSTATED,
        "ResourceQuota cpu counts what each container states",
    ),
    (
        403,
        'pods "a" is forbidden: maximum memory usage per Container is 256Mi, but limit is 512Mi',
        Refusal.LIMIT_RANGE,
        "kubectl describe limitrange",
    ),
    (
        403,
        'pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod must not set it)',
        Refusal.POD_SECURITY,
        "pod-security.kubernetes.io/enforce",
    ),
    (
        422,
        "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'no-latest' with binding 'b' denied request: no",
        Refusal.POLICY,
        "ValidatingAdmissionPolicy no-latest",
    ),
    (403, 'admission webhook "deny.x.io" denied the request: not here', Refusal.WEBHOOK, "webhook deny.x.io"),
    (400, 'admission webhook "deny.x.io" denied the request: not here', Refusal.WEBHOOK, "webhook deny.x.io"),
    (
        500,
        'Internal error occurred: failed calling webhook "side.x.io": connection refused',
        Refusal.WEBHOOK_DOWN,
        "webhook side.x.io",
    ),
    (
        403,
        'pods "a" is forbidden: unable to create new content in namespace x because it is being terminated',
        Refusal.TERMINATING,
        "nothing can be made",
    ),
    (
        403,
        'pods "a" is forbidden: error looking up service account x/robot: serviceaccount "robot" not found',
        Refusal.ACCOUNT_MISSING,
        "create ServiceAccount x/robot",
    ),
    (
        403,
        'pods "a" is forbidden: no PriorityClass with name urgent was found',
        Refusal.PRIORITY_MISSING,
        "create PriorityClass urgent",
    ),
    (403, RIGHT, Refusal.RIGHT, "grant the account this verb"),
    (403, 'pods "a" is forbidden: some new plugin says no', Refusal.ADMISSION, "an admission plugin of the cluster"),
    (413, "Request entity too large: limit is 3145728", Refusal.TOO_LARGE, "smaller"),
    (422, 'Pod "a" is invalid: spec.containers[0].image: Required value', Refusal.INVALID, "correct the request"),
    (400, 'strict decoding error: unknown field "spec.contaners"', Refusal.INVALID, "correct the request"),
]


@pytest.mark.parametrize(("code", "said", "refusal", "advice"), REFUSALS, ids=[f"{r[2]}-{r[0]}" for r in REFUSALS])
def test_each_part_of_the_server_is_known_and_gets_advice_of_its_own(
    code: int, said: str, refusal: Refusal, advice: str
) -> None:
    error = error_of("POST", "/api/v1/namespaces/x/pods", code, json.dumps({"message": said}).encode())
    assert error.refusal is refusal
    assert said in error.message and advice in error.message
    assert ("grant" in error.message) == (refusal is Refusal.RIGHT)


@pytest.mark.parametrize("code", [401, 404, 409, 410, 429, 500])
def test_other_failures_are_no_refusal(code: int) -> None:
    assert error_of("POST", "/x", code, b'{"message":"because"}').refusal is None


def test_the_resources_of_which_a_quota_has_no_more_are_named() -> None:
    assert exceeded(EXCEEDED) == {"count/pods"}
    assert exceeded(REFUSALS[1][1]) == {"cpu", "pods"}
    assert exceeded(RIGHT) == frozenset()
