"""What is measured rests on reading the workers' lines right, and each of them once."""

from pathlib import Path

import pytest
from understudy.trainer.log import say, step_line

from benchmarks.stats import median_interval, percentile
from testbed import lines
from testbed.jobs import digits, with_arguments
from testbed.lines import Line, Step
from testbed.logs import PodLog

AT = "2026-01-02T03:04:05.678901Z"
SECONDS = 1767323045.678901


def test_a_step_of_the_trainer_is_read_as_it_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    say(step_line(101, 2000, {"loss": 0.1234, "accuracy": 1.0}, 12.34, 2), AT)
    assert lines.parse(capsys.readouterr().out.rstrip("\n"), 0.0) == Step(SECONDS, 101, 2000, 2, 12.3)


def test_a_step_without_metrics_is_a_step() -> None:
    assert isinstance(lines.parse(f"{AT} step 1/5 3.0 ms/step term 1", 0.0), Step)


def test_the_agents_lines_are_known_from_the_trainers() -> None:
    told = lines.parse(f"understudy: {AT} primary of rank 1 in term 3", 0.0)
    assert told == Line(SECONDS, "primary of rank 1 in term 3", agent=True, stamped=True)
    assert lines.promoted_term(told) == 3
    assert lines.promoted_term(lines.parse(f"{AT} primary of rank 1 in term 3", 0.0)) is None


def test_a_line_without_a_time_has_that_of_its_reader() -> None:
    assert lines.parse("test accuracy 0.98", 7.0) == Line(7.0, "test accuracy 0.98", agent=False, stamped=False)


def test_a_term_begins_where_its_primary_says() -> None:
    log = PodLog("job-0-1", "uid", 0)
    log.add(f"{AT} resuming from step 100 of term 1 as primary of term 2", 0.0)
    assert log.resumed_at(2) == (SECONDS, 100)
    assert log.resumed_at(3) is None


def test_a_log_that_is_read_twice_counts_each_step_once(tmp_path: Path) -> None:
    log = PodLog("job-0-0", "uid", 0)
    log.add(f"{AT} step 1/9 1.0 ms/step term 1", 0.0)
    disk = tmp_path / "0.log"
    disk.write_text("".join(f"{AT} stdout F {AT} step {n}/9 1.0 ms/step term 1\n" for n in (1, 2, 3)))
    assert log.add_from_disk(disk.read_text()) == 2
    log.add(f"{AT} step 2/9 1.0 ms/step term 1", 0.0)
    assert [step.step for step in log.steps] == [1, 2, 3]


def test_an_argument_of_the_sample_is_replaced() -> None:
    assert with_arguments(["--steps=4", "--a=b"], {"steps": "9"}) == ["--a=b", "--steps=9"]
    trainer = digits(log_every=1)["spec"]["template"]["spec"]["containers"][0]
    assert [word for word in trainer["args"] if word.startswith("--log-every")] == ["--log-every=1"]


def test_percentiles_are_values_that_occurred() -> None:
    assert [percentile([4, 1, 3, 2], share) for share in (0.5, 0.95, 1)] == [2, 4, 4]


def test_the_interval_of_a_median_holds_it() -> None:
    middle, low, high = median_interval([0.97, 0.98, 0.99, 1.0, 1.01])
    assert low <= middle == 0.99 <= high
