"""The same script on a laptop: no agent, a folder of checkpoints."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from understudy.errors import NotStarted
from understudy.trainer.context import read_context
from understudy_contract.names import Env

SCRIPT = Path(__file__).parent / "numpy_trainer.py"
PATIENCE_S = 60.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *arguments]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_a_run_is_taken_up_where_it_was_killed_with_the_same_result(tmp_path: Path) -> None:
    undisturbed = run("--directory", "a", "--result", "a.npy", cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = run("--directory", "b", "--kill-at", "33", cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert "step 30/40" in killed.stdout
    resumed = run("--directory", "b", "--result", "b.npy", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from step " in resumed.stdout and " of b\n" in resumed.stdout
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_more_steps_go_on_from_the_end_and_fresh_starts_over_beside_it(tmp_path: Path) -> None:
    assert run(cwd=tmp_path).returncode == 0
    more = run("--total", "50", cwd=tmp_path)
    assert "resuming from step 40 of checkpoints/numpy_trainer" in more.stdout
    assert "step 50/50" in more.stdout
    fresh = run("--fresh", cwd=tmp_path)
    assert "starting from step 0" in fresh.stdout
    assert sorted(path.name for path in (tmp_path / "checkpoints/numpy_trainer").iterdir()) == ["run-1", "run-2"]


def test_ctrl_c_saves_the_last_step(tmp_path: Path) -> None:
    endless = subprocess.Popen(
        command("--total", "1000000", "--save-every", "1000000"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    with endless:
        assert endless.stdout is not None
        for line in endless.stdout:
            if " step 1/" in line:
                break
        endless.send_signal(signal.SIGINT)
        rest = endless.stdout.read()
    assert endless.returncode == -signal.SIGINT
    saved = rest.partition("interrupted; saved step ")[2].split()[0]
    resumed = run("--total", str(int(saved) + 1), cwd=tmp_path)
    assert f"resuming from step {saved} of" in resumed.stdout


def test_a_half_set_environment_names_what_is_missing() -> None:
    with pytest.raises(NotStarted, match=r"\$UNDERSTUDY_JOB is not"):
        read_context({Env.SOCKET: "/run/understudy/socket"})


def test_a_standalone_context_is_one_rank(tmp_path: Path) -> None:
    context = read_context({}, directory=tmp_path)
    assert (context.standalone, context.rank, context.ranks, context.job_uid) == (True, 0, 1, "run-1")
    assert context.pod_uid.endswith(str(os.getpid()))
