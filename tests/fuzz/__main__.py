"""Fuzz for a time: `python -m tests.fuzz [--seconds 60] [NAME ...]`. Needs hypothesis and the operator's packages.

Each test is run in turn with fresh random examples until the time is up; the first failure ends the run with the
example, shrunk, and the line that reproduces it.
"""

import argparse
import importlib
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable

from hypothesis.errors import HypothesisWarning

MODULES = ("tests.fuzz.test_decoders", "tests.fuzz.test_protocol", "tests.fuzz.test_volume")
EXAMPLES = 200
"""Of each test in its turn."""


def found() -> dict[str, Callable[[], None]]:
    """Find the tests; those of packages that are not installed here are left out, and named."""
    tests: dict[str, Callable[[], None]] = {}
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            print(f"{name} is left out: {error}")
            continue
        tests |= {key: value for key, value in vars(module).items() if key.startswith("test_")}
    return tests


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("names", nargs="*")
    wanted = parser.parse_args()
    logging.disable()
    warnings.filterwarnings("ignore", category=HypothesisWarning)  # examples that are large are meant
    os.environ["UNDERSTUDY_FUZZ_EXAMPLES"] = str(EXAMPLES)
    tests = {name: test for name, test in found().items() if not wanted.names or name in wanted.names}
    unknown = set(wanted.names) - set(tests)
    if unknown or not tests:
        sys.exit(f"there is no test {', '.join(sorted(unknown))}: there are {', '.join(found())}")
    until, turns = time.monotonic() + wanted.seconds, 0
    while time.monotonic() < until:
        for test in tests.values():
            test()
            turns += 1
            if time.monotonic() >= until:
                break
    print(f"Python {platform.python_version()}: {turns * EXAMPLES} examples of {len(tests)} decoders, and no failure")


if __name__ == "__main__":
    main()
