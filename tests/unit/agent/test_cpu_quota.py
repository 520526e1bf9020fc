"""The CPU limit that a container's cgroup tells, on both versions and however the container sees it."""

from pathlib import Path

import pytest
from understudy.agent.cpu_quota import cpu_quota_m
from understudy.agent.threads import thread_variables

POD = "/kubepods.slice/pod1.slice"

SEEN: dict[str, tuple[str, dict[str, str], int | None]] = {
    "v2 with a namespace of its own": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1500),
    "v2 without a limit": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "v2 with the host's namespace": (f"0::{POD}/c\n", {f"{POD}/c/cpu.max": "50000 100000\n"}, 500),
    "v2, the limit is the pod's": (
        f"0::{POD}/c\n",
        {f"{POD}/c/cpu.max": "max 100000\n", f"{POD}/cpu.max": "200000 100000\n"},
        2000,
    ),
    "v2, the smallest one counts": (
        f"0::{POD}/c\n",
        {f"{POD}/c/cpu.max": "300000 100000\n", f"{POD}/cpu.max": "200000 100000\n"},
        2000,
    ),
    "v2, a path outside of the namespace": ("0::/../other\n", {"cpu.max": "100000 100000\n"}, 1000),
    "v1, a container's own mount": (
        f"4:cpu,cpuacct:{POD}/c\n1:memory:{POD}/c\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        2500,
    ),
    "v1, the whole tree": (
        f"4:cpu:{POD}/c\n",
        {f"cpu{POD}/c/cpu.cfs_quota_us": "1000\n", f"cpu{POD}/c/cpu.cfs_period_us": "100000\n"},
        10,
    ),
    "v1 without a limit": ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    "both versions, v1 has the controller": (
        "4:cpu:/\n0::/\n",
        {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n", "unified/cgroup.procs": ""},
        1000,
    ),
    "another controller's group": ("4:cpuset:/\n", {"cpuset/cpu.max": "1 1\n"}, None),
    "nonsense": ("nonsense\n::\n", {"cpu.max": "a lot\n"}, None),
    "nothing": ("", {}, None),
}


def hierarchy(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Make what a container sees: its mount and its /proc/self/cgroup."""
    root, own = folder / "cgroup", folder / "self"
    own.write_text(membership)
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root, own


@pytest.mark.parametrize(("membership", "files", "expected"), SEEN.values(), ids=SEEN)
def test_the_quota_is_read(tmp_path: Path, membership: str, files: dict[str, str], expected: int | None) -> None:
    assert cpu_quota_m(*hierarchy(tmp_path, membership, files)) == expected


def test_a_kernel_without_cgroups_has_no_answer(tmp_path: Path) -> None:
    assert cpu_quota_m(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("limit_m", "quota_m", "threads"),
    [("", 1500, "2"), ("3000", 1500, "2"), ("1000", 4000, "1"), ("2000", None, "2"), ("", None, "8"), ("", 1, "1")],
)
def test_a_limit_that_the_template_does_not_have_decides_how_many_threads(
    limit_m: str, quota_m: int | None, threads: str
) -> None:
    """A LimitRange of the namespace adds it after the template was read."""
    added = thread_variables({"UNDERSTUDY_CPU_LIMIT_M": limit_m}, 8, quota_m)
    assert set(added.values()) == {threads}
