"""What the API server itself refuses, and with which words; nothing here needs the operator.

`REFUSED` and `IMMUTABLE` have a row for each CEL rule of the definition: a test at the end holds them against it.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException

from tests.integration.crd.template_fields import ACCEPTED_TEMPLATE, REFUSED_TEMPLATE

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))

TRAINER = {"name": "trainer", "image": "any:1", "command": ["python", "train.py"]}

NAME = "metadata.name must be a DNS-1035 label of at most 40 characters"
TRAINER_MISSING = "exactly one container must be named 'trainer'"
NO_COMMAND = "set `command` in the container 'trainer'"
RESTART = "restartPolicy must be Never or absent"
GRACE = "failover.handOverSeconds must be less than template.spec.terminationGracePeriodSeconds"
BOTH = "set claimName (an existing claim) or volumeClaimTemplate (a claim to make), not both"
ONE_POD = "ReadWriteOncePod lets a single pod mount the volume"
READ_ONLY = "ReadOnlyMany alone lets no pod save a checkpoint"
RUNS = "template can be changed only while the job is suspended"


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A template with these containers, the trainer alone by default."""
    return {"template": {"spec": {"containers": list(containers or [TRAINER]), **spec}}}


def modes(*access_modes: str) -> dict[str, Any]:
    """A claim template with these access modes."""
    return {"checkpoint": {"volumeClaimTemplate": {"spec": {"accessModes": list(access_modes)}}}}


def job(spec: dict[str, Any] | None = None, name: str = "good") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {**pod(), **(spec or {})}}


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in TRAINER.items() if k != key}


