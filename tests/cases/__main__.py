"""Run the cases, several side by side, and write what was seen into the table of docs/reference/cases.md.

    python -m tests.cases [--side-by-side N] [--write] [CASE ...]      all of them without a name

Each case is a pytest process with a namespace of its own. The chart is installed once, before the first of them; the
images are those that the nodes have. With --write each case that ends replaces its row, and no other. The exit
code is 1 if a case failed.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from localcluster import choice
from testbed import operator
from tests.cases import table

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "cases.md"
PYTEST: Final = [sys.executable, "-m", "pytest", "-q"]
SIDE_BY_SIDE: Final = 4
"""For two cores: a case waits most of its time."""
LIMIT_S: Final = 900
"""Of one case; its own waits are shorter."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What became of a case."""

    row: table.Row
    passed: bool
    took_s: float
    output: str


def find() -> dict[str, str]:
    """Return the id of each case's test, by the name of the case: `test_late_exit` is late-exit."""
    argv = [*PYTEST, "--collect-only", "tests/cases"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    ids = [line for line in listed.stdout.splitlines() if "::test_" in line]
    return {test.rpartition("::test_")[2].replace("_", "-"): test for test in ids}


def run(name: str, test: str, stamp: str) -> Result:
    """Run one case."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result.xml")
        argv = [*PYTEST, f"--junitxml={file}", test]
        environment = {**os.environ, "UNDERSTUDY_IMAGES": "keep", "UNDERSTUDY_CHART": "keep"}
        try:
            done = subprocess.run(
                argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired:
            row = table.Row(name, "", "", f"{table.FAILED}: it did not end within {LIMIT_S} s", stamp)
            return Result(row, passed=False, took_s=time.monotonic() - began, output="")
        row = table.read(name, file, stamp)
    passed = done.returncode == 0 and not row.failed
    if not passed and not row.failed:
        row = dataclasses.replace(row, seen=f"{table.FAILED}: pytest ended with code {done.returncode}; {row.seen}")
    result = Result(row, passed, time.monotonic() - began, done.stdout + done.stderr)
    print(f"{'passed' if result.passed else 'FAILED'}  {name}  {result.took_s:.0f} s: {row.seen}", flush=True)
    return result


def commit() -> str:
    """Name the commit of the checkout, with a plus if files of it have changed."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, check=False).returncode
    return head.stdout.strip() + ("+" if changed else "")


def main() -> int:
    """Run the cases that are named; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cases")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--side-by-side", type=int, default=SIDE_BY_SIDE)
    parser.add_argument(
        "--write", action="store_true", help="replace the rows of these cases in docs/reference/cases.md"
    )
    arguments = parser.parse_args()
    there = find()
    if unknown := set(arguments.cases) - set(there):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    operator.install(choice.connect())
    stamp = f"{datetime.now(UTC):%Y-%m-%d}, {commit()}"
    names = arguments.cases or list(there)
    with ThreadPoolExecutor(arguments.side_by_side) as pool:
        running = [pool.submit(run, name, there[name], stamp) for name in names]
        results = []
        for done in as_completed(running):
            results.append(done.result())
            if arguments.write:
                PAGE.write_text(table.replace(PAGE.read_text(), [results[-1].row], list(there)))
    for result in results:
        if not result.passed:
            print(f"\n== {result.row.case}\n{result.output}", flush=True)
    failed = [result.row.case for result in results if not result.passed]
    print(f"{len(results) - len(failed)} of {len(results)} cases gave what they expect", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
