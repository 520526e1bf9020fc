# ruff: noqa: N818 - the names are those of the API's own reasons
"""What can go wrong between us and the API server.

    ApiError                  the server refused, or could not be asked
    ├── Unauthorized   401    the token or certificate is not accepted (yet): tokens rotate, so this passes
    ├── Forbidden      403    a right is lacking, or admission refused: a quota, a policy, … (refusals.py)
    ├── NotFound       404
    ├── Conflict       409    stale resourceVersion, or the name is taken
    ├── Gone           410    the resourceVersion is too old to watch from
    ├── Invalid        422    refused by validation, or a JSON Patch's `test` failed
    ├── TooManyRequests 429
    ├── ServerError    5xx
    └── Unreachable    0      no answer: refused, timed out, reset, DNS, TLS. The request may have been carried out

"The API is unreachable" and "the API says no" are never the same type.
"""

from typing import Final

import msgspec

from understudy_kube import shallow
from understudy_kube.refusals import Refusal, classify


class ApiError(Exception):
    """One failed request. `message` names the request, what was answered and what to do."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status: Final = status
        self.reason: Final = reason
        self.message: Final = message

    @property
    def refusal(self) -> Refusal | None:
        """Which part of the API server refused; None if none did."""
        found = classify(self.status, self.message)
        return found[0] if found is not None else None

    @property
    def is_transient(self) -> bool:
        """Say whether the same request may succeed later without anyone changing it.

        A 500 because an admission webhook cannot be called is the webhook's, and somebody has to mend that.
        """
        if self.refusal is Refusal.WEBHOOK_DOWN:
            return False
        return isinstance(self, Unreachable | TooManyRequests | ServerError | Unauthorized)


class Unauthorized(ApiError):
    """401."""


class Forbidden(ApiError):
    """403."""


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409."""


class Gone(ApiError):
    """410."""


class Invalid(ApiError):
    """422."""


class TooManyRequests(ApiError):
    """429."""


class ServerError(ApiError):
    """5xx."""


class Unreachable(ApiError):
    """No answer at all."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


class Status(msgspec.Struct):
    """The part of a meta/v1 Status that is read."""

    code: int = 0
    reason: str = ""
    message: str = ""


_STATUS: Final = msgspec.json.Decoder(Status)
_KINDS: Final[dict[int, type[ApiError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}
_ADVICE: Final = {
    401: "check that the token or certificate is of this cluster and has not expired",
    404: "check that the object, its namespace and its API (CRD) exist",
    409: "read the object again and decide anew",
    410: "list again",
    422: "read the object again, then correct the request",
    429: "the API server is overloaded: try again later",
}
_TEXT_MAX_CHARS: Final = 400
"""An answer that is no Status (a proxy's page) is cut here."""


def _status_of(body: bytes) -> Status:
    try:
        return shallow.decode(body, _STATUS)
    except msgspec.MsgspecError:
        return Status(message=body[:_TEXT_MAX_CHARS].decode(errors="replace").strip())


def error_of(verb: str, path: str, code: int, body: bytes) -> ApiError:
    """Translate an answer that is no success."""
    status = _status_of(body)
    kind = _KINDS.get(code, ServerError if code >= 500 else ApiError)
    said = status.message or status.reason or "no message"
    advice = _ADVICE.get(
        code, "the API server is in trouble: try again later" if code >= 500 else "correct the request"
    )
    if (refused := classify(code, said)) is not None and not (refused[0] is Refusal.INVALID and code in _ADVICE):
        advice = refused[1]
    return kind(code, status.reason, f"{verb} {path} was answered {code}: {said}; {advice}")


def watch_error_of(path: str, body: bytes) -> ApiError:
    """Translate the object of a watch's ERROR event."""
    return error_of("WATCH", path, _status_of(body).code or 500, body)
