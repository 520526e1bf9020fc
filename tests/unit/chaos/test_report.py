"""The table and the judgement of memory, on made-up runs."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from chaos import merge
from chaos.memory import GROWTH_MAX_MB, PEAK_MAX_MB, Life, Memory
from chaos.outcome import Loss, Outcome
from chaos.report import line, table, verdict_text, wrong
from localcluster.processes import Identity


def loss(decided_s: float, recovered_s: float | None, lost_steps: int | None, *, late: bool = False) -> Loss:
    return Loss("solo/0", 2, "solo-0-0", "solo-0-1", "ProcessExited", False, decided_s, recovered_s, lost_steps, late)


def test_the_table_has_a_row_for_each_kind_that_was_sent_and_one_for_those_that_came_two_at_once() -> None:
    outcomes = [
        Outcome(1, "kill-trainer", "one", losses=[loss(0.1, 0.2, 10)], whole_s=4.0),
        Outcome(2, "kill-trainer", "two", losses=[loss(0.3, 0.4, 30)], whole_s=8.0, wrong=["bad"]),
        Outcome(3, "api-outage", "three", losses=[loss(20.0, 20.1, 5, late=True)], whole_s=9.0),
        Outcome(4, "delete", "four", void="its pod is ending"),
        Outcome(5, "kill-trainer", "five", paired=True, losses=[loss(9.0, 9.5, 1)], whole_s=20.0),
        Outcome(6, "api-outage", "six", after=5, paired=True, whole_s=19.0),
    ]
    head, _, killed, outage, paired, everything = table(outcomes).splitlines()
    assert head.count("|") == killed.count("|") == everything.count("|")
    assert [word.strip() for word in killed.split("|")[1:-1]] == [
        "SIGKILL of the trainer",
        "2",
        "2",
        "0",
        "0.10 / 0.30 / 0.30",
        "0.20 / 0.40 / 0.40",
        "10 / 30",
        "4.0 / 8.0",
        "0",
        "1",
    ]
    assert "unreachable | 1 | 0 | 0 |  |  |  | 9.0 / 9.0 | 1 | 0" in outage
    assert paired.startswith("| two faults at once | 2 | 1 | 0 | 9.00 /")
    assert everything.startswith("| all | 5 | 3 | 0 |"), "what struck nothing does not count"


def test_a_line_tells_what_was_lost_and_what_is_not_known() -> None:
    told = line(Outcome(7, "power-cut", "power cut of node-1", after=6, losses=[loss(5.0, None, None)], wrong=["bad"]))
    assert told.splitlines() == [
        "   7 --:--:-- power-cut (upon 6): power cut of node-1",
        "       solo/0 solo-0-0 → solo-0-1 (term 2, ProcessExited): decided 5.00 s, first step none, ? steps lost",
        "       WRONG: bad",
    ]


def test_the_verdict_names_each_check_and_what_is_wrong() -> None:
    assert verdict_text({"nothing is lost": ["this is"], "all is small": "none lived", "all is well": []}) == (
        "ok    all is well\nnot judged: all is small: none lived\nWRONG nothing is lost\n      this is\n"
    )


def test_what_was_not_judged_is_not_wrong() -> None:
    assert wrong({"nothing is lost": ["this is"], "all is small": "none lived", "all is well": []}) == {
        "nothing is lost": ["this is"]
    }


def watched(*megabytes: float) -> Memory:
    """A process that was looked at every 30 seconds."""
    return Memory({Identity(1, 1): Life("operator", [(30.0 * at, mb) for at, mb in enumerate(megabytes)])})


def test_a_process_that_grows_without_end_is_found() -> None:
    assert watched(*(50 + GROWTH_MAX_MB * at / 6 for at in range(20))).grown() == [
        "the operator operator grew by 16.0 MB"
    ]


def test_a_process_that_warms_up_and_stays_is_not() -> None:
    assert watched(30, 50, 60, *[62] * 20).grown() == []


def test_a_process_that_grew_is_not_forgotten_for_the_next_one_of_its_pod() -> None:
    both = watched(*(50 + GROWTH_MAX_MB * at / 6 for at in range(20)))
    both.lives[Identity(2, 2)] = Life("operator", [(900.0, 50.0)])
    assert both.grown() != []


def test_a_process_that_lived_too_short_is_judged_by_its_peak_alone() -> None:
    assert watched(50, 80, 110).judged() == []
    assert watched(50, 80, 110).grown() == "no process of an operator was seen for 5 minutes"
    assert watched(50, 80, 110).too_large() == []
    assert watched(50, PEAK_MAX_MB + 1).too_large() != []


def test_the_runs_that_were_written_make_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for seed, found_wrong in ((1, []), (2, ["one is missing"])):
        faults = [asdict(Outcome(1, "kill-trainer", "one", losses=[loss(0.1, 0.2, 10)], whole_s=4.0))]
        found = {"facts": {"seed": seed, "minutes": 3.0}, "verdict": {"the end": found_wrong}, "faults": faults}
        paths.append(tmp_path / f"{seed}.json")
        paths[-1].write_text(json.dumps(found))
    assert merge.main([str(path) for path in paths]) == 1
    told = capsys.readouterr().out
    assert "| all | 2 | 2 | 0 |" in told
    assert "seed 2, 3 minutes, 1 faults\nWRONG the end\n      one is missing\n" in told
