"""Run the stages of `make test` one after the other, and say what each took.

    python tests/stages.py [STAGE ...]      without an argument all of them, but for those that only run when named

The first stage that fails ends the run with its exit code; the table of times is printed in any case. Stages that need
a cluster use the embedded one, also where docker and kind are there: only in it can the API server be killed, etcd be
restored and a volume be filled up. Without root on Linux there is none; without an argument these stages are then left
out, and the table says so.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
BIN = Path(PYTHON).parent

STAGES: dict[str, list[list[str]]] = {
    "lint": [
        [str(BIN / "ruff"), "check", "."],
        [str(BIN / "ruff"), "format", "--check", "."],
        [str(BIN / "mypy")],
        [str(BIN / "lint-imports")],
        [str(BIN / "codespell")],
        [PYTHON, "tests/words.py"],
    ],
    # Before the unit tests: it brings helm, without which those of the chart are skipped.
    "cluster": [[PYTHON, "-m", "localcluster", "up"]],
    "unit": [[PYTHON, "-m", "pytest", "-q", "tests/unit", "tests/fuzz"]],
    "simulation": [[PYTHON, "-m", "pytest", "-q", "tests/simulation"]],
    "images": [[PYTHON, "-m", "localcluster", "images"]],
    # In the image just built; `make fuzz` does so for longer.
    "fuzz": [[PYTHON, "-m", "tests.fuzz.image", "--seconds", "60"]],
    "localcluster": [[PYTHON, "-m", "pytest", "-q", "tests/localcluster"]],
    "integration": [[PYTHON, "-m", "pytest", "-q", "tests/integration"]],
    "e2e": [[PYTHON, "-m", "pytest", "-q", "tests/e2e"]],
    # On a third node, as in `make chaos`: the cluster is made anew for it.
    "chaos": [
        [PYTHON, "-m", "localcluster", "up", "--nodes", "3"],
        [PYTHON, "-m", "localcluster", "images"],
        [PYTHON, "-m", "chaos", "--seed", "11", "--minutes", "3"],
    ],
    "cases": [
        [PYTHON, "-m", "localcluster", "up"],
        [PYTHON, "-m", "localcluster", "images"],
        [PYTHON, "-m", "tests.cases", "--write"],
    ],
}
ONLY_NAMED = frozenset({"cases"})
"""Stages that take too long for each run of all."""


WITHOUT_CLUSTER = ("lint", "unit", "simulation")
EMBEDDED = "This uses the embedded cluster (root on Linux), also where docker and kind are there."


def can_embed() -> bool:
    """Tell whether the embedded cluster can run here."""
    return sys.platform == "linux" and os.geteuid() == 0


def main(names: list[str]) -> int:
    """Run the named stages; return the exit code of the first that fails, else 0."""
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        print(f"no such stage: {', '.join(unknown)}; there are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    took: list[tuple[str, float, int]] = []
    code = 0
    left_out = [] if names or can_embed() else [name for name in STAGES if name not in WITHOUT_CLUSTER]
    chosen = [name for name in names or STAGES if name not in left_out and (names or name not in ONLY_NAMED)]
    os.environ["UNDERSTUDY_CLUSTER"] = "embedded"
    if any(name not in WITHOUT_CLUSTER for name in chosen):
        print(EMBEDDED, flush=True)
    for name in chosen:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        for command in STAGES[name]:
            code = subprocess.run(command, cwd=ROOT, check=False).returncode
            if code:
                break
        took.append((name, time.monotonic() - began, code))
        if code:
            break
    print("\nstage             seconds")
    for name, seconds, result in took:
        print(f"{name:<16} {seconds:>8.1f}{'' if result == 0 else f'   failed ({result})'}")
    print(f"{'in all':<16} {sum(seconds for _, seconds, _ in took):>8.1f}", flush=True)
    if left_out:
        print(f"Not run, for the embedded cluster needs root on Linux: {', '.join(left_out)}.", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
