"""The demo: a real training on real data loses its primary three ways, and continues.

    python -m demo [--output demo-output]

Needs the local cluster and its images (`make demo` sees to both): kind's where docker runs and kind is installed, else
the embedded one. Installs the chart, starts the digits sample with one
line of log per step, waits until every rank has a warm redundant pod, and then: `kubectl delete pod` of a primary,
SIGKILL of a trainer, power cut of a node. After each it shows who was promoted, at which term, from which cause, how
long that took and how many steps it cost, measured from outside the operator and set beside what the status says. At
the end the job completes; the output folder then holds a timeline. On a cluster whose volumes are of one node the power
cut is left out, and that is said.

Exits with 1 and one sentence as soon as something does not come true: another cause, a cold start, a status that
contradicts the logs, more steps lost than since the last checkpoint, a job that does not complete. How long things take
is shown, and never a reason to fail.
"""

import argparse
import sys
from pathlib import Path

from demo.screen import Screen
from demo.story import Story
from localcluster import ClusterError
from localcluster.paths import CHECKOUT
from testbed import Testbed, TestbedError

NAMESPACE = "default"


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Lose a primary three ways, live.")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "demo-output", help="where the timeline goes")
    arguments = parser.parse_args()
    screen = Screen()
    try:
        Story.install(screen)
        with Testbed.connect(NAMESPACE) as testbed, screen.watching(testbed):
            Story(testbed, screen, arguments.output).tell()
    except (TestbedError, ClusterError) as error:
        screen.fail(str(error))
        return 1
    except KeyboardInterrupt:
        screen.fail("interrupted; the job still runs; to delete it: kubectl delete tj digits")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
