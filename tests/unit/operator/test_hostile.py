"""A worker that says what it likes harms its own job, and that only in what the job is said to have reached."""

import io
import json
import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from understudy_contract.bounds import bounded
from understudy_contract.events import EventReason
from understudy_contract.lease import LeaseObject
from understudy_contract.names import Annotation
from understudy_contract.reports import Phase
from understudy_operator.allowance import EVENTS_AT_ONCE, NOTICES_AT_ONCE, NOTICES_PER_MINUTE, STATUS_AT_ONCE, Allowance
from understudy_operator.core.actions import Emit, OpenRank
from understudy_operator.core.model import Terminated, incarnation_of
from understudy_operator.events import post
from understudy_operator.logs import OneLine
from understudy_operator.objects import PodObject, pod_view

from tests.unit.operator.builders import (
    NOW,
    PRIMARY,
    RANK,
    SLOT,
    UNDERSTUDY,
    Scene,
    a_problem,
    a_promotion,
    of,
    patches,
)
from tests.unit.operator.moves import both_at_work
from tests.unit.operator.stage import LEASES, MINUTE, Stage, stage_test

CRD = Path(__file__).parents[3] / "manifests" / "crd.yaml"
HUGE = 2**63
NASTY = "\x1b[2Jred\nINFO understudy: all is well\u202e "
WORDS = NASTY * 5000
"""Half a megabyte, as a worker may put it into an annotation by and by."""


def checked(status: dict[str, Any]) -> None:
    """Check a status as the API server does."""
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    formats = jsonschema.FormatChecker(formats=())
    formats.checks("int32")(lambda number: abs(number) < 2**31)
    formats.checks("int64")(lambda number: abs(number) < 2**63)
    formats.checks("date-time", raises=ValueError)(lambda text: datetime.fromisoformat(text).tzinfo is not None)
    jsonschema.Draft7Validator(schema, format_checker=formats).validate(status)


def said(scene: Scene, name: str, **notes: dict[str, Any]) -> Scene:
    """Let a Lease be as the watch tells it, with these annotations."""
    old = scene.leases[name]
    meta = {"name": name, "namespace": old.namespace, "uid": old.uid, "resourceVersion": "8"}
    texts = {str(Annotation[key.upper()]): json.dumps(value) for key, value in notes.items()}
    spec = {"holderIdentity": old.holder, "leaseTransitions": old.term, "leaseDurationSeconds": old.duration_s}
    found = msgspec.convert({"metadata": {**meta, "annotations": texts}, "spec": spec}, LeaseObject).record()
    fields = {"released": "release"}
    return scene.lease(name, **{fields.get(key, key): getattr(found, fields.get(key, key)) for key in notes})


def hostile() -> Scene:
    """Both workers of a rank write the largest, longest and worst that they can."""
    ref = {"term": HUGE, "step": HUGE, "digest": WORDS}
    beat = {"term": 1, "step": HUGE, "checkpoint": ref, "loaded": ref, "firstStep": {"step": HUGE, "at": WORDS}}
    beat |= {"model": WORDS, "volume": WORDS, "termFloor": HUGE, "durationS": HUGE}
    scene = said(Scene(), RANK, heartbeat={**beat, "pod": PRIMARY, "phase": "training"})
    return said(scene, SLOT, heartbeat={**beat, "pod": UNDERSTUDY, "phase": "ready"})


def test_a_status_of_what_hostile_workers_say_is_one_that_the_api_server_takes() -> None:
    scene = hostile()
    checked(scene.written())
    scene.promoted().lease(RANK, promotion=bounded(a_promotion(message=WORDS)))
    scene.beat(RANK, pod=UNDERSTUDY, term=2, phase=Phase.TRAINING)
    status = scene.given(status_written_at=-1e9).written()
    assert status["failovers"][0]["lostSteps"] == 0
    checked(status)


