"""Measure what a tenant can make the operator hold in memory: `python -m tests.integration.operator.memory`.

A real operator's process, with the rights of the chart, on an API server of its own. Reads VmRSS and VmHWM (the most so
far) of that process from /proc after each kind of object was made, and once more after a restart, when all of it is in
the first lists. Needs `make cluster` for the programs of the control plane.
"""

import argparse
import json
import tempfile
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy_contract import names
from understudy_contract.names import Label

from tests.integration.operator.conftest import install, operators_of
from tests.integration.operator.control_plane import ControlPlane, await_policy, running
from tests.integration.operator.process import Operator

JOBS = f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
TRAINER = {"name": "trainer", "image": "any:1", "command": ["python"]}
SETTLED_S = 5.0
"""Without a change of more than SETTLED_KB in this time, memory is read."""
SETTLED_KB = 200


def memory_kb(operator: Operator) -> tuple[int, int]:
    """Read resident memory, and the most of it so far."""
    assert operator.process is not None
    lines = Path(f"/proc/{operator.process.pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found["VmRSS"].split()[0]), int(found["VmHWM"].split()[0])


def settled_kb(operator: Operator) -> tuple[int, int]:
    """Wait until memory stands still."""
    last, since = memory_kb(operator), time.monotonic()
    while time.monotonic() - since < SETTLED_S:
        time.sleep(0.25)
        now = memory_kb(operator)
        if abs(now[0] - last[0]) > SETTLED_KB or now[1] != last[1]:
            last, since = now, time.monotonic()
    return last


def job(name: str, nonsense: int) -> dict[str, Any]:
    """A suspended job with so many bytes of empty objects in its pod template."""
    spec: dict[str, Any] = {"containers": [TRAINER], "nonsense": [{}] * (nonsense // 3)}
    meta = {"name": name}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": meta,
        "spec": {"suspend": True, "template": {"spec": spec}},
    }


def lease(name: str, size_bytes: int) -> dict[str, Any]:
    """A Lease with the operator's labels, and one with its annotations, that belongs to no job."""
    labels = {Label.JOB_UID: "nobody", Label.JOB: "none"}
    notice = json.dumps({"reason": "NotExact", "message": "x" * size_bytes})
    meta = {"name": name, "labels": labels, "annotations": {"understudy.dev/notice": notice}}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}


@contextmanager
def leading(operator: Operator) -> Iterator[Operator]:
    """Start the operator and wait until it leads; kill it at the end."""
    before = operator.text().count("this process leads") if operator.log.exists() else 0
    operator.start()
    try:
        while operator.text().count("this process leads") == before if operator.log.exists() else True:
            if not operator.runs():
                raise SystemExit(f"the operator has ended:\n{operator.text()[-4000:]}")
            time.sleep(0.1)
        yield operator
    finally:
        operator.kill()


def post(plane: ControlPlane, path: str, body: dict[str, Any]) -> None:
    """Create an object, or say why it is refused."""
    try:
        plane.request("POST", path, body)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{path}: {error.code} {error.read().decode()[:400]}") from None


def main() -> None:
    """Measure, and print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leases", type=int, default=800)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as plane:
        install(plane)
        await_policy(plane)
        operator = operators_of(plane)("operator")

        def tell(what: str) -> None:
            resident, most = settled_kb(operator)
            print(f"{what:<58} {resident / 1000:7.1f} MB   most {most / 1000:7.1f} MB", flush=True)

        with leading(operator):
            tell("the operator, which has nothing to do")
            for index, size in enumerate((240_000, 450_000)):
                post(plane, JOBS, job(f"nonsense{index}", size))
                tell(f"one suspended job with {size // 1000} kB of nonsense more")
            for index in range(20):
                post(plane, JOBS, job(f"more{index}", 240_000))
            tell("20 with 240 kB more")
            for index in range(wanted.leases):
                post(plane, LEASES, lease(f"nobodys-{index}", 240_000))
            tell(f"{wanted.leases} Leases of 240 kB with the operator's labels more")
        with leading(operator):
            tell("all of that, after a restart")


if __name__ == "__main__":
    main()
