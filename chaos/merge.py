"""One table of several runs, from the JSON that each has left.

python -m chaos.merge chaos-output/seed-11.json chaos-output/seed-12.json
"""

import json
import sys
from pathlib import Path

import msgspec

from chaos.outcome import Outcome
from chaos.report import table, verdict_text, wrong


def main(paths: list[str]) -> int:
    """Print the table of all faults, then each run's verdict; return 1 if something was wrong in any."""
    runs = [json.loads(Path(path).read_text()) for path in paths]
    print(table([msgspec.convert(fault, Outcome) for run in runs for fault in run["faults"]]))
    for run in runs:
        facts = run["facts"]
        print(f"seed {facts['seed']}, {facts['minutes']:g} minutes, {len(run['faults'])} faults")
        print(verdict_text(run["verdict"]))
    return int(any(wrong(run["verdict"]) for run in runs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
