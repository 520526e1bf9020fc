"""Whose fault a failover is: that of a worker which truly fell silent on a busy machine is nobody's."""

from dataclasses import replace

import pytest
from understudy_contract.reports import Cause

from chaos.account import Seen
from chaos.outcome import (
    Loss,
    Outcome,
    Sent,
    at_most,
    excused,
    explains,
    gives_up_a_start,
    lost_without_fault,
    owner_of,
    truly_silent,
    wrongly_resumed,
)
from chaos.strike import Strike
from chaos.target import Target
from chaos.ward import LEASE_S
from testbed.pods import read_pod

SOLO = Target("solo", 0)


def failover(silent_s: float, *, cause: Cause = Cause.LEASE_EXPIRED, acknowledged: bool = True) -> Seen:
    """A failover at 100 s."""
    return Seen(SOLO, 1, 2, "solo-0-0", "solo-0-1", cause, "it ended", False, 100.0, 100.0 - silent_s, acknowledged)


def sent(*, ended: float, deafens: bool) -> Sent:
    """A fault that was over at some moment."""
    outcome = Outcome(1, "any", "any", at=50.0, ended=ended)
    return Sent(Strike("any", lambda: 50.0, deafens=deafens), outcome, {}, {})


CALM = sent(ended=60.0, deafens=False)


def test_a_worker_that_did_not_renew_for_a_lease_is_truly_silent() -> None:
    assert truly_silent(failover(LEASE_S), [CALM])
    assert not truly_silent(failover(LEASE_S - 1), [CALM])


def test_a_fault_of_which_nothing_may_come_excuses_no_silence() -> None:
    touching = Sent(Strike("any", lambda: 50.0, blurs=frozenset({SOLO})), CALM.outcome, {}, {})
    assert not excused(failover(LEASE_S), [CALM])
    assert excused(failover(LEASE_S), [touching])
    assert excused(failover(LEASE_S), [CALM, touching])
    assert not excused(failover(LEASE_S), [CALM, CALM])


def lost(number: int, *, late: bool = False) -> Outcome:
    """A fault by which one primary was lost, or beside which one fell silent."""
    loss = Loss("solo/0", number, f"solo-0-{number}", f"solo-0-{number + 1}", "any", False, 5.0, 5.1, 0, late)
    return Outcome(number, "any", "any", losses=[loss])


@pytest.mark.parametrize(("faults", "silent", "right"), [(0, 1, True), (5, 2, False), (199, 2, False), (200, 2, True)])
def test_a_busy_machine_explains_one_silent_primary_or_one_in_a_hundred(faults: int, silent: int, right: bool) -> None:
    outcomes = [lost(number, late=number < silent) for number in range(faults + silent)]
    assert (lost_without_fault(outcomes, []) == []) is right


def test_silent_primaries_are_named_when_they_are_too_many() -> None:
    (sentence,) = lost_without_fault([lost(3, late=True), lost(4), lost(5, late=True)], [])
    assert sentence.startswith("2 primaries fell silent and no fault asked for it, 1 would do: ")
    assert sentence.endswith("solo-0-3 beside fault 3, solo-0-5 beside fault 5")


def test_a_failover_between_two_faults_counts_as_well() -> None:
    silent, deleted = failover(LEASE_S), failover(LEASE_S, cause=Cause.POD_DELETED)
    known = replace(silent, term=4, old="solo-0-4", new="solo-0-5")
    assert lost_without_fault([lost(4)], [known, silent]) == []
    assert "solo-0-0 between two faults" in lost_without_fault([lost(3, late=True)], [silent])[0]
    assert lost_without_fault([], [deleted]) == [
        "solo/0 passed from solo-0-0 to solo-0-1 (term 2, PodDeleted: it ended), which belongs to no fault"
    ]


def test_a_successor_that_does_not_acknowledge_is_given_less() -> None:
    assert truly_silent(failover(2.5, acknowledged=False), [CALM])
    assert not truly_silent(failover(1.0, acknowledged=False), [CALM])


