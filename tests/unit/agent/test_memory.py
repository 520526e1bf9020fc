"""What the agent tells of a process that the kernel killed for want of memory."""

import re
from pathlib import Path

import pytest
from understudy import protocol
from understudy.agent import model
from understudy.agent.memory import MemoryGroup, MemoryWatch
from understudy_contract.reports import LAST_WORDS_MAX_CHARS

from tests.unit.agent.driver import drive

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2 = "low 0\nhigh 0\nmax 7\noom 1\noom_kill {}\noom_group_kill 0\n"
SHORTAGE = "out of memory (OOMKilled): the memory limit of container `trainer` is 192Mi; raise it"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def group(tmp_path: Path, own: str) -> MemoryGroup | None:
    write(tmp_path, own=own)
    return MemoryGroup.own(tmp_path, tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "folder", "events", "limit", "text"),
    [
        ("0::/\n", "", "memory__events", "memory__max", V2),
        ("0::/kubepods/pod7/c\n", "kubepods/pod7/c", "memory__events", "memory__max", V2),
        ("0::/kubepods/pod7/c\n", "", "memory__events", "memory__max", V2),
        (
            "5:cpu,cpuacct:/\n4:memory:/kubepods/c\n0::/\n",
            "memory",
            "memory__oom_control",
            "memory__limit_in_bytes",
            V1,
        ),
        ("4:memory:/host/c\n", "memory/host/c", "memory__oom_control", "memory__limit_in_bytes", V1),
    ],
    ids=["v2", "v2, no namespace", "v2, path of the host", "v1, path of the host", "v1, below the mount"],
)
def test_tells_a_kill_since_the_start_and_the_limit(
    tmp_path: Path, own: str, folder: str, events: str, limit: str, text: str
) -> None:
    write(tmp_path / folder, **{events: text.format(2), limit: f"{192 << 20}\n"})
    watch = MemoryWatch(group(tmp_path, own))
    assert watch.new_shortage() == "", "killed before the start: a container that was restored, not this trainer"
    write(tmp_path / folder, **{events: text.format(3)})
    assert "the memory limit of container `trainer` is 192Mi; raise resources.limits.memory" in watch.new_shortage()
    assert watch.new_shortage() == "", "told once: a trainer that is started later has nothing to do with it"


@pytest.mark.parametrize("limit", ["max", str((1 << 63) - 4096)])
def test_without_a_limit_it_was_the_nodes_memory(tmp_path: Path, limit: str) -> None:
    write(tmp_path, memory__events=V2.format(0), memory__max=limit)
    watch = MemoryWatch(group(tmp_path, "0::/\n"))
    write(tmp_path, memory__events=V2.format(1))
    assert re.search(r"the node had none left.*resources\.requests\.memory", watch.new_shortage())


@pytest.mark.parametrize("own", ["", "0::/\n", "4:memory:/\n", "nonsense\n"])
def test_tells_nothing_where_there_is_nothing_to_read(tmp_path: Path, own: str) -> None:
    assert MemoryWatch(group(tmp_path, own)).new_shortage() == ""


def test_a_trainer_that_was_killed_is_released_as_out_of_memory() -> None:
    release = drive().primary().feed(model.TrainerExited(137, SHORTAGE)).only(model.Renew).release
    assert release is not None
    assert (release.reason, release.exit_code) == ("OOMKilled", 137)
    assert release.message == f"signal 9 (SIGKILL): {SHORTAGE}"


def test_a_redundant_pods_trainer_is_so_too() -> None:
    release = drive().redundant().feed(model.TrainerExited(137, SHORTAGE)).only(model.Renew).release
    assert release is not None and release.reason == "OOMKilled"


def test_a_failure_after_the_death_of_a_child_keeps_its_reason_and_names_the_shortage() -> None:
    raised = "RuntimeError: worker died " + "x" * 2000
    it = drive().primary().feed(protocol.Failed(raised)).feed(model.TrainerExited(1, SHORTAGE))
    release = it.only(model.Renew).release
    assert release is not None and release.reason == "ProcessExited"
    assert release.message.startswith("RuntimeError: worker died")
    assert release.message.endswith(SHORTAGE) and len(release.message) <= LAST_WORDS_MAX_CHARS


def test_a_training_that_completed_all_the_same_is_complete() -> None:
    it = drive().primary().feed(protocol.Completed(9)).accept().feed(model.TrainerExited(0, SHORTAGE))
    release = it.only(model.Renew).release
    assert release is not None and (release.reason, release.message) == ("Completed", "training is complete")


def test_a_kill_of_another_origin_is_told_as_before() -> None:
    release = drive().primary().feed(model.TrainerExited(137)).only(model.Renew).release
    assert release is not None and (release.reason, release.message) == ("ProcessExited", "signal 9 (SIGKILL)")
