"""The script that a sample carries runs: on a laptop, as anyone would try it first."""

import subprocess
import sys
from pathlib import Path

import yaml

SAMPLES = Path(__file__).resolve().parents[3] / "manifests" / "samples"
STEPS = 200


def test_the_numpy_sample_learns_the_line(tmp_path: Path) -> None:
    job = yaml.safe_load((SAMPLES / "numpy.yaml").read_text())
    trainer = job["spec"]["template"]["spec"]["containers"][0]
    python, *options = [*trainer["command"], *trainer["args"][:-1]]
    assert python == "python"
    ran = subprocess.run(
        [sys.executable, *options, str(STEPS)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert f"step {STEPS}/{STEPS}" in ran.stdout + ran.stderr
    slope, intercept = ran.stdout.splitlines()[-1].removeprefix("y = ").split("x + ")
    assert abs(float(slope) - 3) < 0.1
    assert abs(float(intercept) - 1) < 0.1