ACCEPTED: dict[str, dict[str, Any]] = {
    "the least that can be said": job(),
    "a name of 40 characters": job(name="a" * 40),
    "a name of one letter": job(name="a"),
    "args instead of a command": job(pod({**without("command"), "args": ["python", "train.py"]})),
    "sidecars beside the trainer": job(pod({"name": "proxy", "image": "any:1"}, TRAINER)),
    "restartPolicy Never": job(pod(restartPolicy="Never")),
    "a grace period above the hand-over": job(pod(terminationGracePeriodSeconds=21)),
    "an existing claim": job({"checkpoint": {"claimName": "data", "keep": 5}}),
    "a folder of a claim": job({"checkpoint": {"claimName": "data", "subPath": "team-a/digits.2"}}),
    "a claim template that names a class only": job(
        {"checkpoint": {"volumeClaimTemplate": {"spec": {"storageClassName": "pinned"}}}}
    ),
    "ReadWriteMany": job(modes("ReadWriteMany")),
    "read-only access beside a writable one": job(modes("ReadOnlyMany", "ReadWriteMany")),
    "the smallest numbers": job(
        {"ranks": 1, "redundancy": 0, "failover": {"leaseDurationSeconds": 3, "handOverSeconds": 1}}
    ),
    "the largest numbers": job(
        {"ranks": 256, "redundancy": 5, "failover": {"leaseDurationSeconds": 3600, "handOverSeconds": 3600}}
    ),
    **ACCEPTED_TEMPLATE,
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a name of 41 characters": (job(name="a" * 41), NAME),
    "a name that starts with a digit": (job(name="1st"), NAME),
    "a name with a dot": (job(name="a.b"), NAME),
    "no container": (job({"template": {"spec": {"containers": []}}}), "should have at least 1 items"),
    "no trainer": (job(pod({**TRAINER, "name": "main"})), TRAINER_MISSING),
    "two trainers": (job(pod(TRAINER, TRAINER)), TRAINER_MISSING),
    "a trainer without command or args": (job(pod(without("command"))), NO_COMMAND),
    "a trainer with an empty command": (job(pod({**TRAINER, "command": []})), NO_COMMAND),
    "a command of the sidecar alone": (job(pod(without("command"), {**TRAINER, "name": "proxy"})), NO_COMMAND),
    "restartPolicy Always": (job(pod(restartPolicy="Always")), RESTART),
    "restartPolicy OnFailure": (job(pod(restartPolicy="OnFailure")), RESTART),
    "a grace period equal to the default hand-over": (job(pod(terminationGracePeriodSeconds=20)), GRACE),
    "a hand-over above the grace period": (
        job({**pod(terminationGracePeriodSeconds=30), "failover": {"handOverSeconds": 31}}),
        GRACE,
    ),
    "a claim and a claim template": (
        job({"checkpoint": {"claimName": "data", "volumeClaimTemplate": {"spec": {}}}}),
        BOTH,
    ),
    "ReadWriteOncePod": (job(modes("ReadWriteOncePod")), ONE_POD),
    "ReadWriteOncePod among others": (job(modes("ReadWriteOnce", "ReadWriteOncePod")), ONE_POD),
    "ReadOnlyMany alone": (job(modes("ReadOnlyMany")), READ_ONLY),
    "a block device": (
        job({"checkpoint": {"volumeClaimTemplate": {"spec": {"volumeMode": "Block"}}}}),
        'supported values: "Filesystem"',
    ),
    "no rank": (job({"ranks": 0}), "spec.ranks in body should be greater than or equal to 1"),
    "257 ranks": (job({"ranks": 257}), "spec.ranks in body should be less than or equal to 256"),
    "negative redundancy": (job({"redundancy": -1}), "spec.redundancy in body should be greater than or equal to 0"),
    "a redundancy of 6": (job({"redundancy": 6}), "spec.redundancy in body should be less than or equal to 5"),
    "another strategy": (job({"strategy": "Synchronous"}), 'supported values: "Independent"'),
    "no checkpoint kept": (job({"checkpoint": {"keep": 0}}), "spec.checkpoint.keep in body should be greater"),
    "101 checkpoints kept": (job({"checkpoint": {"keep": 101}}), "spec.checkpoint.keep in body should be less"),
    **{
        f"the folder {folder!r} of a claim": (
            job({"checkpoint": {"claimName": "data", "subPath": folder}}),
            "spec.checkpoint.subPath in body should",
        )
        for folder in ("", "/etc", "..", "a/../../b", "a//b", "a/", ".hidden", "a b", "a\n", "$(HOME)")
    },
    "another way to resume": (job({"checkpoint": {"resume": "Always"}}), 'supported values: "Never", "Latest"'),
    "a claim without a name": (
        job({"checkpoint": {"claimName": ""}}),
        "spec.checkpoint.claimName in body should be at least",
    ),
    "a lease of 2 seconds": (
        job({"failover": {"leaseDurationSeconds": 2}}),
        "leaseDurationSeconds in body should be greater",
    ),
    "a lease above an hour": (
        job({"failover": {"leaseDurationSeconds": 3601}}),
        "leaseDurationSeconds in body should be less",
    ),
    "a step of 4 seconds as a stall": (
        job({"failover": {"progressDeadlineSeconds": 4}}),
        "progressDeadlineSeconds in body should be greater",
    ),
    "no time for a script to end": (
        job({"failover": {"endDeadlineSeconds": 0}}),
        "endDeadlineSeconds in body should be greater",
    ),
    "a start within 9 seconds": (
        job({"failover": {"startupDeadlineSeconds": 9}}),
        "startupDeadlineSeconds in body should be greater",
    ),
    "no time to be active": (job({"activeDeadlineSeconds": 0}), "activeDeadlineSeconds in body should be greater"),
    "removal before the end": (
        job({"ttlSecondsAfterFinished": -1}),
        "ttlSecondsAfterFinished in body should be greater",
    ),
    "a hand-over of 0 seconds": (
        job({"failover": {"handOverSeconds": 0}}),
        "handOverSeconds in body should be greater",
    ),
    "a hand-over above an hour": (
        job({"failover": {"handOverSeconds": 3601}}),
        "handOverSeconds in body should be less",
    ),
    "no template": ({"metadata": {"name": "bare"}, "spec": {"ranks": 1}}, "spec.template: Required value"),
    **{f"{field}: {what}": row for field, rows in REFUSED_TEMPLATE.items() for what, row in rows.items()},
}