@pytest.mark.parametrize("since_s", [1.0, LEASE_S - 1.0])
def test_what_nobody_could_hear_does_not_count(since_s: float) -> None:
    outage = sent(ended=100.0 - since_s, deafens=True)
    assert not truly_silent(failover(30.0), [CALM, outage])
    assert truly_silent(failover(30.0), [sent(ended=100.0 - LEASE_S, deafens=True)])


def test_a_slow_api_server_excuses_a_successor_that_could_not_report_and_no_primary() -> None:
    slow = replace(sent(ended=99.0, deafens=True), strike=Strike("slow", lambda: 50.0, deafens=True, slows=True))
    assert truly_silent(failover(2.5, acknowledged=False), [CALM, slow])
    assert not truly_silent(failover(2.5, acknowledged=False), [CALM, sent(ended=99.0, deafens=True)])
    assert not truly_silent(failover(1.0, acknowledged=False), [CALM, slow])
    assert not truly_silent(failover(30.0), [CALM, slow])
    assert not excused(failover(2.5, acknowledged=False), [slow]), "alone it has made nobody a successor"


def test_other_causes_have_other_reasons() -> None:
    assert not truly_silent(failover(30.0, cause=Cause.POD_DELETED), [CALM])


def test_a_fault_that_takes_pods_explains_the_loss_of_no_other_primary() -> None:
    deleted = frozenset({Cause.POD_DELETED})
    drained = Strike("drain", lambda: 50.0, may={SOLO: deleted}, takes=frozenset({"solo-0-1"}))
    elsewhere = failover(1.0, cause=Cause.POD_DELETED)
    there = replace(elsewhere, old="solo-0-1", new="solo-0-2")
    one = Sent(drained, CALM.outcome, {}, {})
    assert explains(one, there, [one])
    assert not explains(one, elsewhere, [one])


def test_a_pod_that_was_never_made_is_lost_by_the_end_of_an_operator_and_by_nothing_else() -> None:
    deleted = frozenset({Cause.POD_DELETED})
    evicted = Strike("any", lambda: 50.0, must={SOLO: deleted}, may={SOLO: deleted})
    eviction = Sent(evicted, Outcome(1, "evict", "any", at=50.0, ended=60.0), {}, {})
    ended = Sent(Strike("any", lambda: 51.0), Outcome(2, "operators-gone", "any", at=51.0, ended=60.0), {}, {})
    unmade = failover(1.0, cause=Cause.POD_DELETED, acknowledged=False)
    assert owner_of(unmade, [eviction, ended], made=False, overtaken=False) is ended
    assert owner_of(unmade, [eviction, ended], made=True, overtaken=False) is eviction
    assert owner_of(unmade, [eviction], made=False, overtaken=False) is None
    assert owner_of(replace(unmade, promoted_at=50.5), [eviction, ended], made=False, overtaken=False) is None


def test_a_cold_start_that_a_redundant_pod_overtakes_belongs_to_what_made_it_necessary() -> None:
    taken = Sent(Strike("any", lambda: 50.0, may={SOLO: frozenset()}), CALM.outcome, {}, {})
    overtaken = failover(8.0, acknowledged=False)
    assert gives_up_a_start(overtaken)
    assert owner_of(overtaken, [taken, CALM], made=True, overtaken=True) is taken
    assert owner_of(overtaken, [CALM], made=True, overtaken=True) is None
    assert owner_of(overtaken, [taken, CALM], made=True, overtaken=False) is None
    for other in failover(8.0), replace(overtaken, cause=Cause.POD_DELETED), replace(overtaken, cold=True):
        assert not gives_up_a_start(other)