def test_what_a_hostile_release_says_goes_on_in_its_bounds() -> None:
    scene = said(hostile(), RANK, released={"term": 1, "reason": WORDS, "exitCode": HUGE, "message": WORDS})
    (promote,) = scene.decide().promotions
    assert promote.promotion is not None and promote.floor is not None
    assert len(msgspec.json.encode(promote.promotion)) < 4096
    assert len(msgspec.json.encode(promote.floor)) < 512
    assert "\n" not in promote.promotion.message and "\x1b" not in promote.promotion.message


def test_a_term_that_leaves_no_room_for_promotions_is_not_believed() -> None:
    assert patches(hostile().decide().rest, "leaseTransitions") == []
    scene = Scene().gone(RANK).status({"ranks": [{"rank": 0, "term": HUGE - 1, "primary": PRIMARY}], "failovers": []})
    (opened,) = of(scene.decide().rest, OpenRank)
    assert opened.term < 2**31 - 900_000, "a Lease holds 32 bits"


def test_a_pod_whose_name_or_term_no_job_comes_to_counts_for_none() -> None:
    assert incarnation_of("digits-0-999999999999999999") == -1
    meta = {"name": "p", "uid": "u", "resourceVersion": "1", "annotations": {str(Annotation.TERM): "9" * 18}}
    view = pod_view(msgspec.convert({"metadata": meta}, PodObject), seen_since=0, running_since=0, deleting_since=None)
    assert view.term is None


def test_the_last_words_of_a_container_are_cleaned_line_by_line() -> None:
    state = {"terminated": {"exitCode": 1, "reason": "Error", "message": "first\n\x1b[31mlast\x1b[0m\x00\n"}}
    status = {"containerStatuses": [{"name": "trainer", "state": state}], "phase": "Failed", "reason": NASTY}
    meta = {"name": "p", "uid": "u", "resourceVersion": "1"}
    pod = msgspec.convert({"metadata": meta, "status": status}, PodObject)
    view = pod_view(pod, seen_since=0, running_since=0, deleting_since=None)
    assert isinstance(view.container, Terminated)
    assert view.container.message == "first\nlast"
    assert view.reason == "red INFO understudy: all is well"


