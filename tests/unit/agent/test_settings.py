"""The environment and the command line, and the threads that follow from them."""

import math

import pytest
from understudy.agent.settings import SettingsError, read_settings
from understudy.agent.threads import thread_variables
from understudy_contract.names import Env

ENVIRON = {
    Env.JOB: "digits",
    Env.NAMESPACE: "team",
    Env.POD_NAME: "digits-1-4",
    Env.RANK: "1",
    Env.SLOT: "0",
    Env.HAND_OVER_S: "20",
}


def test_a_redundant_pod_has_two_leases_and_a_primary_one() -> None:
    settings = read_settings(ENVIRON, ["--", "python", "train.py", "--steps", "5"])
    assert (settings.rank_lease, settings.slot_lease) == ("digits-1", "digits-1-s0")
    assert settings.command == ("python", "train.py", "--steps", "5") and settings.script == "python train.py"
    without = {name: value for name, value in ENVIRON.items() if name != Env.SLOT}
    assert read_settings(without, ["python", "train.py"]).slot_lease is None


@pytest.mark.parametrize(
    ("change", "argv", "says"),
    [
        ({}, ["--"], "no command after"),
        ({Env.RANK: ""}, ["x"], "UNDERSTUDY_RANK not set"),
        ({Env.RANK: "one"}, ["x"], "must be numbers"),
        ({Env.SLOT: "first"}, ["x"], "must be numbers"),
        ({Env.HAND_OVER_S: "nan"}, ["x"], "must be a number of seconds"),
        ({Env.PROGRESS_S: "inf"}, ["x"], "UNDERSTUDY_PROGRESS_S must be a number of seconds"),
        ({Env.STARTUP_S: "-1"}, ["x"], "UNDERSTUDY_STARTUP_S must be a number of seconds"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, str], argv: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_settings({**ENVIRON, **change}, argv)


def test_an_operator_of_an_earlier_release_sets_no_deadlines_and_its_grace_period_is_known() -> None:
    settings = read_settings(ENVIRON, ["x"])
    assert (settings.progress_s, settings.startup_s, settings.end_s) == (math.inf, math.inf, math.inf)
    assert settings.grace_s == 30
    assert read_settings({**ENVIRON, Env.GRACE_S: "300", Env.END_S: "60"}, ["x"]).grace_s == 300
    assert settings.serves_probes


def test_a_pod_that_shares_its_nodes_network_serves_no_port() -> None:
    assert not read_settings({**ENVIRON, Env.SERVE_PROBES: "false"}, ["x"]).serves_probes


def test_an_empty_slot_is_a_primarys() -> None:
    assert read_settings({**ENVIRON, Env.SLOT: ""}, ["x"]).slot_lease is None


@pytest.mark.parametrize(
    ("environ", "cores", "threads"),
    [
        ({Env.CPU_LIMIT_M: "1000"}, 8, "1"),
        ({Env.CPU_LIMIT_M: "1001"}, 8, "2"),
        ({Env.CPU_LIMIT_M: "100"}, 8, "1"),
        ({}, 8, "8"),
        ({Env.CPU_LIMIT_M: ""}, 4, "4"),
        ({Env.CPU_LIMIT_M: "0"}, 4, "4"),
    ],
)
def test_threads_follow_the_limit_else_the_visible_cores(environ: dict[str, str], cores: int, threads: str) -> None:
    assert set(thread_variables(environ, cores).values()) == {threads}


def test_threads_that_the_template_sets_are_left_alone() -> None:
    added = thread_variables({"TF_NUM_INTRAOP_THREADS": "7", Env.CPU_LIMIT_M: "2000"}, 8)
    assert added == {"TF_NUM_INTEROP_THREADS": "2", "OMP_NUM_THREADS": "2"}