IMMUTABLE: dict[str, tuple[dict[str, Any], str]] = {
    "ranks": ({"ranks": 3}, "ranks is immutable"),
    "the image": (pod({**TRAINER, "image": "any:2"}), RUNS),
    "the command": (pod({**TRAINER, "command": ["sh"]}), RUNS),
    "a field of the pod that the definition does not list": (pod(hostNetwork=True), RUNS),
    "the pod's labels": ({"template": {"metadata": {"labels": {"team": "ml"}}}}, RUNS),
    "the folder of the claim": ({"checkpoint": {"subPath": "other"}}, "checkpoint is immutable"),
    "how many checkpoints are kept": ({"checkpoint": {"keep": 9}}, "checkpoint is immutable"),
    "the claim": ({"checkpoint": {"claimName": "data"}}, "checkpoint is immutable"),
    "the claim template's size": (
        {"checkpoint": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "9Gi"}}}}}},
        "checkpoint is immutable",
    ),
}


def refusal(error: ApiException) -> str:
    """The server's message, for a refusal by validation."""
    assert error.status == 422, error
    return str(json.loads(error.body)["message"])


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(jobs: Any, body: dict[str, Any]) -> None:
    jobs.create(body, dry_run="All", field_validation="Strict")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_is_accepted_without_a_warning(jobs: Any, sample: Path) -> None:
    for document in yaml.safe_load_all(sample.read_text()):
        if document["kind"] == "TrainingJob":
            jobs.create({k: document[k] for k in ("metadata", "spec")}, dry_run="All", field_validation="Strict")


