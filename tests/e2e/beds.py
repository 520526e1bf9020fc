"""Namespaces in use by tests, and what to show of them when a test fails."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from testbed import Testbed, TestbedError, operator
from testbed.kube import EVENTS

LOG_LINES: Final = 60

MakeBed = Callable[..., Testbed]
"""Makes a namespace with these labels, with the trainers' scripts in it."""

in_use: Final[list[Testbed]] = []


@contextmanager
def described(testbed: Testbed) -> Iterator[None]:
    """Let failures show a namespace, and delete it in the end."""
    in_use.append(testbed)
    try:
        yield
    finally:
        in_use.remove(testbed)
        testbed.delete_namespace()


def describe(testbed: Testbed) -> str:
    """Say what there is in a namespace."""
    parts = [f"== pods\n{_kubectl(testbed, 'get', 'pods', '-o', 'wide', '--show-labels')}"]
    events = testbed.kube.get(EVENTS.format(testbed.namespace))["items"]
    events.sort(key=lambda e: e.get("lastTimestamp") or e["metadata"]["creationTimestamp"])
    lines = [
        f"{e.get('lastTimestamp') or e['metadata']['creationTimestamp']} {e['involvedObject']['name']} "
        f"{e['reason']}: {e['message']}"
        for e in events
    ]
    parts.append("== events\n" + "\n".join(lines[-80:]))
    parts += [
        f"== status of {name}\n{json.dumps(msgspec.to_builtins(testbed.status(name)), indent=1)}"
        for name in testbed.world.jobs
    ]
    for name in sorted(testbed.world.pods):
        tail = testbed.log_text(name).splitlines()[-LOG_LINES:]
        parts.append(f"== log of {name}\n" + "\n".join(tail))
    try:
        for name, text in operator.logs(testbed.kube).items():
            parts.append(f"== log of the operator {name}\n" + "\n".join(text.splitlines()[-LOG_LINES:]))
    except TestbedError as error:
        parts.append(f"== the operator: {error}")
    return "\n".join(parts)


def _kubectl(testbed: Testbed, *arguments: str) -> str:
    done = subprocess.run(testbed.kubectl(*arguments), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
