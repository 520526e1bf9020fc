"""Answers of the API server, translated."""

import pytest
from understudy_kube.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    error_of,
    watch_error_of,
)


@pytest.mark.parametrize(
    ("code", "kind", "transient"),
    [
        (400, ApiError, False),
        (401, Unauthorized, True),
        (403, Forbidden, False),
        (404, NotFound, False),
        (409, Conflict, False),
        (410, Gone, False),
        (422, Invalid, False),
        (429, TooManyRequests, True),
        (500, ServerError, True),
        (503, ServerError, True),
    ],
)
def test_each_code_has_its_type_and_a_message_that_names_the_request(
    code: int, kind: type[ApiError], transient: bool
) -> None:
    error = error_of("PATCH", "/leases/x", code, b'{"reason":"Some","message":"because"}')
    assert type(error) is kind and error.is_transient is transient
    assert error.reason == "Some" and "PATCH /leases/x" in error.message and "because" in error.message


def test_an_answer_that_is_no_status_is_quoted_and_cut() -> None:
    error = error_of("GET", "/x", 502, b"<html>" + b"x" * 1000)
    assert "<html>" in error.message and len(error.message) < 600


def test_a_refusal_by_policy_does_not_send_anyone_looking_for_rights() -> None:
    body = b'{"reason":"Forbidden","message":"ValidatingAdmissionPolicy \'x\' denied request: not yours"}'
    error = error_of("PATCH", "/leases/x", 403, body)
    assert isinstance(error, Forbidden)
    assert "not yours" in error.message and "grant" not in error.message


def test_no_answer_is_transient_and_has_status_0() -> None:
    assert Unreachable("x").is_transient and Unreachable("x").status == 0


def test_an_expired_watch_is_gone() -> None:
    assert isinstance(watch_error_of("/x", b'{"code":410,"reason":"Expired"}'), Gone)
    assert isinstance(watch_error_of("/x", b"{}"), ServerError)