@pytest.mark.parametrize(("body", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(jobs: Any, body: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiException) as refused:
        jobs.create(body, dry_run="All")
    assert words in refusal(refused.value)


def test_a_misspelt_field_is_refused_when_validation_is_strict(jobs: Any) -> None:
    with pytest.raises(ApiException) as refused:
        jobs.create(job({"redundncy": 2}), dry_run="All", field_validation="Strict")
    assert 'unknown field "spec.redundncy"' in json.loads(refused.value.body)["message"]


@pytest.fixture(scope="module")
def stored(jobs: Any) -> dict[str, Any]:
    """A job that lies in the server, as an update finds it."""
    return jobs.create(job({"ranks": 2, **modes("ReadWriteOnce")}, name="stored"))


@pytest.mark.parametrize(("change", "words"), IMMUTABLE.values(), ids=IMMUTABLE.keys())
def test_immutable(jobs: Any, stored: dict[str, Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiException) as refused:
        jobs.patch(stored["metadata"]["name"], {"spec": deepcopy(change)})
    assert words in refusal(refused.value)


def test_immutable_fields_cannot_be_taken_away(jobs: Any, stored: dict[str, Any]) -> None:
    for field in ("ranks", "checkpoint"):
        with pytest.raises(ApiException) as refused:
            jobs.patch(stored["metadata"]["name"], {"spec": {field: None}})
        assert f"{field} is immutable" in refusal(refused.value)


def test_the_template_may_change_while_the_job_is_suspended_or_in_the_same_write(jobs: Any) -> None:
    name = jobs.create(job({"suspend": True}, name="paused"))["metadata"]["name"]
    for image, suspend in (("any:2", True), ("any:3", False), ("any:4", True)):
        changed = jobs.patch(name, {"spec": {**pod({**TRAINER, "image": image}), "suspend": suspend}})
        assert changed["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_redundancy_and_failover_may_change(jobs: Any, stored: dict[str, Any]) -> None:
    failover = {"leaseDurationSeconds": 4, "handOverSeconds": 5, "progressDeadlineSeconds": 6}
    failover |= {"startupDeadlineSeconds": 10, "maxFailuresWithoutProgress": 1, "endDeadlineSeconds": 1}
    change = {"redundancy": 2, "failover": failover}
    changed = jobs.patch(stored["metadata"]["name"], {"spec": change})
    assert changed["spec"]["redundancy"] == 2
    assert changed["spec"]["failover"] == change["failover"]
    assert changed["metadata"]["generation"] > stored["metadata"]["generation"]


def test_defaults_are_filled_in(jobs: Any) -> None:
    spec = jobs.create(job(), dry_run="All")["spec"]
    assert (spec["ranks"], spec["redundancy"], spec["strategy"]) == (1, 1, "Independent")
    assert spec["suspend"] is False
    assert spec["checkpoint"] == {"keep": 3, "resume": "Never"}
    assert spec["failover"] == {
        "leaseDurationSeconds": 10,
        "progressDeadlineSeconds": 60,
        "startupDeadlineSeconds": 600,
        "endDeadlineSeconds": 600,
        "maxFailuresWithoutProgress": 5,
        "handOverSeconds": 20,
    }


def test_a_claim_template_is_completed(jobs: Any) -> None:
    body = job({"checkpoint": {"volumeClaimTemplate": {"spec": {"storageClassName": "pinned"}}}})
    claim = jobs.create(body, dry_run="All")["spec"]["checkpoint"]["volumeClaimTemplate"]["spec"]
    assert claim == {
        "storageClassName": "pinned",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }


def test_the_template_keeps_what_the_definition_does_not_list(jobs: Any) -> None:
    template = {
        "metadata": {"labels": {"team": "ml"}, "annotations": {"note": "kept"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"operator": "Exists"}],
            "initContainers": [{"name": "fetch", "image": "any:1"}],
            "containers": [{**TRAINER, "env": [{"name": "A", "value": "b"}], "resources": {"limits": {"cpu": "1"}}}],
        },
    }
    assert jobs.create(job({"template": template}), dry_run="All")["spec"]["template"] == template


def test_every_field_of_the_status_is_stored(jobs: Any, stored: dict[str, Any]) -> None:
    moment = "2026-01-02T03:04:05.678901Z"
    condition = {"type": "Training", "status": "True", "reason": "Stepping", "message": "Both ranks step."}
    status = {
        "observedGeneration": 1, "startTime": moment,
        "phase": "Running", "step": 250, "restarts": 1, "failoverCount": 1,
        "redundantReady": 1, "redundantDesired": 2, "redundant": "1/2",
        "conditions": [{**condition, "observedGeneration": 1, "lastTransitionTime": moment}],
        "ranks": [{
            "rank": 0, "primary": "stored-0-1", "term": 2, "step": 250, "checkpointStep": 200,
            "failuresWithoutProgress": 1, "complete": True, "failovers": 2, "restarts": 1,
            "trainerRestarts": 3, "lastFailure": "ValueError: step 7",
            "model": "u/rank-0/term-2-p/final/model.keras",
            "redundant": [{"pod": "stored-0-2", "loadedStep": 200, "ready": True}],
        }],
        "failovers": [{
            "rank": 0, "term": 2, "from": "stored-0-0", "to": "stored-0-1", "cause": "PodDeleted",
            "message": "It was deleted.", "failedAt": moment, "detectedAt": moment, "promotedAt": moment,
            "firstStepAt": moment, "lostSteps": 0, "lostStepsIsLowerBound": False, "cold": False,
        }],
    }  # fmt: skip
    after = jobs.patch_status(stored["metadata"]["name"], status)
    assert after["status"] == status


def test_each_rank_stands_once_in_the_status(jobs: Any, stored: dict[str, Any]) -> None:
    with pytest.raises(ApiException) as refused:
        jobs.patch_status(stored["metadata"]["name"], {"ranks": [{"rank": 0}, {"rank": 0}]})
    assert "Duplicate value" in refusal(refused.value)


def test_the_status_cannot_be_set_with_the_spec(jobs: Any) -> None:
    assert "status" not in jobs.create({**job(), "status": {"phase": "Succeeded"}}, dry_run="All")


def rules(schema: dict[str, Any]) -> Iterator[str]:
    """Walk the messages of every CEL rule below a schema."""
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
    for child in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        yield from rules(child)


def test_every_rule_has_a_refusal_here(crd: dict[str, Any]) -> None:
    words = {words for _, words in (*REFUSED.values(), *IMMUTABLE.values())}
    messages = set(rules(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    assert len(messages) == 29
    assert [message for message in messages if not any(word in message for word in words)] == []
