"""Up, whatever was there before; down, whatever is left. On a second instance, beside the cluster in use."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.localcluster.tools import cli, kubectl, remove, until

pytestmark = pytest.mark.cluster
INSTANCE = 1
NAME = f"understudy{INSTANCE}"


def up() -> str:
    return cli("up", instance=INSTANCE)


def down() -> str:
    return cli("down", instance=INSTANCE)


def processes() -> set[int]:
    """Pids in network namespaces whose names are the instance's: looked for by other means than the program's own."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    found: set[int] = set()
    for line in names.splitlines():
        if line.startswith(f"{NAME}-"):
            pids = subprocess.run(["ip", "netns", "pids", line.split()[0]], capture_output=True, text=True, check=True)
            found |= {int(pid) for pid in pids.stdout.split()}
    return found


def leftovers() -> list[str]:
    """Everything on this machine that bears the instance's name."""
    found = []
    for command in (["ip", "netns", "list"], ["ip", "-o", "link"], ["ip", "route"]):
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found += [line for line in listed.splitlines() if NAME in line or f"proto {89 + INSTANCE} " in line]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if NAME in line]
    found += [str(folder) for folder in Path("/sys/fs/cgroup").glob(f"**/{NAME}")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command_line = (process / "cmdline").read_text()
        except OSError:
            continue
        if f"/cluster{INSTANCE}/" in command_line:
            found.append(command_line.replace("\0", " "))
    return found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    down()
    yield
    down()
    assert leftovers() == []


def test_up_makes_two_ready_nodes_and_a_second_up_changes_nothing() -> None:
    up()
    uid = kubectl("get", "namespace", "default", instance=INSTANCE)["metadata"]["uid"]
    nodes = kubectl("get", "nodes", instance=INSTANCE)["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["node-1", "node-2"]
    running = processes()
    up()
    assert processes() >= running
    assert kubectl("get", "namespace", "default", instance=INSTANCE)["metadata"]["uid"] == uid


def test_up_makes_a_cluster_anew_after_all_its_processes_were_killed() -> None:
    up()
    uid = kubectl("get", "namespace", "default", instance=INSTANCE)["metadata"]["uid"]
    kill_all()
    assert "Removing" in up()
    assert kubectl("get", "namespace", "default", instance=INSTANCE)["metadata"]["uid"] != uid


def test_up_restarts_a_node_that_died_and_keeps_the_cluster() -> None:
    up()
    uid = kubectl("get", "namespace", "default", instance=INSTANCE)["metadata"]["uid"]
    node = next(pid for pid in processes() if Path(f"/proc/{pid}/comm").read_text().strip() == "unshare")
    os.kill(node, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{node}").exists(), "the node's end")
    assert "started" in up()
    assert kubectl("get", "namespace", "default", instance=INSTANCE)["metadata"]["uid"] == uid


def test_down_leaves_nothing_of_a_cluster_whose_processes_were_killed() -> None:
    up()
    kill_all()
    down()
    assert leftovers() == []


def test_down_leaves_nothing_when_the_record_of_what_runs_was_lost() -> None:
    up()
    for file in ("state.json", "pids"):
        remove(Path("/run") / NAME / file)
    down()
    assert leftovers() == []


def test_down_leaves_nothing_when_even_the_names_of_the_networks_were_lost() -> None:
    up()
    for handle in Path("/run/netns").glob(f"{NAME}-*"):
        subprocess.run(["ip", "netns", "delete", handle.name], check=True)
    for file in ("state.json", "pids"):
        remove(Path("/run") / NAME / file)
    down()
    assert leftovers() == []


def kill_all() -> None:
    victims = processes()
    assert victims
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):  # ended with another one
            os.kill(pid, signal.SIGKILL)
    until(lambda: not processes(), "the end of all processes")
