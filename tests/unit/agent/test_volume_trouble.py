"""A trainer that ends for want of its volume: the release says whose fault it was."""

from understudy import protocol
from understudy.agent import model
from understudy_contract.exits import ReleaseReason

from tests.unit.agent.driver import drive


def test_the_volume_is_named_as_the_reason() -> None:
    it = drive().primary().feed(protocol.Failed("the floor is missing", volume=True)).feed(model.TrainerExited(1))
    release = it.renewals[-1].release
    assert release is not None
    assert (release.reason, release.message) == (ReleaseReason.VOLUME_TROUBLE, "the floor is missing")


def test_a_program_that_fails_is_its_own_reason() -> None:
    it = drive().primary().feed(protocol.Failed("ValueError: 7")).feed(model.TrainerExited(1))
    release = it.renewals[-1].release
    assert release is not None and release.reason is ReleaseReason.PROCESS_EXITED
