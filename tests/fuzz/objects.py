"""Valid objects of each kind that is decoded, from which the fuzz starts."""

import json
from typing import Any

TIME = "2026-01-01T11:59:00.000000Z"
REF = {"term": 1, "step": 100, "digest": "d"}


def meta(name: str, **more: Any) -> dict[str, Any]:
    """metadata."""
    return {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "7", **more}


PROMOTION = {
    "term": 1,
    "source": "digits-0-2",
    "target": "digits-0-0",
    "cause": "PodDeleted",
    "message": "pod digits-0-2 is gone",
    "failedAt": TIME,
    "detectedAt": TIME,
    "promotedAt": TIME,
    "knownStep": 90,
    "knownStepExact": True,
    "checkpoint": REF,
    "former": ["digits-0-2"],
}
HEARTBEAT = {
    "pod": "digits-0-0",
    "term": 1,
    "phase": "training",
    "step": 120,
    "checkpoint": REF,
    "firstStep": {"step": 101, "at": TIME},
    "durationS": 9,
    "volume": "v",
}
ANNOTATIONS: dict[str, Any] = {
    "incarnation": 3,
    "failures": 0,
    "active-since": TIME,
    "floor": REF,
    "promotion": PROMOTION,
    "heartbeat": HEARTBEAT,
    "released": {"term": 0, "reason": "HandedOver", "exitCode": 0, "message": "saved", "checkpoint": REF},
    "notice": {"reason": "NotExact", "message": "threads", "at": TIME},
    "given-up": {"cause": "Stalled", "message": "m", "at": TIME, "failures": 5},
    "switchover": 4,
}
"""Each is JSON within a string, as on the wire; `lease` renders them."""

STATUS = {
    "observedGeneration": 1,
    "startTime": "2026-01-01T11:00:00Z",
    "phase": "Running",
    "conditions": [
        {
            "type": "Training",
            "status": "True",
            "reason": "Training",
            "message": "m",
            "lastTransitionTime": "2026-01-01T11:00:00Z",
            "observedGeneration": 1,
        }
    ],
    "step": 120,
    "restarts": 0,
    "failoverCount": 1,
    "redundantReady": 1,
    "redundantDesired": 1,
    "redundant": "1/1",
    "ranks": [
        {
            "rank": 0,
            "primary": "digits-0-0",
            "term": 1,
            "step": 120,
            "checkpointStep": 100,
            "checkpointTerm": 1,
            "complete": False,
            "failovers": 1,
            "restarts": 0,
            "failuresWithoutProgress": 0,
            "redundant": [{"pod": "digits-0-1", "ready": True, "loadedStep": 100}],
        }
    ],
    "failovers": [{"rank": 0, "term": 1, "from": "digits-0-2", "to": "digits-0-0", "cause": "PodDeleted",
                   "message": "m", "failedAt": TIME, "detectedAt": TIME, "promotedAt": TIME, "firstStepAt": TIME,
                   "lostSteps": 0, "cold": False}],
}  # fmt: skip
JOB = {
    "apiVersion": "understudy.dev/v1alpha1",
    "kind": "TrainingJob",
    "metadata": meta(
        "digits",
        generation=1,
        creationTimestamp="2026-01-01T10:00:00Z",
        annotations={"understudy.dev/switchover": "0"},
        managedFields=[{"fieldsV1": {"f:spec": {}}}],
    ),
    "spec": {
        "ranks": 1,
        "redundancy": 1,
        "strategy": "Independent",
        "template": {
            "metadata": {"labels": {"a": "b"}, "annotations": {}},
            "spec": {
                "terminationGracePeriodSeconds": 40,
                "serviceAccountName": "own",
                "affinity": {"podAntiAffinity": {}},
                "initContainers": [{"name": "fetch"}],
                "containers": [{"name": "trainer", "command": ["python"], "env": [{"name": "A", "value": "b"}]}],
            },
        },
        "redundantTemplate": {"resources": {"limits": {"cpu": "1"}}, "nodeSelector": {"a": "b"}},
        "suspend": False,
        "activeDeadlineSeconds": 3600,
        "ttlSecondsAfterFinished": 60,
        "checkpoint": {
            "volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteMany"]}},
            "keep": 3,
            "resume": "Latest",
        },
        "failover": {"leaseDurationSeconds": 9, "handOverSeconds": 20, "maxFailuresWithoutProgress": 5},
    },
    "status": STATUS,
}
POD = {
    "metadata": meta(
        "digits-0-0",
        labels={
            "understudy.dev/job": "digits",
            "understudy.dev/job-uid": "uid-digits",
            "understudy.dev/rank": "0",
            "understudy.dev/role": "primary",
        },
        annotations={"understudy.dev/term": "1"},
        creationTimestamp="2026-01-01T11:00:00Z",
        deletionTimestamp="2026-01-01T12:00:00Z",
        deletionGracePeriodSeconds=30,
        ownerReferences=[{"uid": "uid-digits", "kind": "TrainingJob", "name": "digits"}],
    ),
    "spec": {"nodeName": "node-a", "initContainers": [{"name": "fetch", "restartPolicy": "Always"}]},
    "status": {
        "phase": "Running",
        "reason": "",
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "PodScheduled", "status": "False", "message": "m"},
        ],
        "initContainerStatuses": [{"name": "fetch", "state": {"terminated": {"exitCode": 3, "finishedAt": TIME}}}],
        "containerStatuses": [
            {"name": "trainer", "state": {"running": {"startedAt": TIME}}},
            {"name": "side", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "m"}}},
        ],
    },
}
CLAIM = {"metadata": meta("digits-checkpoints"), "status": {"phase": "Bound", "accessModes": ["ReadWriteMany"]}}
NODE = {"metadata": meta("node-a"), "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def lease(annotations: dict[str, Any], name: str = "digits-0", **spec: Any) -> dict[str, Any]:
    """A Lease of the job, with annotations of our own; what is no string is rendered as JSON."""
    notes = {f"understudy.dev/{k}": v if isinstance(v, str) else json.dumps(v) for k, v in annotations.items()}
    labels = {"understudy.dev/job": "digits", "understudy.dev/job-uid": "uid-digits"}
    held = {"holderIdentity": "digits-0-0", "leaseTransitions": 1, "leaseDurationSeconds": 9, "renewTime": TIME}
    return {
        "metadata": meta(name, labels=labels, annotations=notes, ownerReferences=[{"uid": "uid-digits"}]),
        "spec": {**held, **spec},
    }