def test_a_deletion_with_a_grace_period_of_all_time_can_be_read() -> None:
    meta = {"name": "p", "uid": "u", "resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    pod = msgspec.convert({"metadata": {**meta, "deletionGracePeriodSeconds": HUGE - 1}}, PodObject)
    assert pod_view(pod, seen_since=0, running_since=0, deleting_since=0.0).deletion_time == meta["deletionTimestamp"]


def test_a_condition_is_cut_whatever_it_lists() -> None:
    scene = Scene().given(problems={("Prepare", None): a_problem("Refused", WORDS)}).beat(RANK, phase=Phase.STARTING)
    assert scene.condition("Training")["reason"] == "Refused"
    for condition in scene.written()["conditions"]:
        assert len(condition["message"].encode()) <= 4096
        assert "\n" not in condition["message"]


def test_a_request_for_a_switchover_is_shown_in_part() -> None:
    scene = Scene()
    scene.job = replace(scene.job, switchover=WORDS)
    (event,) = [e for e in of(scene.decide().rest, Emit) if e.reason == EventReason.SWITCHOVER_REFUSED]
    assert len(event.message) < 200
    assert event.message.endswith("was removed: give a rank, 0 to 0.")


@stage_test
async def test_of_300_notices_in_15_seconds_few_are_posted_and_a_promotion_is_told_at_once(stage: Stage) -> None:
    await both_at_work(stage)
    before = len(stage.events())
    for number in range(300):
        notice = json.dumps({"reason": "CheckpointFailed", "message": f"number {number}"})
        body = stage.server.objects[f"{LEASES}/digits-0"]
        body["metadata"]["annotations"][str(Annotation.NOTICE)] = notice
        stage.world.leases.upsert(stage.server._put(f"{LEASES}/digits-0", body))
        stage.reports("digits-0-1", "digits-0-s0", "ready")
        await stage.run(0.05)
    noticed = len(stage.events()) - before
    assert NOTICES_AT_ONCE <= noticed <= NOTICES_AT_ONCE + NOTICES_PER_MINUTE
    stage.releases("digits-0")
    await stage.run(1)
    assert [event for event in stage.events() if event["reason"] == "Promoted"]
    await stage.run(MINUTE)
    assert len(stage.events()) - before <= noticed + NOTICES_PER_MINUTE + 4


@stage_test
async def test_a_worker_that_is_warm_and_not_by_turns_has_the_status_written_once_a_second(stage: Stage) -> None:
    await both_at_work(stage)
    before = stage.server.asked["STATUS"]
    for number in range(600):
        stage.reports("digits-0-0", "digits-0", "training")
        stage.reports("digits-0-1", "digits-0-s0", ("starting", "ready")[number % 2])
        await stage.run(0.05)
    assert stage.server.asked["STATUS"] - before <= STATUS_AT_ONCE + 31
    await stage.run(3)
    assert stage.status["redundant"] == "1/1", "the last state is written all the same"


class TestEvents:
    """Few a minute, whatever the workers do."""

    def test_of_the_operators_own_an_outage_of_every_rank_is_told_at_once(self) -> None:
        outage = [Emit(f"promotion {n}", EventReason.PROMOTED, "lost") for n in range(200)]
        admitted, wake_at = Allowance().admit(outage, ranks=100, at=0.0)
        assert (len(admitted), wake_at) == (200, float("inf"))

    def test_what_has_to_wait_is_told_when_there_is_room(self) -> None:
        allowance = Allowance()
        news = [Emit(str(n), EventReason.PROMOTED, "lost") for n in range(EVENTS_AT_ONCE + 10)]
        admitted, _ = allowance.admit(news, ranks=0, at=0.0)
        for event in admitted:
            allowance.spend(event, 0.0)
        left = news[len(admitted) :]
        assert allowance.admit(left, ranks=0, at=0.0) == ([], 5.0)
        assert len(allowance.admit(left, ranks=0, at=5.0)[0]) == 1
        assert len(allowance.admit(left, ranks=0, at=3600.0)[0]) == len(left), "a bucket is never more than full"

    async def test_a_message_is_cut_by_bytes_as_the_api_server_counts(self) -> None:
        posted: list[bytes] = []

        class Server:
            async def post(self, path: str, body: bytes) -> None:
                posted.append(body)

        await post(Server(), Scene().job, Emit("k", EventReason.FAILED, "ø\n" * 3000), NOW)  # type: ignore[arg-type]
        (message,) = [json.loads(body)["message"] for body in posted]
        assert len(message.encode()) <= 1024
        assert "\n" not in message


class TestLog:
    """One record, one line."""

    @pytest.fixture
    def written(self) -> tuple[logging.Logger, io.StringIO]:
        output = io.StringIO()
        handler = logging.StreamHandler(output)
        handler.setFormatter(OneLine("%(levelname)s %(name)s: %(message)s"))
        logger = logging.Logger("test")
        logger.addHandler(handler)
        return logger, output

    def test_words_of_a_tenant_begin_no_line_and_move_no_cursor(self, written: Any) -> None:
        logger, output = written
        logger.warning("default/digits: %s", NASTY)
        assert output.getvalue() == "WARNING test: default/digits: red INFO understudy: all is well\n"

    def test_a_traceback_is_set_in_and_its_words_look_like_no_record(self, written: Any) -> None:
        logger, output = written
        try:
            raise ValueError(NASTY)
        except ValueError:
            logger.exception("default/digits: this cycle failed")
        first, *rest = output.getvalue().splitlines()
        assert first == "ERROR test: default/digits: this cycle failed"
        assert rest and all(line.startswith("    ") for line in rest)
        assert "\x1b" not in output.getvalue()