def test_when_all_workers_are_cut_off_a_pod_that_another_fault_has_made_necessary_speaks_against_a_primary() -> None:
    cut = Strike("any", lambda: 50.0, deafens=True, cut=frozenset({"solo-0-0", "pair-0-1"}))
    off = Sent(cut, Outcome(1, "cut-off-all", "any", at=50.0, ended=0.0), {}, {})
    found = [
        owner_of(seen, sent, made=True, overtaken=False)
        for seen, sent in (
            (failover(LEASE_S), [off, CALM]),
            (failover(LEASE_S), [off]),
            (failover(LEASE_S - 1), [off, CALM]),
            (replace(failover(LEASE_S), new="pair-0-1"), [off, CALM]),
            (replace(failover(LEASE_S), old="solo-0-9"), [off, CALM]),
            (failover(LEASE_S, cause=Cause.POD_DELETED), [off, CALM]),
        )
    ]
    assert found == [off, None, None, None, None, None]


def test_each_pod_that_a_fault_takes_can_be_lost_once() -> None:
    takes = frozenset({"trio-0-1", "trio-0-2", "trio-0-10", "trio-10-3", "solo-0-4"})
    strike = Strike("any", lambda: 50.0, takes=takes)
    assert [at_most(strike, t) for t in (Target("trio", 0), SOLO, Target("pair", 0))] == [3, 1, 0]
    assert at_most(Strike("any", lambda: 50.0, must={SOLO: frozenset()}, may={SOLO: frozenset()}), SOLO) == 2


def test_what_may_befall_a_successor_does_not_explain_the_loss_of_the_first_primary() -> None:
    exited, died = frozenset({Cause.CONTAINER_EXITED}), frozenset({Cause.PROCESS_EXITED})
    killed = Strike("any", lambda: 50.0, must={SOLO: died}, may={SOLO: exited})
    first = read_pod({"metadata": {"name": "solo-0-0", "uid": "u", "labels": {}}, "spec": {}})
    one = Sent(killed, CALM.outcome, {SOLO: first}, {})
    assert not explains(one, failover(1.0, cause=Cause.CONTAINER_EXITED), [one])
    later = replace(failover(1.0, cause=Cause.CONTAINER_EXITED), old="solo-0-1", new="solo-0-2")
    assert explains(one, later, [one])


def test_a_release_that_could_not_be_written_leaves_the_end_of_the_container_as_the_cause() -> None:
    strike = Strike("frozen", lambda: 50.0, must={SOLO: frozenset({Cause.STALLED})})
    frozen = Sent(strike, Outcome(1, "any", "any", at=50.0, ended=60.0), {}, {})
    ended = failover(1.0, cause=Cause.CONTAINER_EXITED)
    assert explains(frozen, failover(1.0, cause=Cause.STALLED), [frozen])
    assert not explains(frozen, ended, [frozen, CALM])
    assert explains(frozen, ended, [frozen, sent(ended=60.0, deafens=True)])


def on_volume(step: int, *, at: float, damaged: int | None = None) -> Sent:
    """A fault at which this step was the newest that was whole."""
    outcome = Outcome(1, "any", "any", at=at)
    return Sent(Strike("any", lambda: at), outcome, {}, {SOLO: step}, {} if damaged is None else {SOLO: damaged})


@pytest.mark.parametrize(("step", "right"), [(50, False), (100, True), (150, False), (200, True)])
def test_a_successor_goes_on_from_the_checkpoint_before_the_damaged_one_or_from_a_later_one(
    step: int, right: bool
) -> None:
    damaging = on_volume(100, at=50.0, damaged=150)
    assert (wrongly_resumed(damaging, failover(0.0), 101.0, step, [damaging]) == []) is right


def test_what_was_damaged_later_could_still_be_gone_on_from_before() -> None:
    first, damaging = on_volume(150, at=50.0), on_volume(100, at=60.0, damaged=150)
    other = replace(damaging, damaged={Target("pair", 0): 150})
    for at, step, group, right in (
        (59.0, 150, [first, damaging], True),
        (59.0, 100, [first, damaging], False),
        (61.0, 100, [first, damaging], True),
        (61.0, 50, [first, damaging], False),
        (61.0, 150, [first, damaging], True),  # it had that state in memory
        (61.0, 100, [first, other], False),
    ):
        assert (wrongly_resumed(first, failover(0.0), at, step, group) == []) is right, (at, step)
