"""What a worker or a user wrote, made fit for the API server: cut, cleaned and clamped, as written and as read."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from understudy_contract.bounds import COUNT_MAX, LONG_AGO, NUMBER_MAX, TERM_MAX, bounded, is_moment
from understudy_contract.lease import LeaseRecord, decode_lease, renewal_patch
from understudy_contract.names import Annotation, Term
from understudy_contract.reports import CheckpointRef, FirstStep, Heartbeat, Notice, Phase, Release
from understudy_contract.text import clean

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HUGE = 2**63
CLEAR_SCREEN = "\x1b[2J\x1b]0;title\x07\x1b[31m"


def lease(duration_s: int = 10, **annotations: str) -> LeaseRecord:
    notes = {str(Annotation[name.upper()]): text for name, text in annotations.items()}
    meta = {"name": "digits-0", "namespace": "n", "uid": "u", "resourceVersion": "7", "annotations": notes}
    spec = {"holderIdentity": "digits-0-1", "leaseTransitions": 2, "leaseDurationSeconds": duration_s}
    return decode_lease(json.dumps({"metadata": meta, "spec": spec}).encode())


def beat(**said: Any) -> str:
    """A heartbeat as a worker of its own making writes it."""
    return json.dumps({"pod": "digits-0-1", "term": 2, "phase": "training", **said})


class TestText:
    @pytest.mark.parametrize(
        ("foreign", "cleaned"),
        [
            ("as it is: 100% (ø)", "as it is: 100% (ø)"),
            ("two\nlines\r\n\tand a tab", "two lines and a tab"),
            (f"{CLEAR_SCREEN}red\x1b[0m", "red"),
            ("\x9b31mred", "red"),
            ("a stray \x1b] is no end of the sentence", "a stray is no end of the sentence"),
            ("abc\u202etxt.exe", "abctxt.exe"),
            ("zero\u200bwidth\ufeff", "zerowidth"),
            ("half a \ud83d pair", "half a \ufffd pair"),
            ("nul\x00 and bell\x07", "nul and bell"),
            ("separated\u2028twice\u2029", "separated twice"),
            ("  much   room  ", "much room"),
            ("", ""),
        ],
    )
    def test_is_one_line_without_anything_that_a_terminal_or_an_encoder_minds(self, foreign: str, cleaned: str) -> None:
        assert clean(foreign, 100) == cleaned

    def test_is_cut_by_bytes_and_between_characters(self) -> None:
        assert clean("x" * 11, 10) == "x" * 7 + "…"
        assert clean("ø" * 11, 10) == "øøø…"
        assert clean("x" * 10, 10) == "x" * 10

    @given(st.text(st.characters(exclude_categories=())), st.integers(3, 40))
    def test_whatever_it_is_it_fits_and_cleaning_it_again_changes_nothing(self, text: str, most: int) -> None:
        once = clean(text, most)
        assert len(once.encode()) <= most
        assert once.splitlines() in ([], [once])
        assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in once)
        assert clean(once, most) == once


class TestAsRead:
    def test_numbers_fit_into_what_the_definition_and_a_lease_can_hold(self) -> None:
        ref = {"term": HUGE, "step": HUGE, "digest": "d" * 100_000}
        said = beat(step=HUGE, checkpoint=ref, loaded=ref, durationS=10**9, firstStep={"step": -5, "at": "soon"})
        found = lease(heartbeat=said).heartbeat
        assert found is not None and found.checkpoint is not None
        assert (found.step, found.checkpoint.step, found.checkpoint.term) == (NUMBER_MAX, NUMBER_MAX, TERM_MAX)
        assert len(found.checkpoint.digest) <= 128
        assert found.first_step == FirstStep(0, LONG_AGO)

    def test_a_term_that_no_lease_could_follow_is_no_claim(self) -> None:
        for claimed, believed in ((TERM_MAX, TERM_MAX), (TERM_MAX + 1, 0), (HUGE, 0)):
            found = lease(heartbeat=beat(termFloor=claimed)).heartbeat
            assert found is not None and found.term_floor == believed

    def test_counts_and_times_of_the_operators_own_annotations_are_bounded_too(self) -> None:
        found = lease(incarnation="9" * 18, failures="9" * 18, active_since="yesterday")
        assert (found.incarnation, found.failures, found.active_since) == (COUNT_MAX, COUNT_MAX, None)

    @pytest.mark.parametrize("written", ["released", "notice"])
    def test_a_message_of_240_kb_is_cut_and_cleaned(self, written: str) -> None:
        words = {"term": 2, "reason": f"Any\n{'r' * 1000}", "exitCode": 1, "message": f"{CLEAR_SCREEN}a\n" * 20_000}
        found = lease(**{written: json.dumps(words)})
        said = found.release or found.notice
        assert said is not None
        assert (len(said.message.encode()), len(said.reason)) <= (1024, 128)
        assert said.message.startswith("a a a")

    def test_a_worker_gives_itself_no_longer_lease_than_it_was_given(self) -> None:
        claim = beat(durationS=10**9)
        assert lease(10, heartbeat=claim).patience_s == 10
        assert lease(10, heartbeat=claim, former_duration="60").patience_s == 60
        assert lease(10, heartbeat=beat(durationS=60), former_duration="60").patience_s == 60
        assert lease(10, heartbeat=beat(durationS=10), former_duration="60").patience_s == 10
        assert lease(10**9).patience_s == 3600, "nor does whoever edits the Lease by hand"


class TestAsWritten:
    def test_a_renewal_is_small_whatever_the_trainer_says(self) -> None:
        huge = "x\n" * 150_000
        said = Heartbeat(pod="digits-0-1", term=2, phase=Phase.TRAINING, step=HUGE, volume=huge, model=huge)
        release = Release(Term(2), huge, 1, huge, CheckpointRef(2, HUGE, huge))
        patch = renewal_patch(said, NOON, release=release, notice=Notice(huge, huge))
        assert len(patch) < 8192
        assert b"\\n" not in patch

    def test_half_a_character_never_keeps_a_renewal_from_being_sent(self) -> None:
        said = Heartbeat(pod="digits-0-1", term=2, phase=Phase.TRAINING, model="\udcff.keras")
        (value,) = [op["value"] for op in json.loads(renewal_patch(said, NOON)) if "heartbeat" in op["path"]]
        assert json.loads(value)["model"] == "\ufffd.keras"

    def test_what_is_in_its_bounds_is_left_as_it_is(self) -> None:
        said = Heartbeat(pod="p", term=2, phase=Phase.TRAINING, step=7, first_step=FirstStep(7, "2026-01-01T00:00:01Z"))
        assert bounded(said) is said

    def test_a_field_without_a_bound_of_its_own_has_the_general_one(self) -> None:
        class Later(msgspec.Struct, frozen=True):
            words: str
            number: int
            several: tuple[Notice, ...]

        found = bounded(Later("x" * 5000, -1, (Notice("r", "a\nb"),) * 50))
        assert (len(found.words.encode()), found.number, len(found.several)) == (1024, 0, 16)
        assert found.several[0].message == "a b"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("2026-01-01T00:00:00Z", True),
        ("2026-01-01T00:00:00.123456Z", True),
        ("2026-01-01T00:00:00+01:00", True),
        ("2026-01-01T00:00:00", False),
        ("2026-01-01", False),
        ("2026-13-01T00:00:00Z", False),
        ("2026-01-01T00:00:00Z\n", False),
        ("٢٠٢٦-01-01T00:00:00Z", False),
        ("", False),
    ],
)
def test_a_time_is_one_that_the_api_server_takes(text: str, is_one: bool) -> None:
    assert is_moment(text) is is_one
