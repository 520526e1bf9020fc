"""Operator and workers of two releases side by side: an upgrade replaces the operator while pods of the old one train.

What a release writes is frozen here as text. Fields are only ever added, each with a default that stands for the
releases before it; what is unknown is passed over. A change that makes one of these tests fail breaks running jobs.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from understudy.agent.settings import read_settings
from understudy.protocol import Failed, Promote, decode_from_agent, decode_from_trainer
from understudy.trainer.context import read_context
from understudy_contract.lease import decode_lease, renewal_patch
from understudy_contract.names import Annotation
from understudy_contract.reports import CheckpointRef, Heartbeat, Notice, Phase

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST = {
    Annotation.INCARNATION: "3",
    Annotation.FAILURES: "0",
    Annotation.FLOOR: '{"term":2,"step":400,"digest":"ab"}',
    Annotation.PROMOTION: (
        '{"term":2,"source":"digits-0-0","target":"digits-0-1","cause":"PodDeleted","message":"it is gone",'
        '"failedAt":"2026-01-01T00:00:00.000000Z","detectedAt":"2026-01-01T00:00:00.000000Z",'
        '"promotedAt":"2026-01-01T00:00:00.000000Z","knownStep":410,"knownStepExact":true,'
        '"checkpoint":{"term":1,"step":410,"digest":"cd"}}'
    ),
    Annotation.HEARTBEAT: (
        '{"pod":"digits-0-1","term":2,"phase":"training","step":412,"checkpoint":{"term":2,"step":410,"digest":"cd"},'
        '"firstStep":{"step":411,"at":"2026-01-01T00:00:01.000000Z"},"volume":"v"}'
    ),
    Annotation.NOTICE: '{"reason":"CheckpointFailed","message":"no space left"}',
}
"""Annotations of a rank's Lease as the first release writes them."""


LATER_RELEASE = '{"term":2,"reason":"Invented","exitCode":9,"message":"in a later release","invented":1}'


def lease(annotations: dict[str, str]) -> bytes:
    meta = {"name": "digits-0", "namespace": "n", "uid": "u", "resourceVersion": "7", "annotations": annotations}
    spec = {"holderIdentity": "digits-0-1", "leaseTransitions": 2, "leaseDurationSeconds": 10}
    return json.dumps({"metadata": meta, "spec": spec}).encode()


def with_more(text: str) -> str:
    """Add a field that no release knows yet."""
    return json.dumps({**json.loads(text), "invented": {"later": [1]}})


def test_what_the_first_release_wrote_is_read() -> None:
    record = decode_lease(lease({str(name): text for name, text in FIRST.items()}))
    beat, promotion = record.current_heartbeat, record.promotion
    assert beat is not None and promotion is not None
    assert (beat.phase, beat.step, beat.checkpoint) == (Phase.TRAINING, 412, CheckpointRef(2, 410, "cd"))
    assert (beat.duration_s, beat.term_floor) == (0, 0), "it neither learns durations nor reports terms"
    assert (beat.failures, beat.restarts, beat.last_failure) == (0, 0, None), "it tells of no restart"
    assert (promotion.failovers, promotion.restarts, promotion.failures) == (1, 0, 0)
    assert (record.incarnation, record.floor, record.patience_s) == (3, CheckpointRef(2, 410, "cd"), 10)
    assert record.active_since is None
    assert record.notice == Notice("CheckpointFailed", "no space left", at=None), "when it was written is not told"


def test_what_a_later_release_adds_is_passed_over() -> None:
    later = {str(name): with_more(text) if text.startswith("{") else text for name, text in FIRST.items()} | {
        "understudy.dev/invented": "later"
    }
    known = decode_lease(lease({str(name): text for name, text in FIRST.items()}))
    assert decode_lease(lease(later)) == known


def test_a_reason_that_a_later_worker_gives_is_at_least_an_end() -> None:
    record = decode_lease(lease({str(Annotation.RELEASED): LATER_RELEASE}))
    release = record.current_release
    assert release is not None
    assert (release.reason, release.exit_code, release.message) == ("Invented", 9, "in a later release")


def test_a_heartbeat_of_a_phase_that_is_not_known_is_a_missing_one() -> None:
    later = FIRST[Annotation.HEARTBEAT].replace('"training"', '"invented"')
    assert decode_lease(lease({str(Annotation.HEARTBEAT): later})).current_heartbeat is None


def test_a_renewal_needs_nothing_that_the_first_operator_did_not_write() -> None:
    beat = Heartbeat(pod="digits-0-1", term=2, phase=Phase.TRAINING, duration_s=10)
    tested = [op for op in json.loads(renewal_patch(beat, NOON)) if op["op"] == "test"]
    assert [op["path"] for op in tested] == ["/spec/holderIdentity", "/spec/leaseTransitions"]


def test_a_notice_says_when_it_was_written_beside_what_the_first_operator_reads() -> None:
    beat = Heartbeat(pod="digits-0-1", term=2, phase=Phase.TRAINING)
    *_, written = json.loads(renewal_patch(beat, NOON, notice=Notice("CheckpointFailed", "no space left")))
    assert written["value"] == (
        '{"reason":"CheckpointFailed","message":"no space left","at":"2026-01-01T12:00:00.000000Z"}'
    )


def test_an_agent_starts_with_the_environment_of_the_first_operator() -> None:
    environment = {
        "UNDERSTUDY_JOB": "digits",
        "UNDERSTUDY_JOB_UID": "uid",
        "UNDERSTUDY_NAMESPACE": "n",
        "UNDERSTUDY_POD_NAME": "digits-0-0",
        "UNDERSTUDY_POD_UID": "pod-uid",
        "UNDERSTUDY_RANK": "0",
        "UNDERSTUDY_RANKS": "1",
        "UNDERSTUDY_KEEP": "3",
        "UNDERSTUDY_HAND_OVER_S": "20",
        "UNDERSTUDY_SOCKET": "/run/understudy/socket",
    }
    settings = read_settings({**environment, "UNDERSTUDY_INVENTED": "later"}, ["--", "python", "train.py"])
    assert (settings.rank, settings.hand_over_s, settings.progress_s) == (0, 20.0, float("inf"))
    assert settings.max_failures == float("inf")
    context = read_context(environment)
    assert (context.root, context.created, context.resume) == (Path("/understudy/checkpoints"), "", "Never")


def test_agent_and_trainer_of_one_image_pass_over_what_the_other_adds() -> None:
    assert decode_from_agent(b'{"type":"Promote","term":2,"invented":1}') == Promote(2)
    assert decode_from_trainer(b'{"type":"Failed","message":"no","invented":1}') == Failed("no")
