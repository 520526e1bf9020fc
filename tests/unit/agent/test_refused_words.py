"""What the API server will not take of a trainer's words costs neither the Lease nor what the pod has reached."""

import json

import pytest
from understudy import protocol
from understudy.agent import model
from understudy.agent.leases import is_unfit
from understudy_contract.exits import ReleaseReason
from understudy_contract.reports import Heartbeat, Phase
from understudy_kube.errors import error_of

from tests.unit.agent.driver import POD, RANK, Driver, drive, lease, ref


def noting(it: Driver) -> Driver:
    """Let the trainer say something, and the renewal with it be sent."""
    return it.feed(protocol.Notice("CheckpointFailed", "no space left")).wait(2)


def test_a_renewal_that_is_refused_for_its_notice_is_repeated_without_it() -> None:
    it = noting(drive().primary())
    assert it.renewals[-1].notice is not None
    it.fail(refused=True).wait(1)
    bare = it.renewals[-1]
    assert bare.notice is None
    assert bare.beat == Heartbeat(pod=POD, term=1, phase=Phase.TRAINING, step=1, checkpoint=ref(0), duration_s=3), (
        "who holds the Lease and how far it has come is said all the same"
    )
    it.accept()
    assert it.only(model.Log).text == (
        "Lease job-0 is renewed again, without the words of the trainer that were refused"
    )
    full = it.wait(2).renewals[-1]
    assert (full.notice, full.beat.volume) == (None, "v1"), "the notice is dropped, all else is said again"


def test_words_of_the_heartbeat_that_are_refused_stay_out_until_they_are_others() -> None:
    it = drive().primary().wait(2)
    it.fail(refused=True)
    for _ in range(3):
        assert it.wait(2).renewals[-1].beat.volume is None
        it.accept()
    it.feed(protocol.Completed(200, "final/model.keras")).accept()
    assert (it.renewals[-1].beat.volume, it.renewals[-1].beat.model) == ("v1", "final/model.keras")


def test_where_the_words_are_not_to_blame_they_are_tried_again() -> None:
    it = noting(drive().primary())
    it.fail(refused=True).wait(1).fail(refused=True).wait(1)
    assert it.renewals[-1].notice is not None
    it.accept().wait(2)
    assert it.renewals[-1].notice is None, "it was accepted"


def test_an_answer_that_is_not_about_the_words_changes_nothing_of_them() -> None:
    it = noting(drive().primary())
    it.fail().wait(1)
    assert it.renewals[-1].notice is not None


def test_a_release_that_is_refused_for_its_message_is_repeated_without_it() -> None:
    it = drive().primary()
    it.feed(protocol.Failed("what nobody wants to hear")).feed(model.TrainerExited(1))
    release = it.renewals[-1].release
    assert release is not None and release.message == "what nobody wants to hear"
    it.fail(unfit=True).wait(1)
    release = it.renewals[-1].release
    assert release is not None
    assert (release.reason, release.exit_code, release.message) == (ReleaseReason.PROCESS_EXITED, 1, "")
    assert it.accept().only(model.Exit).code == 1


def test_a_renewal_that_is_refused_for_its_term_keeps_its_words() -> None:
    it = drive().feed(protocol.Hello("1")).see(lease(holder=POD, term=2, version=5)).accept()
    noting(it).fail(refused=True).see(lease(holder=POD, term=1, version=9)).wait(1)
    assert (it.renewals[-1].lease, it.renewals[-1].beat.term) == (RANK, 1)
    assert it.renewals[-1].notice is not None


@pytest.mark.parametrize(
    ("code", "said", "unfit"),
    [
        (422, "metadata.annotations: Too long: may not be more than 262144 bytes", True),
        (413, "Request entity too large: limit is 3145728", True),
        (400, "invalid character", True),
        (
            403,
            "leases is forbidden: ValidatingAdmissionPolicy 'any' with binding 'any' denied request: no",
            True,
        ),
        (403, 'admission webhook "any.example.com" denied the request: no', True),
        (403, 'leases "job-0" is forbidden: User "system:serviceaccount:n:job-worker" cannot patch resource', False),
        (401, "Unauthorized", False),
        (404, "not found", False),
        (409, "the object has been modified", False),
        (500, "etcdserver: request timed out", False),
    ],
)
def test_only_a_refusal_of_what_was_said_is_about_the_words(code: int, said: str, unfit: bool) -> None:
    body = json.dumps({"kind": "Status", "code": code, "message": said}).encode()
    assert is_unfit(error_of("PATCH", "/leases/job-0", code, body)) is unfit
